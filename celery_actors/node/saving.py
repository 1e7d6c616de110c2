"""Which waiting request comes first, and what is kept free for one that was passed over.

A request waits in its queue in the order of its kind. Between kinds the one that has waited longest
here comes first; one that was passed over for a second, because smaller ones took what came free,
has what it lacks kept for it. One node does so for a kind at a time (``save_for.lua``), so the
others go on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from .. import routing
from ..need import Need
from ..placement import Ledger
from ..store import Store, Waiting

__all__ = ["Saving"]

#: Seconds for which a request may be passed over.
PATIENCE_SECONDS = 1.0
#: Milliseconds for which a node that keeps resources free need not say so again: three ticks.
_HOLD_MS = 3_000


class Saving:
    """The patience of what waits at one node."""

    def __init__(self, store: Store, incarnation: str) -> None:
        self._store = store
        self._incarnation = incarnation
        self._since: dict[str, float] = {}  # kind -> when it was passed over first
        self._label = ""
        self._need: Need | None = None

    def look(self, needs: Mapping[str, Need], group: tuple[float, Need] | None) -> None:
        """Decide for whom to save; ``group``: a placement group's share here, and since when."""
        self._since = {label: when for label, when in self._since.items() if label in needs}
        self._label, self._need = "", None
        now = time.monotonic()
        waiting = sorted((when, label) for label, when in self._since.items())
        if group is not None and (not waiting or group[0] < waiting[0][0]):
            self._need = group[1]
            return
        for when, label in waiting:
            if now - when < PATIENCE_SECONDS:
                return
            key = routing.saving_key(label)
            if self._store.scripts.save_for(key, self._incarnation, _HOLD_MS):
                self._label, self._need = label, needs[label]
                return

    def in_order(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        """Return the kinds, those that were passed over longest first."""
        return sorted(waiting, key=lambda each: self._since.get(each.label, float("inf")))

    def allows(self, label: str, need: Need, ledger: Ledger) -> bool:
        """Tell whether a request may be met now, or would take what is saved for another."""
        return self._need is None or label == self._label or ledger.leaves(need, self._need)

    def cpus(self, ledger: Ledger) -> int:
        """Return the CPU units that are saved, of those that are free."""
        return min(self._need.cpus, max(0, ledger.free.get("CPU", 0))) if self._need else 0

    def passed_over(self, label: str) -> None:
        """Note that a request had to wait."""
        self._since.setdefault(label, time.monotonic())

    def served(self, label: str) -> None:
        """Note that a request was met: the next of its kind begins to wait now."""
        self._since.pop(label, None)
        if label and label == self._label:
            self._label, self._need = "", None
            self._store.run("UNLINK", routing.saving_key(label))

    forget = served
