"""What the Actors page shows, read from the store: one look serves everybody who asks in a second.

Looking costs the actors nothing: rates come from the positions that they settle anyway, memory from
what their nodes say every few seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import directory, logs, lookup, registry, routing, vitals
from ..directory import ActorRecord
from ..store import Store
from . import rows

__all__ = ["Board", "Look"]

#: Seconds for which one look is good.
FRESH_SECONDS = 1.0
#: Seconds between two looks beyond which their difference says nothing of the present rate.
RATE_SECONDS = 15.0
#: Printed lines on the page of one actor.
LINES = 100

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """A cluster at one moment; ``when`` on the clock of `time.monotonic`."""

    when: float = float("-inf")
    context: rows.Context = field(default_factory=rows.Context)
    actors: Mapping[str, Row] = field(default_factory=dict)
    nodes: list[Row] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)


class Board:
    """Looks at a cluster, and remembers the last look. Safe for several threads.

    ``keeps``: seconds for which an actor that has ended stays in the list.
    """

    def __init__(
        self, store: Store, *, keeps: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._keeps = keeps
        self._clock = clock
        self._lock = threading.Lock()
        self._last = Look()

    def look(self) -> Look:
        """Return the cluster as it was a second ago at most.

        Raises:
            StoreUnreachableError: no answer. StoreError: the store refused to tell.
        """
        with self._lock:
            if self._clock() - self._last.when >= FRESH_SECONDS:
                self._last = self._look()
            return self._last

    def actor(self, actor_id: str) -> Row | None:
        """Return the row of an actor, also of one that died of late; None where it is unknown.

        Raises:
            StoreUnreachableError: no answer. StoreError: the store refused to tell.
        """
        look = self.look()
        if actor_id in look.actors:
            return look.actors[actor_id]
        record = lookup.record_of(self._store, actor_id)
        return rows.actor_row(record, 0, 0, look.context) if record is not None else None

    def details(self, row: Row) -> Row:
        """Return what only the page of one actor shows, its last printed lines among it.

        Raises:
            StoreUnreachableError: no answer. StoreError: the store refused to tell.
        """
        keys = routing.ActorKeys(row["queue"], row["id"])
        sizes = self._store.batch([
            ("STRLEN", keys.state), ("LLEN", keys.journal), ("HLEN", keys.callers),
            ("SCARD", keys.tokens), ("HLEN", keys.reminders),
        ])  # fmt: skip
        names = ("state_bytes", "journal_calls", "callers", "handles", "reminders")
        lines = logs.tail(self._store, row["id"], LINES)
        return {**row, **dict(zip(names, sizes, strict=True)), "lines": lines}

    def lengths(self, queues: Sequence[str]) -> dict[str, int]:
        """Return how many calls are in queues, at this moment.

        Raises:
            StoreUnreachableError: no answer. StoreError: the store refused to tell.
        """
        found = self._store.batch(("LLEN", queue) for queue in queues)
        return dict(zip(queues, found, strict=True))

    # -- one look --------------------------------------------------------------------------

    def _look(self) -> Look:
        store, now = self._store, self._clock()
        nodes = registry.records(store)
        told = vitals.published(store, [node.node_id for node in nodes])
        context = rows.Context.of(nodes, told)
        listed = store.hash(routing.ACTORS)
        found = self._read({**directory.just_buried(store, self._keeps), **listed}, context)
        self._rate(found, now)
        shared = [routing.shared_queue(need) for need in store.hash(routing.NEEDS)]
        queues = sorted({*listed.values(), *shared})
        return Look(now, context, found, [rows.node_row(node) for node in nodes], queues)

    def _read(self, listed: Mapping[str, str], context: rows.Context) -> dict[str, Row]:
        """Read the records of actors, and how many calls wait in and out of line."""
        keys = [routing.ActorKeys(queue, actor_id) for actor_id, queue in listed.items()]
        replies = self._store.batch(
            command
            for each in keys
            for command in (
                ("HMGET", each.meta, *rows.FIELDS), ("LLEN", each.queue), ("HLEN", each.parked),
            )
        )  # fmt: skip
        found = {}
        for number, each in enumerate(keys):
            values, waiting, parked = replies[3 * number : 3 * number + 3]
            record = ActorRecord(each.actor_id, rows.meta_of(values))
            if record.meta.get("st"):
                found[each.actor_id] = rows.actor_row(record, waiting, parked, context)
        return found

    def _rate(self, found: Mapping[str, Row], now: float) -> None:
        """Add the calls per second since the last look."""
        since = now - self._last.when
        for actor_id, row in found.items():
            before = self._last.actors.get(actor_id)
            if before is not None and since <= RATE_SECONDS and row["state"] != "DEAD":
                row["rate"] = round(max(0, row["calls"] - before["calls"]) / since, 1)
