"""What watchers of events are told of a call: Celery's task events, with short and safe texts.

Plain JSON arguments and results are shown, shortened; what is sealed is never opened for this.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from celery.utils.time import utcoffset

from ..glimpse import Failure, failure_of, plain_result
from ..messages import Lineage, Message, arguments_in, lineage_of
from ..unreadable import UNREADABLE

__all__ = ["HIDDEN", "CallNote", "encode_events", "note_of"]

#: Stands for what is not shown.
HIDDEN = "…"
#: Characters of the arguments, of the keyword arguments and of the result that are shown.
TEXT_CHARACTERS = 80
#: Characters of an exception and of its traceback.
ERROR_CHARACTERS, TRACEBACK_CHARACTERS = 500, 20_000
#: Bytes of a message or a record that wait for the next batch of events.
KEPT_BYTES = 2048


class CallNote(NamedTuple):
    """A call that has ended. ``message`` and ``record``: as they were stored, or empty."""

    label: str
    call_id: str
    begun: float
    ended: float
    succeeded: bool
    lineage: Lineage
    message: bytes
    record: bytes


def note_of(
    message: Message, record: bytes, times: tuple[float, float], *, succeeded: bool, shown: bool
) -> CallNote:
    """Return what is kept of a call until its events are sent.

    The bytes, since the method may have changed its arguments. Large ones are not kept, and without
    ``shown`` no arguments and no results are: a failure always is.
    """
    small = shown and len(message.raw) <= KEPT_BYTES
    keeps = not succeeded or (shown and len(record) <= KEPT_BYTES)
    return CallNote(
        message.task, message.call_id, *times, succeeded, lineage_of(message.raw),
        message.raw if small else b"", record if keeps else b"",
    )  # fmt: skip


def encode_events(notes: Iterable[CallNote], hostname: str, clock: Any) -> str:
    """Return the received, started and succeeded or failed events of the calls, as JSON."""
    pid, offset = os.getpid(), utcoffset()
    events: list[dict[str, Any]] = []
    for note in notes:
        args, kwargs = _arguments(note.message)
        common = {"uuid": note.call_id, "hostname": hostname, "pid": pid, "utcoffset": offset}
        received = {
            "type": "task-received", "timestamp": note.begun, "name": note.label, "args": args,
            "kwargs": kwargs, "root_id": note.lineage.root_id or note.call_id,
            "parent_id": note.lineage.parent_id or None, "retries": 0, "eta": None,
            "expires": None, "clock": clock.forward(), **common,
        }  # fmt: skip
        started = {
            "type": "task-started", "timestamp": note.begun, "clock": clock.forward(), **common,
        }  # fmt: skip
        finished = {"timestamp": note.ended, "clock": clock.forward(), **common, **_end_of(note)}
        events += (received, started, finished)
    return msgspec.json.encode(events).decode()


def _end_of(note: CallNote) -> dict[str, Any]:
    if note.succeeded:
        return {
            "type": "task-succeeded", "result": _result(note.record),
            "runtime": note.ended - note.begun,
        }  # fmt: skip
    failure = failure_of(note.record) or Failure("Failed", (), None)
    return {
        "type": "task-failed", "exception": _shortened(failure.text, ERROR_CHARACTERS),
        "traceback": _end(failure.traceback or "", TRACEBACK_CHARACTERS),
    }  # fmt: skip


def _arguments(raw: bytes) -> tuple[str, str]:
    """Return positional and keyword arguments as texts."""
    if not raw:
        return HIDDEN, HIDDEN
    try:
        args, kwargs = arguments_in(raw)
    except (*UNREADABLE, ValueError):
        return HIDDEN, HIDDEN
    positional = _shortened(repr(tuple(map(_readable, args))), TEXT_CHARACTERS)
    if not kwargs:
        return positional, "{}"
    named = {name: _readable(value) for name, value in kwargs.items()}
    return positional, _shortened(repr(named), TEXT_CHARACTERS)


class _Closed:
    """Stands for a value that is not plain: a signed one, or a reference."""

    def __repr__(self) -> str:
        return HIDDEN


_CLOSED = _Closed()


def _readable(value: Any) -> Any:
    return _CLOSED if type(value) is dict and "__type__" in value else value


def _result(record: bytes) -> str:
    if not record:
        return HIDDEN
    try:
        value = plain_result(record)
    except (*UNREADABLE, ValueError):
        return HIDDEN
    return _shortened(repr(_readable(value)), TEXT_CHARACTERS)


def _shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + HIDDEN


def _end(text: str, characters: int) -> str:
    """Return the end of a text: where a traceback says what was raised."""
    return text if len(text) <= characters else HIDDEN + text[1 - characters :]
