"""Serialisers that a user registers for classes that cannot be pickled, or should not be."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from types import CodeType
from typing import Any

import pytest

from celery_actors import pickling
from celery_actors.code import dump_code, load_code
from celery_actors.pickling import deregister_serializer, dumps, register_serializer
from celery_actors.serialization import Sealer

CONTEXT = ("argument", "0")


class Gauge:
    """Holds a lock, as clients of other systems do."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.lock = threading.Lock()


class Meter(Gauge):
    pass


@pytest.fixture
def registered() -> Iterator[None]:
    register_serializer(Gauge, serializer=lambda gauge: gauge.level, deserializer=Gauge)
    yield
    deregister_serializer(Gauge)


def there_and_back(value: Any, sealer: Sealer) -> Any:
    raw = sealer.seal(value, CONTEXT, "call-1.0")
    return sealer.open(raw, CONTEXT)


def test_a_registered_class_travels_in_values(registered: None, sealer: Sealer) -> None:
    found = there_and_back({"deep": [Gauge(3)]}, sealer)["deep"][0]
    assert type(found) is Gauge
    assert found.level == 3


def test_a_registered_class_travels_in_code(registered: None, sealer: Sealer) -> None:
    gauge = Gauge(4)
    digest, record = dump_code(lambda: gauge.level, sealer, "the function")
    assert load_code(digest, {digest: record}.get, sealer)() == 4


def test_subclasses_are_not_covered(registered: None) -> None:
    with pytest.raises(TypeError, match="lock"):
        dumps(Meter(1))


def test_the_last_registration_holds_and_can_be_taken_back(registered: None) -> None:
    register_serializer(Gauge, serializer=lambda _: 9, deserializer=lambda level: Gauge(level * 2))
    assert pickle.loads(dumps(Gauge(1))).level == 18
    deregister_serializer(Gauge)
    deregister_serializer(Gauge)
    with pytest.raises(TypeError, match="lock"):
        dumps(Gauge(1))


def test_plain_pickle_knows_nothing_of_it(registered: None) -> None:
    with pytest.raises(TypeError, match="lock"):
        pickle.dumps(Gauge(1))


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(TypeError, match="takes a class, not Gauge"):
        register_serializer(Gauge(1), serializer=str, deserializer=str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the deserializer of Gauge must be a function, not int"):
        register_serializer(Gauge, serializer=str, deserializer=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["/home/me/program.py", "<dynamic-code>"])
def test_a_traceback_names_the_file_of_a_function_that_was_sent(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def fail():\n    raise ValueError\n", place, "exec"), space)
    reduce = pickling._reduce_code

    def without_file(code: CodeType) -> tuple[Any, ...]:
        """Take a code object apart as cloudpickle does from version 3.1.3 on."""
        make, words, *rest = reduce(code)
        words = tuple("<dynamic-code>" if word == place else word for word in words)
        return (make, words, *rest)

    monkeypatch.setattr(pickling, "_reduce_code", without_file)
    sent = pickle.loads(dumps(space["fail"]))

    assert sent.__code__.co_filename == place
