"""The checks of `get`, `put` and `wait` that need no cluster, and references themselves."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import celery_actors
from celery_actors import ObjectRef, runtime
from celery_actors.errors import NotInitializedError
from celery_actors.messages import Meta


class Recorder:
    """Stands where a process's runtime and results stand, and knows what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.dropped_ids: list[str] = []
        self.results = self

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[str]:
        self.asked.append(timeout)
        return [ref.id for ref in refs]

    def put(self, value: Any) -> Any:
        return ("stored", value)

    def wait(
        self,
        refs: Sequence[ObjectRef[Any]],
        needed: int,
        timeout: float | None,
        *,
        fail_fast: bool,
    ) -> bool:
        self.asked.append((len(refs), needed, timeout, fail_fast))
        return True

    def dropped(self, ref: ObjectRef[Any]) -> None:
        self.dropped_ids.append(ref.id)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A runtime for this test; without it, the process is in no cluster."""
    found = Recorder()
    runtime.set_current(found)  # type: ignore[arg-type] # has what these tests reach
    yield found
    runtime.set_current(None)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is in no cluster and will not join one by itself."""
    runtime.set_current(None)
    monkeypatch.setattr(runtime, "auto_init", None)


def refs_of(recorder: Recorder, count: int) -> list[ObjectRef[Any]]:
    return [ObjectRef(f"id-{n}", recorder, owned=False) for n in range(count)]  # type: ignore[arg-type]


def finish(ref: ObjectRef[Any], status: str = "SUCCESS") -> None:
    ref._meta, ref.ready = Meta(status), True


# -- get -------------------------------------------------------------------------------------


def test_get_of_one_reference_gives_one_value(recorder: Recorder) -> None:
    [ref] = refs_of(recorder, 1)
    assert celery_actors.get(ref, timeout=3) == "id-0"
    assert recorder.asked == [3]


def test_get_of_a_list_gives_values_in_order_also_of_the_same_reference(recorder: Recorder) -> None:
    one, two = refs_of(recorder, 2)
    assert celery_actors.get([two, one, two]) == ["id-1", "id-0", "id-1"]


def test_get_of_nothing_needs_no_cluster(alone: None) -> None:
    assert celery_actors.get([]) == []


@pytest.mark.parametrize(
    "refs", [7, "id", None, (), {}, {1}, (x for x in "ab")], ids=lambda refs: type(refs).__name__
)
def test_get_takes_a_reference_or_a_list(refs: Any) -> None:
    with pytest.raises(ValueError, match=r"an ObjectRef or a list of them, not \w+$"):
        celery_actors.get(refs)


def test_get_names_what_is_no_reference_in_a_list(recorder: Recorder) -> None:
    with pytest.raises(TypeError, match=r"list of ObjectRef, and it holds a int: 7$"):
        celery_actors.get([*refs_of(recorder, 1), 7])  # type: ignore[arg-type]
    assert not recorder.asked


def test_get_shows_only_the_start_of_a_long_value() -> None:
    with pytest.raises(TypeError) as caught:
        celery_actors.get(["x" * 10_000])  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_a_negative_timeout_is_refused(recorder: Recorder) -> None:
    refs = refs_of(recorder, 1)
    with pytest.raises(ValueError, match="timeout must not be negative, got -1"):
        celery_actors.get(refs, timeout=-1)
    with pytest.raises(ValueError, match="timeout must not be negative, got -1"):
        celery_actors.wait(refs, timeout=-1)


def test_get_outside_a_cluster_says_what_to_call(alone: None) -> None:
    refs = refs_of(Recorder(), 1)
    with pytest.raises(NotInitializedError, match=r"celery_actors\.init\(\)"):
        celery_actors.get(refs)


# -- put -------------------------------------------------------------------------------------


def test_put_passes_a_value_on(recorder: Recorder) -> None:
    assert celery_actors.put(7) == ("stored", 7)


def test_put_of_a_reference_is_refused(recorder: Recorder) -> None:
    with pytest.raises(TypeError, match="pass the reference itself"):
        celery_actors.put(refs_of(recorder, 1)[0])


# -- wait ------------------------------------------------------------------------------------


