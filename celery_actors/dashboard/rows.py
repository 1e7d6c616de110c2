"""Records of the store as rows of the page: plain values that JSON can carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import inventory, routing
from ..directory import ActorRecord
from ..need import UNIT
from ..registry import NodeRecord, shown
from ..vitals import NodeVitals

__all__ = ["FIELDS", "Context", "actor_row", "meta_of", "node_row"]

#: The fields of an actor's record that the page needs.
FIELDS = (
    "st", "class", "name", "namespace", "queue", "node", "pid", "restarts", "max_restarts", "moves",
    "ap", "need", "durable", "cause", "own",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Context:
    """What the nodes say, as the rows of their actors need it."""

    hosts: Mapping[str, str] = field(default_factory=dict)  # node run -> host
    devices: Mapping[tuple[str, int], list[str]] = field(default_factory=dict)  # by node run, pid
    vitals: NodeVitals = field(default_factory=NodeVitals)

    @classmethod
    def of(cls, nodes: Sequence[NodeRecord], told: Sequence[NodeVitals]) -> Context:
        """Put together what the nodes say of themselves and of their actors' processes."""
        devices: dict[tuple[str, int], list[str]] = {}
        for node in nodes:
            kinds = node.about["kinds"]
            for holder in node.about["holders"]:
                held = [f"GPU {number} {kinds[number]}".strip() for number in holder["gpu_ids"]]
                devices.setdefault((node.node_id, holder["pid"]), []).extend(held)
        vitals = NodeVitals(
            {key: value for each in told for key, value in each.processes.items()},
            {key: value for each in told for key, value in each.errors.items()},
        )
        return cls({node.node_id: node.about["host"] for node in nodes}, devices, vitals)


def meta_of(values: Sequence[bytes | None]) -> dict[str, str]:
    """Return the fields of a record from the store's answer to ``HMGET … FIELDS``."""
    pairs = zip(FIELDS, values, strict=True)
    return {name: value.decode("utf-8", "replace") for name, value in pairs if value is not None}


def actor_row(record: ActorRecord, waiting: int, parked: int, context: Context) -> dict[str, Any]:
    """Return what the page shows of one actor."""
    meta, actor_id = record.meta, record.actor_id
    name = record.name
    node, pid = meta.get("node", ""), int(meta.get("pid") or 0)
    lives = record.state == "ALIVE"
    process = context.vitals.processes.get(actor_id)
    if process is not None and (process.pid != pid or not lives):
        process = None  # of the process before
    error = context.vitals.errors.get(actor_id)
    host = context.hosts.get(node, "")
    label = routing.worker_label(record.class_name, name or None, actor_id)
    return {
        "id": actor_id, "class": record.class_name, "name": name,
        "namespace": meta.get("namespace", ""), "state": record.state, "node": node, "host": host,
        "pid": pid if lives else 0, "worker": routing.worker_name(label, host) if host else "",
        "devices": context.devices.get((node, pid), []) if lives else [],
        "queue": meta.get("queue", ""), "queued": waiting + parked if record.state != "DEAD" else 0,
        "calls": max(0, int(meta.get("ap", 0)) - parked), "rate": None,
        "restarts": int(meta.get("restarts", 0)), "max_restarts": int(meta.get("max_restarts", 0)),
        "memory": process.memory if process is not None else None,
        "cpus": process.cpus if process is not None else None,
        "error": error.text if error is not None else "",
        "error_at": error.when if error is not None else None,
        "needs": meta.get("need", ""), "durable": meta.get("durable", ""),
        "cause": meta.get("cause", ""),
    }  # fmt: skip


def node_row(node: NodeRecord) -> dict[str, Any]:
    """Return what the page shows of one node."""
    about = node.about
    total, free = shown(about["total"]), about["free"]
    return {
        "id": node.node_id, "host": about["host"], "pid": about["pid"], "workers": about["workers"],
        "state": "LOST" if not node.alive else "DRAINING" if node.draining else "ALIVE",
        "resources": [
            {"name": name, "total": amount / UNIT, "free": free.get(name, 0) / UNIT}
            for name, amount in sorted(total.items())
        ],
        "devices": [
            {
                "id": device["id"], "type": device["type"], "free": device["free"],
                "holders": [holder["worker"] for holder in device["holders"]],
            }
            for device in inventory.devices_of(node)
        ],
    }  # fmt: skip
