"""Nodes as records in the store: what each says of itself, and whether it lives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import routing
from .need import ACCELERATOR
from .placement import Ledger, NodeView
from .store import Store

__all__ = ["OWN_SESSION_MS", "SESSION_MS", "NodeRecord", "describe", "records", "views"]

#: How long a driver's lease lasts; it renews it every three seconds.
SESSION_MS = 10_000
#: … on a local cluster of its own, which ends with the driver, however that ends. Nobody else need
#: find out, so one whose threads stand still, as in a long call of C code, is not taken for dead.
OWN_SESSION_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One run of a node as the store knows it."""

    node_id: str
    about: Mapping[str, Any]
    alive: bool

    @property
    def draining(self) -> bool:
        """True for one that takes no new work: it is about to end."""
        return bool(self.about.get("draining"))

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the node, its own names among them."""
        return dict(self.about.get("labels", {}))

    @property
    def view(self) -> NodeView:
        """What decisions are made on."""
        about = self.about
        kinds = dict(enumerate(about.get("kinds", ())))
        total = Ledger(about["total"], dict(enumerate(about.get("devices", ()))), kinds)
        free = total.copy()
        free.free, free.gpus = about["free"], dict(enumerate(about.get("gpus", ())))
        return NodeView(self.node_id, about["host"], total, free, self.labels)


def describe(
    ledger: Ledger, free: Mapping[str, int], labels: Mapping[str, str],
    holders: Sequence[Mapping[str, Any]], **facts: Any,
) -> str:  # fmt: skip
    """Return what a node says of itself, as JSON.

    ``holders``: who has devices: ``{"worker": …, "pid": …, "gpu_ids": […], "units": …}``.
    """
    devices = sorted(ledger.devices)
    return json.dumps({
        **facts, "total": ledger.total, "labels": dict(labels), "holders": list(holders),
        "free": {name: max(0, left) for name, left in free.items()},
        "devices": [ledger.devices[device] for device in devices],
        "gpus": [ledger.gpus[device] for device in devices],
        "kinds": [ledger.kinds.get(device, "") for device in devices],
    })  # fmt: skip


def records(store: Store) -> list[NodeRecord]:
    """Return every run of a node that the store knows, the living and those not yet settled."""
    listed = store.scripts.nodes(routing.NODES, routing.lease_key(""))
    return [NodeRecord(node_id, json.loads(about), alive) for node_id, about, alive in listed]


def views(store: Store) -> list[NodeView]:
    """Return the living nodes that take work."""
    return [record.view for record in records(store) if record.alive and not record.draining]


def default_labels(node_id: str, kinds: Sequence[str]) -> dict[str, str]:
    """Return the labels that every node carries, by Ray's names."""
    labels = {"ray.io/node-id": node_id}
    if known := sorted({kind for kind in kinds if kind}):
        labels["ray.io/accelerator-type"] = known[0]
    return labels


def shown(amounts: Mapping[str, int]) -> dict[str, int]:
    """Return the amounts without those that only mark a node: a node's own name, device types."""
    return {
        name: amount
        for name, amount in amounts.items()
        if not name.startswith((ACCELERATOR, "node:"))
    }
