"""Which waiting request comes first, and what is kept free for one that was passed over.

A request waits in its queue in the order of its kind. Between kinds the one that has waited longest
here comes first; one that was passed over for a second, because smaller ones took what came free,
has what it lacks kept for it. One node does so for a kind at a time (``save_for.lua``), so the
others go on. Function calls end by themselves. Where actors are in the way, which may live for
ever, a node keeps free what it can for a while only, then lets others have it for longer, again and
again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from .. import routing
from ..need import Need
from ..placement import Ledger
from ..store import Store, Waiting

__all__ = ["GROUP", "Saving", "saves_after"]

#: Seconds for which a request may be passed over.
PATIENCE_SECONDS = 1.0
#: Where actors are in the way: seconds for which a node saves at first, and until it does so again.
#: Each round takes twice as long as the one before, so that no actor's life is too long for all.
SAVE_SECONDS = 10.0
ROUND_SECONDS = 60.0
#: Milliseconds for which a node that keeps resources free need not say so again: three ticks.
_HOLD_MS = 3_000
#: Stands for a placement group among the kinds.
GROUP = ""


class Saving:
    """The patience of what waits at one node."""

    def __init__(self, store: Store, incarnation: str, without_calls: Callable[[], Ledger]) -> None:
        self._store = store
        self._incarnation = incarnation
        self._without_calls = without_calls
        self._first: dict[str, float] = {}  # kind -> since when it waits to be looked at
        self._since: dict[str, float] = {}  # kind -> when it was passed over first
        self._saved = ""
        self._need: Need | None = None

    def look(self, needs: Mapping[str, Need], group: tuple[float, Need] | None) -> None:
        """Decide for whom to save; ``group``: a placement group's share here, and since when."""
        now = time.monotonic()
        self._first = {label: self._first.get(label, now) for label in needs}
        self._since = {label: when for label, when in self._since.items() if label in needs}
        self._need = None
        waiting = [(when, label, needs[label]) for label, when in self._since.items()]
        if group is not None:
            waiting.append((group[0], GROUP, group[1]))
        for since, label, need in sorted(waiting, key=lambda each: each[0]):
            if self._worth_it(need, time.monotonic() - since) and self._mine(label):
                self._saved, self._need = label, need
                return

    def _worth_it(self, need: Need, waited: float) -> bool:
        if waited < PATIENCE_SECONDS:
            return False
        return saves_after(waited) or self._without_calls().fits(need)

    def _mine(self, label: str) -> bool:
        """Tell whether this node is the one that saves for a kind; a group has its own plan."""
        key = routing.saving_key(label)
        return label == GROUP or self._store.scripts.save_for(key, self._incarnation, _HOLD_MS)

    def in_order(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        """Return the kinds, those that have waited longest since one of them was served first."""
        return sorted(waiting, key=lambda each: self._first.get(each.label, 0.0))

    @property
    def group(self) -> Need | None:
        """What is saved here for a placement group."""
        return self._need if self._saved == GROUP else None

    def is_for(self, label: str) -> bool:
        """Tell whether the node saves for this kind."""
        return self._need is not None and label == self._saved

    def allows(self, label: str, need: Need, ledger: Ledger) -> bool:
        """Tell whether a request may be met now, or would take what is saved for another."""
        return self._need is None or label == self._saved or ledger.leaves(need, self._need)

    def cpus(self, ledger: Ledger) -> int:
        """Return the CPU units that are saved, of those that are free."""
        return min(self._need.cpus, max(0, ledger.free.get("CPU", 0))) if self._need else 0

    def passed_over(self, label: str) -> None:
        """Note that a request had to wait."""
        self._since.setdefault(label, time.monotonic())

    def served(self, label: str) -> None:
        """Note that a request was met: the next of its kind begins to wait now."""
        self._since.pop(label, None)
        if label in self._first:
            self._first[label] = time.monotonic()
        if self._need is not None and label == self._saved:
            self._need = None
            self._store.run("UNLINK", routing.saving_key(label))

    forget = served


def saves_after(waited: float) -> bool:
    """Tell whether a node saves for what has waited so many seconds for actors to end."""
    before = 2.0 ** int(math.log2(waited / ROUND_SECONDS + 1))
    return waited - ROUND_SECONDS * (before - 1) < SAVE_SECONDS * before
