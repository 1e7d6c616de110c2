"""Calls on a time line: Celery's task events as a trace for Perfetto and ``chrome://tracing``.

The format is Chrome's Trace Event Format: a process for each node, a thread for each worker, a
complete event for each call, and an arrow from a call to each call that it made.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Timeline"]

#: Calls that are remembered; older ones are forgotten first.
MOST_CALLS = 500_000
_STATES = {
    "task-succeeded": "SUCCESS", "task-failed": "FAILURE", "task-retried": "RETRY",
    "task-rejected": "REJECTED",
}  # fmt: skip


@dataclass(slots=True)
class _Call:
    """One call, as far as its events have come. Times are microseconds since 1970."""

    worker: str
    name: str = ""
    begun: int = 0
    ended: int = 0
    state: str = ""
    error: str = ""
    pid: int = 0
    root_id: str = ""
    parent_id: str = ""
    lane: int = 0


class Timeline:
    """Takes events in, gives the trace."""

    def __init__(self, most: int = MOST_CALLS) -> None:
        self._most = most
        self._calls: OrderedDict[str, _Call] = OrderedDict()

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of Celery's in; others than those of calls are nothing to us."""
        kind, call_id = event.get("type", ""), event.get("uuid")
        if not kind.startswith("task-") or kind == "task-sent" or not isinstance(call_id, str):
            return
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = _Call(str(event.get("hostname", "")))
            if len(self._calls) > self._most:
                self._calls.popitem(last=False)
        moment = round(float(event.get("timestamp", 0)) * 1e6)
        if kind == "task-received":
            call.name = str(event.get("name") or "")
            call.root_id = str(event.get("root_id") or "")
            call.parent_id = str(event.get("parent_id") or "")
        elif kind == "task-started":
            call.begun = moment
            call.pid = int(event.get("pid") or 0)
            call.worker = str(event.get("hostname", ""))
        elif kind in _STATES:
            call.ended = moment
            call.state = _STATES[kind]
            call.error = str(event.get("exception") or "")
            call.begun = call.begun or moment - round(float(event.get("runtime") or 0) * 1e6)

    def trace(self) -> list[dict[str, Any]]:
        """Return the trace events: names of nodes and workers first, then the calls in order."""
        calls = {i: call for i, call in list(self._calls.items()) if call.ended and call.begun}
        calls = dict(sorted(calls.items(), key=lambda item: item[1].begun))
        places = _Places()
        events = [_slice(i, call, *places.of(call)) for i, call in calls.items()]
        return [*places.names(), *events, *_arrows(calls, places)]


class _Places:
    """Numbers nodes and workers. Calls of a worker that overlap get lanes beside each other."""

    def __init__(self) -> None:
        self._nodes: dict[str, int] = {}
        self._lanes: dict[tuple[str, int], int] = {}  # (worker, lane) -> thread
        self._busy: dict[str, list[int]] = {}  # worker -> until when each lane is

    def of(self, call: _Call) -> tuple[int, int]:
        """Return process and thread of a call; calls are asked for in the order of their begin."""
        lanes = self._busy.setdefault(call.worker, [])
        call.lane = next((n for n, until in enumerate(lanes) if until <= call.begun), len(lanes))
        lanes[call.lane : call.lane + 1] = [call.begun + _length(call)]
        return self.again(call)

    def again(self, call: _Call) -> tuple[int, int]:
        """Return where a call was placed."""
        node = self._nodes.setdefault(call.worker.rpartition("@")[2], len(self._nodes) + 1)
        lane = self._lanes.setdefault((call.worker, call.lane), len(self._lanes) + 1)
        return node, lane

    def names(self) -> Iterator[dict[str, Any]]:
        """Give the events that name them."""
        for host, node in self._nodes.items():
            yield _named("process_name", f"node {host}", node, 0)
        order = {worker: number for number, worker in enumerate(self._busy)}
        for (worker, lane), thread in self._lanes.items():
            label, _, host = worker.rpartition("@")
            node = self._nodes[host]
            name = label if lane == 0 else f"{label} (at the same time, {lane + 1})"
            yield _named("thread_name", name, node, thread)
            yield {"ph": "M", "name": "thread_sort_index", "pid": node, "tid": thread,
                   "args": {"sort_index": order[worker] * 1_000 + lane}}  # fmt: skip


def _named(kind: str, name: str, pid: int, tid: int) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _length(call: _Call) -> int:
    """Return the microseconds of a call: one at least, also where a clock was set back."""
    return max(1, call.ended - call.begun)


def _slice(call_id: str, call: _Call, pid: int, tid: int) -> dict[str, Any]:
    args = {"call_id": call_id, "state": call.state, "worker": call.worker, "pid": call.pid,
            "root_id": call.root_id, "parent_id": call.parent_id, "error": call.error}  # fmt: skip
    event = {
        "ph": "X", "name": call.name or "?", "cat": "call", "ts": call.begun, "dur": _length(call),
        "pid": pid, "tid": tid, "args": {name: value for name, value in args.items() if value},
    }  # fmt: skip
    if call.state != "SUCCESS":
        event |= {"cat": "call,failed", "cname": "terrible"}
    return event


def _arrows(calls: Mapping[str, _Call], places: _Places) -> Iterator[dict[str, Any]]:
    """Give the arrows from calls to those that they made.

    Nobody notes when a call was sent; the arrow begins at the last moment at which it may have.
    """
    for number, call in enumerate(calls.values(), 1):
        parent = calls.get(call.parent_id)
        if parent is None:
            continue
        last = parent.begun + _length(parent) - 1
        for ph, end, moment in (
            ("s", parent, max(parent.begun, min(call.begun, last))), ("f", call, call.begun)
        ):  # fmt: skip
            pid, tid = places.again(end)
            yield {"ph": ph, "name": "calls", "cat": "calls", "id": number, "ts": moment,
                   "pid": pid, "tid": tid, **({"bp": "e"} if ph == "f" else {})}  # fmt: skip
