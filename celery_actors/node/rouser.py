"""What wakes actors beside their callers: due reminders, and calls of plain Celery clients.

Every node looks, each tick; who comes second finds nothing left to do.
"""

from __future__ import annotations

from .. import routing
from ..code import CODE_SECONDS
from ..store import Store

__all__ = ["Rouser"]

#: Passive actors that one tick looks at: a thousand of them are seen in ten ticks.
SWEPT = 100
#: Reminders that one script sends; there are further ones as long as it finds so many.
RUNG = 100


class Rouser:
    """One node's part in it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursor = "0"

    def look(self) -> None:
        """Send the calls of due reminders; wake passive actors whose queue is not empty."""
        scripts = self._store.scripts
        scripts.ring(routing.REMINDERS, RUNG)
        names = [routing.PASSIVE, routing.ACTORS]
        self._cursor, _ = scripts.sweep(names, self._cursor, SWEPT, CODE_SECONDS)
