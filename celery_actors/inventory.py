"""The nodes of a cluster and what they have, for users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import registry, runtime
from .need import UNIT
from .registry import NodeRecord

__all__ = ["available_resources", "cluster_resources", "nodes"]


def nodes() -> list[dict[str, Any]]:
    """Return one dictionary per node run, shaped as Ray's.

    ``NodeID``, ``Alive``, ``NodeManagerHostname``, ``NodeManagerAddress``, ``Resources`` (plain
    numbers; memory in bytes), ``Labels``, and ours: ``Available``, ``Devices`` (see
    ``devices_of``), ``Draining`` (takes no new work), ``pid``, ``workers``.
    """
    return [_shown(record) for record in registry.records(runtime.current().store)]


def _shown(record: NodeRecord) -> dict[str, Any]:
    about = record.about
    return {
        "NodeID": record.node_id, "Alive": record.alive, "NodeManagerHostname": about["host"],
        "NodeManagerAddress": about["ip"], "NodeName": about["host"], "alive": record.alive,
        "Labels": record.labels, "pid": about["pid"], "Resources": plain(about["total"]),
        "Available": plain(about["free"]), "workers": about["workers"],
        "Devices": devices_of(record), "Draining": record.draining,
    }  # fmt: skip


def devices_of(record: NodeRecord) -> list[dict[str, Any]]:
    """Return the devices of a node: ``id``, ``type``, ``free`` (of 1.0), ``holders``.

    A holder is ``{"worker": name, "pid": pid, "share": of 1.0}``.
    """
    about = record.about
    return [
        {
            "id": number, "type": kind, "free": free / UNIT,
            "holders": [
                {"worker": each["worker"], "pid": each["pid"], "share": each["units"] / UNIT}
                for each in about["holders"] if number in each["gpu_ids"]
            ],
        }
        for number, (kind, free) in enumerate(zip(about["kinds"], about["gpus"], strict=True))
    ]  # fmt: skip


def plain(amounts: Mapping[str, int]) -> dict[str, float]:
    """Return amounts in units as plain numbers."""
    return {name: amount / UNIT for name, amount in amounts.items()}


def _summed(which: str) -> dict[str, float]:
    total: dict[str, int] = {}
    for record in registry.records(runtime.current().store):
        if record.alive and not (record.draining and which == "free"):
            for name, amount in record.about[which].items():
                total[name] = total.get(name, 0) + amount
    return plain({name: amount for name, amount in total.items() if amount})


def cluster_resources() -> dict[str, float]:
    """Return what all live nodes have together; memory in bytes."""
    return _summed("total")


def available_resources() -> dict[str, float]:
    """Return what all live nodes that take work have free together; what is used up is left out.

    A node says so about once a second.
    """
    return _summed("free")
