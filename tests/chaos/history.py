"""What happened, as JSON lines: one file for each process that took part.

A caller writes ``invoke`` before a call and ``ok``, ``fail`` or ``info`` after it: it has a result,
it was never sent or was cancelled, or nobody knows whether it ran. An actor writes ``born``,
``run`` and, with the state of an earlier process, ``woke``; the one who breaks things writes
``fault``, and who watches the store ``seen``. All read one monotonic clock, so times of different
processes can be compared.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Birth", "Call", "Event", "Run", "Writer", "append", "read_calls", "read_events"]

#: Outcomes of a call: a result, never sent or cancelled, unknown, none until the end of the run.
OK, FAIL, INFO, OPEN = "ok", "fail", "info", "open"
#: A call that an actor sent with its commit: it must run, and nobody waits for its result.
TOLD = "told"


class Event(NamedTuple):
    """One line."""

    process: str
    type: str
    actor: str
    method: str
    value: Any
    ns: int
    number: int = 0  # among the caller's calls to this actor, from 1; 0: no call


class Call(NamedTuple):
    """One call as its caller saw it."""

    caller: str
    number: int
    actor: str
    method: str
    operand: int
    invoked: int  # ns
    returned: int  # ns
    outcome: str
    value: Any  # the result, or the name of the error


class Run(NamedTuple):
    """One call as its actor ran it. ``ordinal`` counts the calls of one state, from 1."""

    incarnation: str
    ordinal: int
    caller: str
    number: int
    method: str
    operand: int
    result: Any
    ns: int


class Birth(NamedTuple):
    """One constructor that ran: the begin of a fresh state."""

    actor: str
    incarnation: str
    pid: int
    ns: int


class Writer:
    """Writes the events of one process."""

    def __init__(self, path: Path, process: str) -> None:
        self._file = path.open("w")
        self.process = process

    def write(
        self, kind: str, actor: str, method: str, value: Any, *, number: int = 0, ns: int = 0
    ) -> None:
        """Write one event, which happens now unless ``ns`` says when."""
        when = ns or time.monotonic_ns()
        self._file.write(_line(Event(self.process, kind, actor, method, value, when, number)))

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


def append(path: str, event: Event) -> None:
    """Add one event to a file at once: the process may be killed with its next instruction."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, _line(event).encode())
    finally:
        os.close(file)


def _line(event: Event) -> str:
    return json.dumps(event._asdict(), separators=(",", ":")) + "\n"


def read_events(path: Path) -> Iterator[Event]:
    """Return the events of a file; a last line that was cut short counts as not written."""
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield Event(**json.loads(line))


def read_calls(path: Path) -> tuple[list[Call], list[str]]:
    """Return the calls of one caller's file, and what is wrong with the file itself."""
    open_calls: dict[tuple[str, int], Event] = {}
    calls: list[Call] = []
    faults: list[str] = []
    for event in read_events(path):
        key = (event.actor, event.number)
        if event.type == "invoke":
            if key in open_calls:
                faults.append(f"{event.process} used number {event.number} twice for {event.actor}")
            open_calls[key] = event
        elif event.type in {OK, FAIL, INFO}:
            asked = open_calls.pop(key, None)
            if asked is None:
                faults.append(f"a second outcome, or one without a call: {event}")
                continue
            calls.append(_call(asked, event.type, event.value, event.ns))
    calls += [_call(asked, OPEN, "", 0) for asked in open_calls.values()]
    return calls, faults


def _call(asked: Event, outcome: str, value: Any, returned: int) -> Call:
    return Call(
        asked.process, asked.number, asked.actor, asked.method, asked.value, asked.ns, returned,
        outcome, value,
    )  # fmt: skip
