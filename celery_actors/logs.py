"""What workers have printed, from any machine: the last lines of an actor or a node, and the next.

An actor has a log of its own, which goes where it goes and is there for a day after its death.
What functions print is in the log of the node that they run on. Nodes write both, in batches.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from . import directory, lookup, routing
from .assignment import LogBatch
from .errors import NotFoundError
from .store import Store

__all__ = ["Log", "LogLine", "follow", "last_lines", "log_of", "tail"]

#: Seconds for which one look at a log waits for more.
_LOOK_SECONDS = 1.0
#: Before the first entry of a stream.
_BEGIN = "0-0"


class LogLine(NamedTuple):
    """One printed line."""

    at: float  # seconds since 1970, by the store's clock
    label: str
    pid: int
    node: str  # the host
    stream: int  # 1 standard output, 2 standard error
    text: str

    def __str__(self) -> str:
        return f"({self.label} pid={self.pid}) {self.text}"


#: Streams of a log, and the entries up to which they have been read.
Log = dict[str, str]


def log_of(store: Store, name: str, namespace: str | None = None) -> Log:
    """Return the log of an actor (its name or id) or of a node (its id or host).

    A node's has what its functions print and its actors.

    Raises:
        NotFoundError: there is neither; or several.
    """
    try:
        return {lookup.find_actor(store, name, namespace).keys.log: _BEGIN}
    except NotFoundError as no_actor:
        try:
            node = lookup.find_node(store, name)
        except NotFoundError as no_node:
            raise NotFoundError(f"{no_actor}; and {no_node}") from None
    return _log_of_node(store, node.node_id)


def _log_of_node(store: Store, node_id: str) -> Log:
    here = (actor for actor in directory.actors(store) if actor.incarnation == node_id)
    keys = [routing.node_log_key(node_id), *(actor.keys.log for actor in here)]
    return dict.fromkeys(keys, _BEGIN)


def tail(store: Store, actor_id: str, lines: int = 100) -> list[str]:
    """Return the last lines that an actor has printed, oldest first; none where it is unknown."""
    record = lookup.record_of(store, actor_id)
    if record is None:
        return []
    return [line.text for line in last_lines(store, {record.keys.log: _BEGIN}, lines)]


def last_lines(store: Store, log: Log, count: int) -> list[LogLine]:
    """Return the last lines of a log, oldest first; from then on ``follow`` goes on."""
    found = []
    for key in log:
        entries = store.newest(key, max(1, count))
        if entries:
            log[key] = entries[-1][0]
        found.append([line for entry in entries for line in _lines(*entry)])
    merged = list(heapq.merge(*found, key=lambda line: line.at))
    return merged[-count:] if count else []


def follow(
    store: Store, log: Log, goes_on: Callable[[], bool], look: Callable[[], Sequence[str]] = tuple
) -> Iterator[LogLine]:
    """Yield what is printed from now on, about as it comes, while ``goes_on`` says so.

    ``look`` is asked between two waits for streams that have joined the log: they are read from
    their beginnings.
    """
    while goes_on():
        for key, entries in store.later(log, _LOOK_SECONDS).items():
            log[key] = entries[-1][0]
            for entry in entries:
                yield from _lines(*entry)
        for key in look():
            log.setdefault(key, _BEGIN)


def _lines(entry: str, fields: dict[str, str]) -> list[LogLine]:
    at = int(entry.partition("-")[0]) / 1000
    batch = msgspec.json.decode(fields["b"], type=LogBatch)
    return [
        LogLine(at, batch.label, batch.pid, batch.node, batch.stream, text) for text in batch.lines
    ]
