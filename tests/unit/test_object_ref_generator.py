"""A generator's bookkeeping: what was taken, what came, how it ends."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from celery_actors import ObjectRef, ObjectRefGenerator
from celery_actors.messages import Meta
from celery_actors.several import Several

CALL = "01234567-89ab-4cde-a123-456789abcdef"


class Table:
    """Stands where a process's table of references stands."""

    def dropped(self, ref: ObjectRef[Any]) -> None:
        pass


class Stored:
    """Stands where the table's part for several values stands: what the store has at the end."""

    def __init__(self) -> None:
        self.table: Any = Table()
        self.told: list[tuple[str, str, int]] = []
        self.woken = 0
        self.worker = ""

    def ref(self, number: int) -> ObjectRef[Any]:
        found: ObjectRef[Any] = ObjectRef(f"{CALL}.{number}", self.table, owned=True)
        found._meta, found.ready = Meta("SUCCESS", found.id), True
        return found

    def last(self, call: ObjectRef[Any], number: int) -> ObjectRef[Any] | None:
        if not call.failed:
            return None
        found: ObjectRef[Any] = ObjectRef(f"{CALL}.{number}", self.table, owned=True)
        found._meta, found.ready = call._meta, True
        return found

    def count(self, _call: ObjectRef[Any]) -> int:
        return 2

    def worker_of(self, _ref: ObjectRef[Any]) -> str:
        return self.worker

    def tell(self, channel: str, call_id: str, taken: int) -> None:
        self.told.append((channel, call_id, taken))

    def wake_waiting(self) -> None:
        self.woken += 1


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def call(stored: Stored) -> ObjectRef[Any]:
    return ObjectRef(CALL, stored.table, owned=True)


def generator_of(
    call: ObjectRef[Any], stored: Stored, *, limited: bool = False
) -> ObjectRefGenerator[Any]:
    return ObjectRefGenerator(call, stored, limited=limited)  # type: ignore[arg-type]


def end(call: ObjectRef[Any], status: str) -> None:
    call._meta, call.ready = Meta(status, call.id), True
    for callback in call._callbacks or ():
        callback(call)


def test_values_are_given_in_order_however_they_come(call: ObjectRef[Any], stored: Stored) -> None:
    generator = generator_of(call, stored)
    assert generator.admit(stored.ref(2), 2)
    assert not generator.ready
    assert generator.missing() == 1
    assert generator.admit(stored.ref(1), 1)
    assert generator.missing() == 3
    end(call, "SUCCESS")
    assert [ref.id for ref in generator] == [f"{CALL}.1", f"{CALL}.2"]
    assert generator.missing() is None


def test_a_value_that_came_before_is_not_taken_in(call: ObjectRef[Any], stored: Stored) -> None:
    generator = generator_of(call, stored)
    assert generator.admit(stored.ref(1), 1)
    assert generator.admit(stored.ref(3), 3)
    assert not generator.admit(stored.ref(1), 1)
    assert not generator.admit(stored.ref(3), 3)
    next(generator)
    assert not generator.admit(stored.ref(1), 1)


def test_a_failure_is_the_last_reference(call: ObjectRef[Any], stored: Stored) -> None:
    generator = generator_of(call, stored)
    generator.admit(stored.ref(1), 1)
    end(call, "FAILURE")
    assert [ref.failed for ref in generator] == [False, True]
    assert list(generator) == []
    assert generator.is_finished()


def test_a_generator_is_finished_when_everything_is_taken(
    call: ObjectRef[Any], stored: Stored
) -> None:
    generator = generator_of(call, stored)
    generator.admit(stored.ref(1), 1)
    generator.admit(stored.ref(2), 2)
    end(call, "SUCCESS")
    finished = []
    for _ in range(2):
        finished.append(generator.is_finished())
        next(generator)
    assert [*finished, generator.is_finished()] == [False, False, True]


def test_whoever_waits_is_called_once_for_a_value_and_for_the_end(
    call: ObjectRef[Any], stored: Stored
) -> None:
    generator = generator_of(call, stored)
    heard: list[Any] = []
    generator._callbacks = [heard.append]
    generator.admit(stored.ref(1), 1)
    generator.admit(stored.ref(2), 2)
    assert heard == [generator]
    generator._callbacks = [heard.append]
    end(call, "SUCCESS")
    assert heard == [generator, generator]
    assert stored.woken == 2


def test_the_worker_of_a_limited_generator_hears_of_every_value_taken(
    call: ObjectRef[Any], stored: Stored
) -> None:
    generator = generator_of(call, stored, limited=True)
    for number in (1, 2, 3):
        generator.admit(stored.ref(number), number)
    next(generator)
    assert stored.told == []  # the worker is not known
    assert generator.asked("channel") == 1
    next(generator)
    stored.worker = "another"  # it runs again elsewhere
    next(generator)
    assert stored.told == [("channel", CALL, 2), ("another", CALL, 3)]


def test_the_end_of_a_call_whose_generator_was_dropped_is_ignored(
    call: ObjectRef[Any], stored: Stored
) -> None:
    generator_of(call, stored)
    end(call, "SUCCESS")
    assert stored.woken == 0


def test_a_generator_cannot_be_pickled(call: ObjectRef[Any], stored: Stored) -> None:
    with pytest.raises(TypeError, match="Pass the references"):
        pickle.dumps(generator_of(call, stored))


def test_a_generator_shows_its_call(call: ObjectRef[Any], stored: Stored) -> None:
    shown = repr(generator_of(call, stored))
    assert shown == f"ObjectRefGenerator({CALL.replace('-', '')})"


def test_what_a_call_has_is_counted_by_its_record(call: ObjectRef[Any]) -> None:
    assert Several.count(call) == 0
    call._meta, call.ready = Meta("SUCCESS", CALL), True
    assert Several.count(call) == 0


def test_a_value_of_several_names_its_call(stored: Stored) -> None:
    one, two = stored.ref(1), stored.ref(2)
    assert one.task_id() == two.task_id() == CALL
    assert one.hex() != two.hex()
    assert one.hex().startswith(CALL.replace("-", ""))
    assert int(two.hex(), 16) - int(one.hex(), 16) == 1