def test_wait_keeps_the_order_and_gives_no_more_than_asked(recorder: Recorder) -> None:
    refs = refs_of(recorder, 4)
    for ref in (refs[3], refs[1], refs[2]):
        finish(ref)
    ready, rest = celery_actors.wait(refs, num_returns=2, timeout=1)
    assert ready == [refs[1], refs[2]]
    assert rest == [refs[0], refs[3]]
    assert recorder.asked == [(4, 2, 1, False)]


def test_a_failed_call_is_ready(recorder: Recorder) -> None:
    refs = refs_of(recorder, 2)
    finish(refs[1], "FAILURE")
    assert celery_actors.wait(refs) == ([refs[1]], [refs[0]])


def test_wait_for_nothing_needs_no_cluster(alone: None) -> None:
    assert celery_actors.wait([]) == ([], [])


def test_wait_takes_a_list(recorder: Recorder) -> None:
    [ref] = refs_of(recorder, 1)
    for refs in (ref, (ref,), None):
        with pytest.raises(TypeError, match=r"wait\(\) takes a list of ObjectRef, not"):
            celery_actors.wait(refs)  # type: ignore[arg-type]


def test_wait_names_what_is_no_reference_in_a_list() -> None:
    with pytest.raises(TypeError, match="and it holds int"):
        celery_actors.wait([7])  # type: ignore[type-var]


def test_wait_takes_each_reference_once(recorder: Recorder) -> None:
    [ref] = refs_of(recorder, 1)
    with pytest.raises(ValueError, match="duplicates"):
        celery_actors.wait([ref, ref])


@pytest.mark.parametrize("number", [0, -1, 3])
def test_wait_cannot_return_an_impossible_number(recorder: Recorder, number: int) -> None:
    with pytest.raises(ValueError, match=f"num_returns must be 1 to 2 .* got {number}"):
        celery_actors.wait(refs_of(recorder, 2), num_returns=number)


@pytest.mark.parametrize("number", [1.5, "1", None])
def test_the_number_to_wait_for_is_an_integer(recorder: Recorder, number: Any) -> None:
    with pytest.raises(TypeError):
        celery_actors.wait(refs_of(recorder, 2), num_returns=number)
    assert not recorder.asked


# -- references ------------------------------------------------------------------------------


def test_references_of_one_value_are_equal(recorder: Recorder) -> None:
    [one] = refs_of(recorder, 1)
    [again] = refs_of(recorder, 1)
    assert one == again
    assert len({one, again}) == 1
    assert one != "id-0"


def test_a_reference_shows_its_digits(recorder: Recorder) -> None:
    ref: ObjectRef[Any] = ObjectRef("0123-abcd", recorder, owned=False)  # type: ignore[arg-type]
    assert ref.hex() == "0123abcd"
    assert repr(ref) == "ObjectRef(0123abcd)"
    assert ref.id == ref.task_id() == "0123-abcd"


def test_a_reference_is_ready_when_its_value_or_an_error_is_here(recorder: Recorder) -> None:
    good, bad, gone, waiting = refs_of(recorder, 4)
    finish(good)
    finish(bad, "FAILURE")
    gone._error, gone.ready = RuntimeError("lost"), True
    refs = [good, bad, gone, waiting]
    assert [ref.ready for ref in refs] == [True, True, True, False]
    assert [ref.failed for ref in refs] == [False, True, True, False]


@pytest.mark.parametrize(("values", "heard"), [([7], 7), ([], IndexError)])
def test_a_callback_gets_the_value_or_the_error(values: list[Any], heard: Any) -> None:
    class Table(Recorder):
        def notify(self, ref: ObjectRef[Any], deliver: Any) -> None:
            deliver(ref)

        def value(self, _ref: ObjectRef[Any]) -> Any:
            return values[0]

    got: list[Any] = []
    ref: ObjectRef[Any] = ObjectRef("id", Table(), owned=False)  # type: ignore[arg-type]
    ref._on_completed(got.append)
    assert [found if values else type(found) for found in got] == [heard]


def test_the_last_holder_tells_the_runtime(recorder: Recorder) -> None:
    refs = refs_of(recorder, 2)
    del refs[0]
    gc.collect()
    assert recorder.dropped_ids == ["id-0"]
