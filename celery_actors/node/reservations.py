"""What a node holds for placement groups: all of a group's bundles here, or none of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .. import bundles, groups, registry
from ..need import UNIT, Need
from ..placement import Allocation, Grant, Ledger, NodeView
from ..store import Store

__all__ = ["Reservations"]

logger = logging.getLogger(__name__)

#: Seconds for which a group that could be placed may find no room before nodes save for it.
PATIENCE_SECONDS = 1.0


@dataclass(slots=True)
class _Bundle:
    """One bundle that is held here: what it took of the node, and its own books."""

    attempt: int
    grant: Grant
    ledger: Ledger


class Reservations:
    """The bundles on one node."""

    def __init__(
        self, store: Store, me: NodeView, free: Callable[[], dict[str, int]],
        end: Callable[[Ledger], bool],
    ) -> None:  # fmt: skip
        self._store = store
        self._me = me
        self._free = free
        self._end = end
        self._ending: list[_Bundle] = []
        self._held: dict[tuple[str, int], _Bundle] = {}
        self._since: dict[str, float] = {}
        #: What a waiting group would need of this node, and since when it waits.
        self.saved: tuple[float, Need] | None = None

    def ledgers(self, need: Need) -> Iterator[Ledger]:
        """Return the books of the bundles that a need may be met from."""
        group_id, index = need.group
        for (held_id, held_index), bundle in sorted(self._held.items()):
            if held_id == group_id and index in (-1, held_index) and bundle.attempt == 0:
                fits = bundle.ledger.could_hold(need)
                if fits and need.welcomes(self._me.node_id, self._me.labels):
                    yield bundle.ledger

    def holders(self) -> list[tuple[str, int, Allocation]]:
        """Return (name, 0, what it holds) of each bundle, for people."""
        return [
            (f"bundle {index} of group {group_id[:8]}", 0, bundle.grant.allocation)
            for (group_id, index), bundle in sorted(self._held.items())
        ]

    def look(self, waiting: int, make_room: Callable[[Need], bool]) -> None:
        """Take part in placing groups; give back what is held for none any more."""
        self.saved = None
        if self._held:
            self._settle()
        # Given back when nothing of it runs any more: its devices must not be given out twice.
        for bundle in [bundle for bundle in self._ending if not self._end(bundle.ledger)]:
            self._ending.remove(bundle)
            bundle.grant.release()
        if not waiting:
            self._since.clear()
            return
        line = groups.waiting(self._store)
        self._since = {g.group_id: self._since.get(g.group_id, time.monotonic()) for g in line}
        for group in line:
            if group.state == "reserving":
                self._take_part(group, make_room)
        self._plan(line)

    def _settle(self) -> None:
        """Look at each group that something is held for."""
        for group_id in {group_id for group_id, _ in self._held}:
            group = groups.find(self._store, group_id)
            for key in [key for key in self._held if key[0] == group_id]:
                self._settle_one(key, group)

    def _settle_one(self, key: tuple[str, int], group: groups.Group | None) -> None:
        bundle = self._held[key]
        if group is not None and group.state != "removed":
            if group.placed(key[1]) == self._me.node_id:
                bundle.attempt = 0  # for good
                return
            if group.state == "reserving" and group.attempt == bundle.attempt:
                return
        del self._held[key]
        self._ending.append(bundle)

    def _take_part(self, group: groups.Group, make_room: Callable[[Need], bool]) -> None:
        """Hold what a plan gives this node, or refuse; silent while workers make room."""
        me, plan = self._me.node_id, group.plan
        mine = [
            index for index, node in enumerate(plan)
            if node == me and not group.placed(index) and (group.group_id, index) not in self._held
        ]  # fmt: skip
        if not mine:
            return
        needs = group.bundles
        together = _together([needs[index] for index in mine])
        if self._me.free.fits(together) and not make_room(together):
            return  # workers are ending; the plan holds for some seconds
        taken: dict[tuple[str, int], _Bundle] = {}
        for index in mine:
            allocation = self._me.free.acquire(needs[index])
            if allocation is None:
                break
            taken[group.group_id, index] = _Bundle(
                group.attempt, Grant(self._me.free, allocation),
                Ledger.within(allocation, self._me.free.kinds),
            )  # fmt: skip
        held = len(taken) == len(mine)
        self._held |= taken
        if not groups.answer(self._store, group, me, mine, held=held) or not held:
            for key, bundle in taken.items():
                del self._held[key]
                bundle.grant.release()

    def _plan(self, line: list[groups.Group]) -> None:
        """Begin to place the first group that fits; save for one that was passed over too long."""
        nodes = [
            self._own_view() if view.node_id == self._me.node_id else view
            for view in registry.views(self._store)
        ]
        for group in line:
            needs, strategy = group.bundles, group.strategy
            placed = [group.placed(index) for index in range(len(needs))]
            plan = bundles.plan(needs, strategy, nodes, placed)
            if plan is not None:
                if groups.begin(self._store, group, plan):
                    return
                continue
            if time.monotonic() - self._since[group.group_id] < PATIENCE_SECONDS:
                continue
            if (plan := bundles.plan(needs, strategy, nodes, placed, empty=True)) is None:
                continue  # nobody could; it waits for other nodes
            mine = [needs[i] for i, node in enumerate(plan) if node == self._me.node_id
                    and not placed[i]]  # fmt: skip
            if mine:
                self.saved = (self._since[group.group_id], _together(mine))
            return  # those behind it must not take what comes free

    def _own_view(self) -> NodeView:
        me = self._me
        free = Ledger(self._free(), me.free.gpus, me.free.kinds)
        return NodeView(me.node_id, me.host, me.total, free, me.labels)


def _together(needs: list[Need]) -> Need:
    """Return one need for several: their sums, whole devices where more than one is needed."""
    sums: dict[str, int] = {}
    for need in needs:
        for name, amount in need.amounts:
            sums[name] = sums.get(name, 0) + amount
    if sums.get("GPU", 0) > UNIT:
        sums["GPU"] = -(-sums["GPU"] // UNIT) * UNIT
    return Need(tuple(sorted(sums.items())))
