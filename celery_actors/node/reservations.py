"""What a node holds for placement groups: all of a group's bundles here, or none of them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .. import bundles, groups, registry
from ..need import ACCELERATOR, UNIT, Need
from ..placement import Allocation, Grant, Ledger, NodeView
from ..store import Store
from .group_line import GroupLine

__all__ = ["Reservations"]

logger = logging.getLogger(__name__)

#: Seconds for which a group that could be placed may find no room before nodes save for it.
PATIENCE_SECONDS = 1.0


@dataclass(slots=True)
class _Bundle:
    """One bundle that is held here: what it took of the node, and its own books."""

    attempt: int  # the one that it is held for; 0: for good
    until: float  # when the other nodes of the attempt must have answered
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
        self._line = GroupLine(store)
        self._planned: object = None  # what the last plans were made from
        self._again = math.inf  # when patience ends with which they were made
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

    def look(
        self, waiting: int, make_room: Callable[[Need], bool], allows: Callable[[Need], bool]
    ) -> None:
        """Take part in placing groups; give back what is held for none any more.

        ``make_room`` has workers end that are in the way; ``allows`` knows what others save.
        """
        given_up: set[str] = set()
        if waiting or self._held or self._line.since:
            given_up = self._settle(self._line.read({group_id for group_id, _ in self._held}))
        # Given back when nothing of it runs any more: its devices must not be given out twice.
        for bundle in [bundle for bundle in self._ending if not self._end(bundle.ledger)]:
            self._ending.remove(bundle)
            bundle.grant.release()
        for group in self._line.reserving:
            if group.group_id not in given_up:
                self._take_part(group, make_room, allows)
        self._plan()

    def _settle(self, found: Mapping[str, groups.Group]) -> set[str]:
        """Look at each group that something is held for; return those of which that is over."""
        before = {group_id for group_id, _ in self._held}
        for key in list(self._held):
            self._settle_one(key, found.get(key[0]))
        return before - {group_id for group_id, _ in self._held}

    def _settle_one(self, key: tuple[str, int], group: groups.Group | None) -> None:
        bundle = self._held[key]
        if group is not None and group.state != "removed":
            if group.placed(key[1]) == self._me.node_id:
                bundle.attempt = 0  # for good
                return
            if group.state == "reserving" and group.attempt == bundle.attempt:
                if time.monotonic() < bundle.until:
                    return
                # A node of the plan is silent. Nothing is held for what may take long, or for ever.
                if not groups.answer(self._store, group, self._me.node_id, [key[1]], held=False):
                    return  # something has come of it meanwhile: the next look sees what
        del self._held[key]
        self._ending.append(bundle)

    def _take_part(
        self, group: groups.Group, make_room: Callable[[Need], bool],
        allows: Callable[[Need], bool],
    ) -> None:  # fmt: skip
        """Hold what a plan gives this node, or refuse; silent while workers make room."""
        me, plan = self._me.node_id, group.plan
        mine = [
            index for index, node in enumerate(plan)
            if node == me and not group.placed(index) and (group.group_id, index) not in self._held
        ]  # fmt: skip
        if not mine:
            return
        needs = [group.bundles[index] for index in mine]
        if not allows(_together(needs, self._me.total)):
            groups.answer(self._store, group, me, mine, held=False)
            return
        cpus = Need((("CPU", sum(need.cpus for need in needs)),))
        if cpus.cpus and self._me.free.fits(cpus) and not make_room(cpus):
            self._save(group, plan)
            return  # workers are ending; the plan holds for some seconds
        allocations = bundles.hold(self._me.free, needs)
        if allocations is None:
            groups.answer(self._store, group, me, mine, held=False)
            return
        until = time.monotonic() + groups.ANSWER_MS / 1000
        taken = {
            (group.group_id, index): _Bundle(
                group.attempt, until, Grant(self._me.free, allocation),
                Ledger.within(allocation, self._me.free.kinds),
            )
            for index, allocation in zip(mine, allocations, strict=True)
        }  # fmt: skip
        self._held |= taken
        if not groups.answer(self._store, group, me, mine, held=True):
            for key, bundle in taken.items():
                del self._held[key]
                bundle.grant.release()

    def _plan(self) -> None:
        """Begin to place the first group that fits; save for one that was passed over too long.

        Only where something has changed: of the line, or of what the nodes have free.
        """
        if not self._line.since:
            self.saved, self._planned = None, None
            return
        nodes = [
            self._own_view() if view.node_id == self._me.node_id else view
            for view in registry.views(self._store)
        ]
        now, inputs = time.monotonic(), (self._line.mark, nodes)
        if inputs == self._planned and now < self._again:
            return
        self.saved, self._again = None, math.inf
        begun = self._plan_first(nodes, now)
        self._planned = inputs if begun is None and self._line.complete else None

    def _plan_first(self, nodes: Sequence[NodeView], now: float) -> bool | None:
        """Return None where no group fits, else whether an attempt has begun."""
        begun = None
        unfit: set[object] = set()
        for group in self._line.first(nodes):
            needs, strategy, placed = group.bundles, group.strategy, group.places
            # There is only less for those behind it, so what is like it does not fit either.
            alike = group.shape in unfit
            plan = None if alike else bundles.plan(needs, strategy, nodes, placed)
            if plan is not None:
                begun = groups.begin(self._store, group, plan)
                if begun:
                    self._save(group, plan)  # until the nodes have heard of it
                    return begun
                continue
            unfit.add(group.shape)
            impatient = self._line.since[group.group_id] + PATIENCE_SECONDS
            if group.state == "reserving":
                continue
            if now < impatient:
                self._again = min(self._again, impatient)
                continue
            plan = bundles.plan(needs, strategy, nodes, placed, empty=True)
            if plan is None:
                continue  # nobody could; it waits for other nodes
            # Those behind it must not take what comes free for it; what is beside, they may.
            shares = {
                node: [needs[i] for i, at in enumerate(plan) if at == node and not placed[i]]
                for node in set(plan)
            }
            self._save(group, plan)
            nodes = [_without(view, shares.get(view.node_id, ())) for view in nodes]
        return begun

    def _save(self, group: groups.Group, plan: Sequence[str]) -> None:
        """Keep free here what a plan gives this node, for the first group that needs it."""
        mine = [
            need for index, (need, node) in enumerate(zip(group.bundles, plan, strict=True))
            if node == self._me.node_id and not group.placed(index)
        ]  # fmt: skip
        if mine and self.saved is None:
            since = self._line.since[group.group_id]
            self.saved = (since, _together(mine, self._me.total))

    def _own_view(self) -> NodeView:
        free = self._me.free.copy()
        free.free = self._free()
        return replace(self._me, free=free)


def _without(view: NodeView, share: Sequence[Need]) -> NodeView:
    """Return a node without what is kept free for a group; its devices, if that needs any."""
    if not share:
        return view
    free, wanted = view.free.copy(), _together(share, view.total)
    for name, amount in wanted.amounts:
        free.free[name] = max(0, free.free.get(name, 0) - amount)
    if wanted.gpus:
        free.gpus = dict.fromkeys(free.gpus, 0)
    return replace(view, free=free)


def _together(needs: Sequence[Need], total: Ledger) -> Need:
    """Return one need for several on one node: their sums, and as many whole devices as they use.

    Of a device type where all that use devices want the same.
    """
    sums: dict[str, int] = {}
    for need in needs:
        for name, amount in need.amounts:
            sums[name] = sums.get(name, 0) + amount
    held = bundles.hold(total.copy(), needs) or []
    devices = {device for allocation in held for device in allocation.gpu_ids}
    if len(devices) > 1:
        sums["GPU"] = len(devices) * UNIT
    if len({need.accelerator for need in needs if need.gpus}) > 1:
        sums = {name: amount for name, amount in sums.items() if not name.startswith(ACCELERATOR)}
    return Need(tuple(sorted(sums.items())))
