"""What is told of a call: short, safe, and never more than is wanted."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from celery_actors.broker.call_events import CallNote, encode_events, note_of
from celery_actors.messages import Message, MessageTemplate, decode_body, decode_envelope
from celery_actors.messages import encode_body as body_of
from celery_actors.records import RaisedAt, failure_record, success_record
from celery_actors.serialization import Sealer

CALL_ID = "0123abcd-4567-4890-a123-000000000001"


class Clock:
    """Counts."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def forward(self) -> int:
        return next(self._numbers)


class Ties:
    """Keeps nothing alive."""

    def carry(self, things: Iterable[str], kind: str, name: str) -> list[str]:
        raise AssertionError(f"{list(things)}, {kind}, {name}")


def message(sealer: Sealer, *args: Any, **kwargs: Any) -> Message:
    """Return a call as a worker has decoded it; a tuple travels sealed."""
    template = MessageTemplate(task="Counter.add", queue="q", caller="c", job="j", origin="o")

    def encoded(value: Any) -> bytes:
        if type(value) is tuple:
            return sealer.seal(value, ("argument",), CALL_ID, "an argument")
        return msgspec.json.encode(value)

    body = body_of([*map(encoded, args)], {name: encoded(each) for name, each in kwargs.items()})
    raw = template.build(CALL_ID.encode(), 1, body)
    return decode_body(raw, decode_envelope(raw))


def result(value: Any, sealer: Sealer) -> bytes:
    return success_record(value, CALL_ID, sealer, "the result", Ties())


def events(note: CallNote) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(encode_events([note], "Counter-a@host", Clock()))
    assert [each["uuid"] for each in found] == [CALL_ID] * 3
    return found


def told(call: Message, record: bytes, *, shown: bool = True) -> tuple[str, str, str]:
    """Return the arguments, the keyword arguments and the result of a success."""
    note = note_of(call, record, (1.0, 3.5), succeeded=True, shown=shown)
    received, started, succeeded = events(note)
    assert [received["timestamp"], started["timestamp"], succeeded["timestamp"]] == [1.0, 1.0, 3.5]
    assert (received["name"], succeeded["runtime"]) == ("Counter.add", 2.5)
    return received["args"], received["kwargs"], succeeded["result"]


def test_plain_values_are_shown_as_python_writes_them(sealer: Sealer) -> None:
    call = message(sealer, 2, "a", [1, None], amount={"x": True})
    assert told(call, result({"sum": 3}, sealer)) == (
        "(2, 'a', [1, None])", "{'amount': {'x': True}}", "{'sum': 3}",
    )  # fmt: skip


def test_what_the_method_does_to_its_arguments_is_not_shown(sealer: Sealer) -> None:
    call = message(sealer, [1, 2])
    call.args[0].clear()
    assert told(call, result(None, sealer))[0] == "([1, 2],)"


def test_sealed_values_stay_closed(sealer: Sealer) -> None:
    call = message(sealer, (1, 2), 5, secret=("x",))
    assert told(call, result((3, 4), sealer)) == ("(…, 5)", "{'secret': …}", "…")


def test_long_values_are_shortened_and_very_long_ones_left_out(sealer: Sealer) -> None:
    args, kwargs, value = told(message(sealer, "a" * 200), result("b" * 200, sealer))
    assert [len(text) for text in (args, value)] == [80, 80]
    assert args.startswith("('aaa")
    assert args.endswith("a…")
    assert kwargs == "{}"
    assert told(message(sealer, "a" * 5000), result("b" * 5000, sealer)) == ("…", "…", "…")


def test_arguments_and_results_can_be_left_out_and_failures_are_shown_nevertheless(
    sealer: Sealer,
) -> None:
    call = message(sealer, 2, key="secret")
    assert told(call, result("secret", sealer), shown=False) == ("…", "…", "…")
    failure = failed(ValueError("no change"), sealer)
    *_, end = events(note_of(call, failure, (1.0, 2.0), succeeded=False, shown=False))
    assert end["exception"] == "ValueError('no change')"


def failed(error: Exception, sealer: Sealer) -> bytes:
    with pytest.raises(type(error)) as caught:
        raise error
    return failure_record(caught.value, CALL_ID, sealer, "Counter.add", RaisedAt(42), Ties())


def test_a_failure_carries_its_text_and_the_end_of_its_traceback(sealer: Sealer) -> None:
    record = failed(ValueError("no change", "x" * 600), sealer)
    *_, end = events(note_of(message(sealer), record, (1.0, 2.0), succeeded=False, shown=True))
    assert end["type"] == "task-failed"
    assert end["exception"].startswith("ValueError('no change', 'xxx")
    assert len(end["exception"]) == 500
    assert "test_call_events.py" in end["traceback"]
    long = failed(ValueError("line\n" * 10_000), sealer)
    *_, end = events(note_of(message(sealer), long, (1.0, 2.0), succeeded=False, shown=True))
    assert len(end["traceback"]) == 20_000
    assert end["traceback"].rstrip().endswith("line\nline")


def test_a_failure_without_a_record_is_a_failure(sealer: Sealer) -> None:
    *_, end = events(note_of(message(sealer), b"", (1.0, 2.0), succeeded=False, shown=True))
    assert (end["type"], end["exception"]) == ("task-failed", "Failed()")
