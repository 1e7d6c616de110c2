"""Placement groups as values: which nodes could take a group's bundles together.

A pure decision on a picture of the cluster that may be out of date: the nodes' own ledgers have the
last word, so a plan that fails there is simply made again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .labels import selector_of
from .need import UNIT, Need
from .placement import Allocation, Ledger, NodeView

__all__ = ["STRATEGIES", "Strategy", "hold", "needs_of", "plan"]

#: Dead ends after which a search gives up. It goes the most promising way first, so it seldom meets
#: any; a supervisor has no time for more.
DEAD_ENDS = 200

Strategy = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]
STRATEGIES: tuple[Strategy, ...] = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


def needs_of(
    bundles: Sequence[Mapping[str, float]], selectors: Sequence[Mapping[str, str]] | None = None
) -> list[Need]:
    """Return the bundles of ``placement_group`` as needs; ``selectors``: conditions for each."""
    found = []
    for index, bundle in enumerate(bundles):
        custom: dict[str, Any] = dict(bundle)
        need = Need.of(
            cpus=custom.pop("CPU", 0), gpus=custom.pop("GPU", 0), memory=custom.pop("memory", 0),
            custom=custom,
        )  # fmt: skip
        selector = selector_of(selectors[index]) if selectors else ()
        found.append(Need(need.amounts, selector=selector))
    return found


def plan(
    bundles: Sequence[Need], strategy: Strategy, nodes: Sequence[NodeView],
    placed: Sequence[str] = (), *, empty: bool = False,
) -> list[str] | None:  # fmt: skip
    """Return the node id of each bundle, or None where the strategy cannot be met.

    ``placed``: what holds a bundle already ("" for none); that stays. ``empty``: judge by what the
    nodes have in total, not by what is free: could the group ever be placed?
    """
    found = list(placed) or [""] * len(bundles)
    books = {node.node_id: (node.total if empty else node.free).copy() for node in nodes}
    if empty:
        for need, node_id in zip(bundles, found, strict=True):
            if node_id in books:
                books[node_id].acquire(need)
    settled = {node_id for node_id in found if node_id}
    if strategy in ("PACK", "STRICT_PACK") and len(settled) <= 1:
        alone = [node for node in nodes if node.node_id in (settled or books)]
        for node in sorted(alone, key=lambda node: (_room(books[node.node_id]), node.node_id)):
            search = _Search.on([node], bundles, strategy, books, found)
            if search.run(DEAD_ENDS // len(alone)):
                return search.found
    if strategy == "STRICT_PACK":
        return None
    search = _Search.on(nodes, bundles, strategy, books, found)
    return search.found if search.run(DEAD_ENDS) else None


def hold(ledger: Ledger, bundles: Sequence[Need]) -> list[Allocation] | None:
    """Let a node's ledger grant all of these bundles, or none: whatever ``plan`` found room for."""
    count = len(bundles)
    search = _Search(bundles, "STRICT_PACK", {"": ledger}, [[""]] * count, [""] * count)
    return [search.granted[i] for i in range(count)] if search.run(DEAD_ENDS) else None


