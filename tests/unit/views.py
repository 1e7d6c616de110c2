"""Nodes as decisions see them, and as they describe themselves in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery_actors import registry, routing
from celery_actors.placement import Ledger, NodeView
from celery_actors.store import Store


def node(
    node_id: str = "n1", *, cpus: float = 4, gpus: int = 0, memory: float = 0,
    custom: Mapping[str, float] | None = None, kinds: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> NodeView:  # fmt: skip
    """Return an idle node; ``kinds`` has one type for each device, where they are known."""
    total, free = (
        Ledger.of(cpus=cpus, gpus=gpus, memory=memory, custom=custom or {}, kinds=kinds)
        for _ in range(2)
    )
    return NodeView(node_id, f"host-of-{node_id}", total, free, dict(labels or {}))


def announce(store: Store, *views: NodeView, **facts: Any) -> None:
    """Have nodes say what they have and have free, and live."""
    for view in views:
        about = registry.describe(
            view.free, view.free.free, view.labels, (), host=view.host, **facts
        )
        store.run("HSET", routing.NODES, view.node_id, about)
        store.run("SET", routing.lease_key(view.node_id), "1")


def end_lease(store: Store, view: NodeView) -> None:
    """Let a node fall silent; nobody has noticed yet."""
    store.run("DEL", routing.lease_key(view.node_id))
