"""The nodes of a cluster and what they have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import routing, runtime
from .placement import UNIT
from .store import Store

__all__ = ["available_resources", "cluster_resources", "described", "nodes"]


def described(store: Store) -> dict[str, dict[str, Any]]:
    """Return what each node run says of itself, by its id."""
    return {name: json.loads(text) for name, text in store.hash(routing.NODES).items()}


def nodes() -> list[dict[str, Any]]:
    """Return one dictionary per node run, shaped as Ray's.

    ``NodeID``, ``Alive``, ``NodeManagerHostname``, ``NodeManagerAddress``, ``Resources`` (plain
    numbers), and ours: ``Available``, ``pid``, ``workers``.
    """
    store = runtime.current().store
    listed = []
    for node_id, about in described(store).items():
        alive = bool(store.run("EXISTS", routing.lease_key(node_id)))
        listed.append({
            "NodeID": node_id, "Alive": alive, "NodeManagerHostname": about["host"],
            "NodeManagerAddress": about["ip"], "NodeName": about["host"], "alive": alive,
            "Labels": {}, "pid": about["pid"], "Resources": _plain(about["total"]),
            "Available": _plain(about["free"]), "workers": about["workers"],
        })  # fmt: skip
    return listed


def _plain(amounts: Mapping[str, int]) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in amounts.items()}


def _summed(which: str) -> dict[str, float]:
    total: dict[str, float] = {}
    for node in nodes():
        if node["Alive"]:
            for name, amount in node[which].items():
                total[name] = total.get(name, 0.0) + amount
    return {name: amount for name, amount in total.items() if amount}


def cluster_resources() -> dict[str, float]:
    """Return what all live nodes have together."""
    return _summed("Resources")


def available_resources() -> dict[str, float]:
    """Return what all live nodes have free together; what is used up is left out."""
    return _summed("Available")