@dataclass(slots=True)
class _Search:
    """Finds a place for each bundle that has none, or for none of them.

    It places one after the other, what is hardest to place first. Where one finds no place, the one
    before it gets the next best, and so on.
    """

    bundles: Sequence[Need]
    strategy: Strategy
    books: Mapping[str, Ledger]
    able: Sequence[Sequence[str]]  # for each bundle, the nodes that it may be on
    found: list[str]
    granted: dict[int, Allocation] = field(default_factory=dict)

    @classmethod
    def on(
        cls, nodes: Sequence[NodeView], bundles: Sequence[Need], strategy: Strategy,
        books: Mapping[str, Ledger], found: Sequence[str],
    ) -> _Search:  # fmt: skip
        """Return a search on these nodes alone."""
        able = [
            [node.node_id for node in nodes if need.welcomes(node.node_id, node.labels)]
            for need in bundles
        ]
        own = {node.node_id: books[node.node_id] for node in nodes}
        return cls(bundles, strategy, own, able, list(found))

    def run(self, dead_ends: int) -> bool:
        """Fill ``found`` and ``granted``; False where that cannot be, or takes too many trials."""
        order = sorted((index for index, node in enumerate(self.found) if not node), key=self._ease)
        if not order:
            return True
        if not self._enough_for(order):
            return False
        hopeless: set[Hashable] = set()
        trail = [self._places(order[0])]  # for each bundle up to the present one, what is untried
        while trail and len(hopeless) <= dead_ends:
            index = order[len(trail) - 1]
            place = next(trail[-1], None)
            if place is None:
                trail.pop()
                hopeless.add(self._state())
                if trail:
                    self._leave(order[len(trail) - 1])
                continue
            self._take(index, *place)
            if len(trail) == len(order):
                return True
            if hopeless and self._state() in hopeless:
                self._leave(index)
            else:
                trail.append(self._places(order[len(trail)]))
        for index in list(self.granted):
            self._leave(index)
        return False

    def _take(self, index: int, node: str, need: Need) -> None:
        allocation = self.books[node].acquire(need)
        assert allocation is not None, "places are those that fit"  # noqa: S101 - narrows the type
        self.found[index], self.granted[index] = node, allocation

    def _leave(self, index: int) -> None:
        self.books[self.found[index]].release(self.granted.pop(index))
        self.found[index] = ""

    # -- what goes first -------------------------------------------------------------------

    def _ease(self, index: int) -> tuple[int, ...]:
        """Sort the hardest first: few nodes suit it, its devices are of a type, it is large."""
        need = self.bundles[index]
        suit = sum(self.books[node].fits(need) for node in self.able[index])
        amounts = sum(amount for _, amount in need.amounts)
        return suit, not need.accelerator, -need.gpus, -need.cpus, -amounts

    def _enough_for(self, order: Sequence[int]) -> bool:
        """Tell at a glance whether there is too little, whatever the places."""
        needs = [self.bundles[index] for index in order]
        free = self.books.values()
        return all(
            sum(need.amount(name) for need in needs)
            <= sum(max(0, ledger.free.get(name, 0)) for ledger in free)
            for name in {name for need in needs for name, _ in need.amounts}
        )

    def _places(self, index: int) -> Iterator[tuple[str, Need]]:
        """Yield the nodes, and devices there, that could take a bundle now, the best first."""
        need = self.bundles[index]
        taken = [node for node in self.found if node]
        able = [node for node in self.able[index] if self.books[node].fits(need)]
        if self.strategy == "STRICT_SPREAD":
            able = [node for node in able if node not in taken]
        # PACK: where bundles of the group are already, then where the most others will fit.
        sign = -1 if self.strategy == "PACK" else 1
        able.sort(key=lambda node: (sign * taken.count(node), -_room(self.books[node]), node))
        for node in able:
            for choice in _choices(need, self.books[node]):
                yield node, choice

    def _state(self) -> Hashable:
        """Return what decides whether the bundles that are left find their places.

        Nodes that suit the same bundles and have the same left count as the same, and so do
        devices.
        """
        taken = self.found if self.strategy == "STRICT_SPREAD" else ()
        nodes = sorted(
            (tuple(node in able for able in self.able), node in taken, *_left(ledger))
            for node, ledger in self.books.items()
        )
        return len(self.granted), tuple(nodes)


def _left(ledger: Ledger) -> tuple[Hashable, ...]:
    devices = sorted((ledger.kinds.get(device, ""), left) for device, left in ledger.gpus.items())
    return tuple(sorted(ledger.free.items())), tuple(devices)


def _choices(need: Need, ledger: Ledger) -> Iterator[Need]:
    """Yield a need as the ledger would meet it, then with each other kind of device for a share."""
    yield need
    seen = set()
    for device, left in ledger.gpus.items() if 0 < need.gpus < UNIT else ():
        alike = left, ledger.kinds.get(device, "")
        pinned = replace(need, gpu_ids=(device,))
        if alike not in seen and ledger.fits(pinned):
            seen.add(alike)
            yield pinned


def _room(ledger: Ledger) -> int:
    return sum(ledger.free.get(name, 0) for name in ("GPU", "CPU"))
