"""What ``celery_actors status`` shows: nodes, their devices and who holds them, actors, groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import directory, groups, inventory, listing, registry, tables
from .need import UNIT, described
from .store import Store

__all__ = ["collect", "show"]


def collect(store: Store) -> dict[str, Any]:
    """Return the state of a cluster as plain values: what ``--json`` prints."""
    return {
        "nodes": {
            node.node_id: {
                **node.about, "alive": node.alive, "devices": inventory.devices_of(node),
            }
            for node in registry.records(store)
        },
        "actors": [_actor(actor) for actor in directory.actors(store)],
        "placement_groups": [
            {
                "placement_group_id": group.group_id, "name": group.name, "state": group.state,
                "strategy": group.strategy, "bundles": [need.plain for need in group.bundles],
                "nodes": [group.placed(index) for index in range(len(group.bundles))],
            }
            for group in groups.everything(store)
        ],
    }  # fmt: skip


def _actor(actor: directory.ActorRecord) -> dict[str, Any]:
    return {**listing.actor_row(actor), "needs": actor.meta.get("need", "")}


def show(state: Mapping[str, Any], address: str) -> None:
    """Print it as tables."""
    out = tables.console()

    def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        rows = list(rows)
        if rows:
            out.print(tables.table(title, columns, rows))

    nodes, actors = state["nodes"], state["actors"]
    out.print(f"{_count(nodes, 'node')}, {_count(actors, 'actor')} at {address}")
    table(
        "Nodes",
        ("node", "state", "has", "free", "workers", "labels"),
        (
            (
                node_id, _state(node), listing.amounts(node["total"]),
                listing.amounts(node["free"]), str(node["workers"]), _labels(node["labels"]),
            )
            for node_id, node in nodes.items()
        ),
    )  # fmt: skip
    table(
        "Devices",
        ("node", "device", "type", "free", "held by"),
        (
            (
                node_id, str(device["id"]), device["type"] or "-", f"{device['free']:g}",
                ", ".join(
                    f"{holder['worker']} ({holder['share']:g}, pid {holder['pid']})"
                    for holder in device["holders"]
                ) or "-",
            )
            for node_id, node in nodes.items() for device in node["devices"]
        ),
    )  # fmt: skip
    table(
        "Placement groups",
        ("group", "name", "state", "strategy", "bundles"),
        (
            (
                group["placement_group_id"][:8], group["name"] or "-", group["state"],
                group["strategy"],
                "; ".join(
                    f"{_plain(bundle)} on {node or 'no node yet'}"
                    for bundle, node in zip(group["bundles"], group["nodes"], strict=True)
                ),
            )
            for group in state["placement_groups"]
        ),
    )  # fmt: skip
    table(
        "Actors",
        ("actor", "state", "node", "pid", "restarts", "needs"),
        (
            (
                f"{actor['class_name']}({actor['name'] or actor['actor_id'][:8]})", actor["state"],
                actor["node_id"] or "-", str(actor["pid"] or "-"), str(actor["num_restarts"]),
                actor["needs"],
            )
            for actor in actors
        ),
    )  # fmt: skip


def _state(node: Mapping[str, Any]) -> str:
    if not node["alive"]:
        return "lost"
    return "draining" if node.get("draining") else "alive"


def _count(things: Sequence[Any] | Mapping[str, Any], what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def _plain(amounts: Mapping[str, float]) -> str:
    return described([(name, round(amount * UNIT)) for name, amount in amounts.items()])


def _labels(labels: Mapping[str, str]) -> str:
    own = {name: text for name, text in labels.items() if not name.startswith("ray.io/")}
    return ", ".join(f"{name}={text}" for name, text in own.items()) or "-"
