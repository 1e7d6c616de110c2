"""Placement groups as values: which nodes could take a group's bundles together.

A pure decision on a picture of the cluster that may be out of date: the nodes' own ledgers have the
last word, so a plan that fails there is simply made again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .labels import selector_of
from .need import Need
from .placement import Ledger, NodeView

__all__ = ["STRATEGIES", "Strategy", "needs_of", "plan"]

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
    placed = list(placed) or [""] * len(bundles)
    books = {node.node_id: copy.deepcopy(node.total if empty else node.free) for node in nodes}
    views = {node.node_id: node for node in nodes}
    if strategy == "STRICT_PACK":
        settled = {node for node in placed if node}
        for node_id in sorted(settled or books):
            if node_id in books and len(settled) <= 1:
                found = _fill(bundles, placed, [node_id], books, views, strategy)
                if found is not None:
                    return found
        return None
    return _fill(bundles, placed, sorted(books), books, views, strategy)


def _fill(
    bundles: Sequence[Need], placed: Sequence[str], allowed: Sequence[str],
    given: Mapping[str, Ledger], views: Mapping[str, NodeView], strategy: Strategy,
) -> list[str] | None:  # fmt: skip
    books = copy.deepcopy(dict(given))
    found = list(placed)
    # The largest first: what is hard to place must not find its place taken by what is not.
    order = sorted(range(len(bundles)), key=lambda i: _size(bundles[i]), reverse=True)
    for index in order:
        if found[index]:
            continue
        taken = [node for node in found if node]
        need = bundles[index]
        able = [
            node
            for node in allowed
            if need.welcomes(node, views[node].labels) and books[node].fits(need)
        ]
        chosen = _choose(able, taken, strategy, books)
        if chosen is None:
            return None
        books[chosen].acquire(need)
        found[index] = chosen
    return found


def _size(need: Need) -> tuple[int, int, int]:
    return need.gpus, need.cpus, sum(amount for _, amount in need.amounts)


def _choose(
    able: Sequence[str], taken: Sequence[str], strategy: Strategy, books: Mapping[str, Ledger]
) -> str | None:
    if strategy == "STRICT_SPREAD":
        able = [node for node in able if node not in taken]
    if not able:
        return None
    if strategy in ("SPREAD", "STRICT_SPREAD"):
        return min(able, key=lambda node: (taken.count(node), -_room(books[node]), node))
    # PACK: where bundles of the group are already, then where the most others will fit.
    return min(able, key=lambda node: (-taken.count(node), -_room(books[node]), node))


def _room(ledger: Ledger) -> int:
    return sum(ledger.free.get(name, 0) for name in ("GPU", "CPU"))
