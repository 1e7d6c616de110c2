"""What the Actors page shows, read from the store: one look serves everybody who asks in a second.

Looking costs the actors nothing: rates come from the positions that they settle anyway, memory from
what their nodes say every few seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import directory, registry, routing, vitals
from ..directory import ActorRecord
from ..store import Store
from . import rows

__all__ = ["Board", "Look"]

#: Seconds for which one look is good.
FRESH_SECONDS = 1.0
#: Seconds between two looks beyond which their difference says nothing of the present rate.
RATE_SECONDS = 15.0
#: Ended actors whose pages still open.
REMEMBERED = 1_000

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """A cluster at one moment; ``when`` on the clock of `time.monotonic`."""

    when: float = float("-inf")
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
        self._ended: dict[str, Row] = {}

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
        """Return the row of an actor, also of one that ended a while ago; None where unknown."""
        look = self.look()
        return look.actors.get(actor_id) or self._ended.get(actor_id)

    def details(self, row: Row) -> Row:
        """Return what only the page of one actor shows.

        Raises:
            StoreUnreachableError: no answer. StoreError: the store refused to tell.
        """
        keys = routing.ActorKeys(row["queue"], row["id"])
        sizes = self._store.batch([
            ("STRLEN", keys.state), ("LLEN", keys.journal), ("HLEN", keys.callers),
            ("SCARD", keys.tokens), ("HLEN", keys.reminders),
        ])  # fmt: skip
        names = ("state_bytes", "journal_calls", "callers", "handles", "reminders")
        return {**row, **dict(zip(names, sizes, strict=True))}

    # -- one look --------------------------------------------------------------------------

    def _look(self) -> Look:
        store, now = self._store, self._clock()
        nodes = registry.records(store)
        listed = store.hash(routing.ACTORS)
        told = vitals.published(store, [node.node_id for node in nodes])
        context = rows.Context.of(nodes, told)
        found = {
            actor_id: rows.actor_row(record, waiting, parked, context)
            for actor_id, (record, waiting, parked) in self._read(listed).items()
        }
        self._note_ended(found, now)
        self._rate(found, now)
        shown = {
            actor_id: row
            for actor_id, row in self._ended.items()
            if now - row["ended"] < self._keeps and actor_id not in found
        }
        shared = [routing.shared_queue(need) for need in store.hash(routing.NEEDS)]
        return Look(
            now, {**found, **shown}, [rows.node_row(node) for node in nodes],
            sorted({*listed.values(), *shared}),
        )  # fmt: skip

    def _read(self, listed: Mapping[str, str]) -> dict[str, tuple[ActorRecord, int, int]]:
        """Read the records of actors, and how many calls wait in and out of line."""
        keys = {actor_id: routing.ActorKeys(queue, actor_id) for actor_id, queue in listed.items()}
        replies = iter(
            self._store.batch(
                command
                for each in keys.values()
                for command in (
                    ("HMGET", each.meta, *rows.FIELDS), ("LLEN", each.queue), ("HLEN", each.parked),
                )
            )
        )  # fmt: skip
        found = {}
        for actor_id in listed:
            values, waiting, parked = next(replies), next(replies), next(replies)
            meta = rows.meta_of(values)
            if meta.get("st"):
                found[actor_id] = (ActorRecord(actor_id, meta), waiting, parked)
        return found

    def _note_ended(self, found: Mapping[str, Row], now: float) -> None:
        """Keep those that were here at the last look, with the cause of their end."""
        for actor_id, before in self._last.actors.items():
            if actor_id in found or (before["state"] == "DEAD" and actor_id in self._ended):
                continue
            record = directory.find(self._store, actor_id, before["queue"])
            self._ended[actor_id] = {
                **before, "state": "DEAD", "ended": now, "rate": None, "queued": 0, "memory": None,
                "cpus": None, "cause": record.meta.get("cause", "") if record is not None else "",
            }  # fmt: skip
            if len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def _rate(self, found: Mapping[str, Row], now: float) -> None:
        """Add the calls per second since the last look."""
        since = now - self._last.when
        for actor_id, row in found.items():
            before = self._last.actors.get(actor_id)
            if before is not None and since <= RATE_SECONDS:
                row["rate"] = round(max(0, row["calls"] - before["calls"]) / since, 1)
