"""What workers have printed, from any machine: the last lines of an actor or a node, and the next.

An actor has a log of its own, which goes where it goes and is there for a day after its death.
What functions print is in the log of the node that they run on. Nodes write both, in batches.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from . import directory, lookup, routing
from .assignment import LogBatch
from .errors import NotFoundError
from .store import Store
from .unreadable import UNREADABLE

__all__ = ["Log", "LogLine", "log_of", "tail"]

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


class Log:
    """The log of an actor; or of a node: what its functions print, and the actors that are there.

    Args:
        store: of the cluster.
        actor: whose it is; None: the node's.
        node_id: the node.
    """

    def __init__(
        self, store: Store, actor: directory.ActorRecord | None = None, node_id: str = ""
    ) -> None:
        self._store = store
        self.node_id = node_id
        key = actor.keys.log if actor is not None else routing.node_log_key(node_id)
        self._read = {key: _BEGIN}  # stream -> the entry up to which it has been read

    def last(self, count: int) -> list[LogLine]:
        """Return the last lines, oldest first; ``more`` goes on from there."""
        self._look_around()
        found = []
        for key in self._read:
            entries = self._store.newest(key, max(1, count))
            if entries:
                self._read[key] = entries[-1][0]
            found.append([line for entry in entries for line in _lines(*entry)])
        merged = list(heapq.merge(*found, key=lambda line: line.at))
        return merged[-count:] if count else []

    def more(self, seconds: float = _LOOK_SECONDS) -> list[LogLine]:
        """Wait for what is printed next, so long at most; return it."""
        found = []
        for key, entries in self._store.later(self._read, seconds).items():
            self._read[key] = entries[-1][0]
            found.append([line for entry in entries for line in _lines(*entry)])
        self._look_around()
        return list(heapq.merge(*found, key=lambda line: line.at))

    def follow(self) -> Iterator[LogLine]:
        """Yield what is printed from now on, about as it comes, without an end."""
        while True:
            yield from self.more()

    def _look_around(self) -> None:
        """Take in the logs of actors that have come to the node."""
        if self.node_id:
            for actor in directory.actors(self._store):
                if actor.incarnation == self.node_id:
                    self._read.setdefault(actor.keys.log, _BEGIN)


def log_of(store: Store, name: str, namespace: str | None = None) -> Log:
    """Return the log of an actor (its name or id) or of a node (its id or host).

    Raises:
        NotFoundError: there is neither; or several.
    """
    try:
        return Log(store, lookup.find_actor(store, name, namespace))
    except NotFoundError as no_actor:
        try:
            return Log(store, node_id=lookup.find_node(store, name).node_id)
        except NotFoundError as no_node:
            raise NotFoundError(f"{no_actor}; and {no_node}") from None


def tail(store: Store, actor_id: str, lines: int = 100) -> list[str]:
    """Return the last lines that an actor has printed, oldest first; none where it is unknown."""
    record = lookup.record_of(store, actor_id)
    return [line.text for line in Log(store, record).last(lines)] if record is not None else []


def _lines(entry: str, fields: dict[str, str]) -> list[LogLine]:
    at = int(entry.partition("-")[0]) / 1000
    try:
        batch = msgspec.json.decode(fields["b"], type=LogBatch)
    except (KeyError, *UNREADABLE):
        return []  # no node wrote that
    return [
        LogLine(at, batch.label, batch.pid, batch.node, batch.stream, text) for text in batch.lines
    ]
