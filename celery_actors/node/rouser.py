"""What wakes actors beside their callers: due reminders, and calls of plain Celery clients.

Every node looks, each tick; who comes second finds nothing left to do. What actors are made from,
passive or not, stays in the store as long as nodes look.
"""

from __future__ import annotations

from collections.abc import Iterable

from .. import routing
from ..assignment import Assignment
from ..code import CODE_SECONDS
from ..store import Store

__all__ = ["Rouser"]

#: Passive actors that one tick looks at: a thousand of them are seen in ten ticks.
SWEPT = 100
#: Reminders that one tick sends at most, by each node.
RUNG = 100
#: Ticks after which what living actors are made from is kept for another while: an hour.
KEEP_TICKS = 3600


class Rouser:
    """One node's part in it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursor = "0"
        self._ticks = 0

    def look(self, present: Iterable[Assignment]) -> None:
        """Send the calls of due reminders; wake passive actors whose queue is not empty."""
        scripts = self._store.scripts
        scripts.ring(routing.REMINDERS, RUNG)
        names = [routing.PASSIVE, routing.ACTORS]
        self._cursor, _ = scripts.sweep(names, self._cursor, SWEPT, CODE_SECONDS)
        self._ticks += 1
        if self._ticks % KEEP_TICKS == 0:
            self._keep(present)

    def _keep(self, present: Iterable[Assignment]) -> None:
        made_from = set()
        for each in present:
            made_from |= {routing.code_key(each.meta.get(name, "")) for name in ("code", "traits")}
            made_from.add(routing.env_key(each.env))
        for key in made_from:
            self._store.run("EXPIRE", key, CODE_SECONDS)
