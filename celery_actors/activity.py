"""What goes on in a cluster: what nodes have free, how fast actors answer, what waits for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import directory, listing, lookup, tables
from .store import Store

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["Activity", "look", "plain", "shown"]

#: Actors and queues that are shown, the busiest.
_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Activity:
    """What was seen at one moment, and how fast it changed since the look before."""

    at: float  # seconds, monotonic
    nodes: list[dict[str, Any]]
    actors: list[dict[str, Any]]  # the busiest first
    queues: list[dict[str, Any]]  # of functions and creations, where something waits
    done: Mapping[str, int] = field(default_factory=dict)  # actor id -> calls answered so far


def look(store: Store, before: Activity | None = None) -> Activity:
    """Look at a cluster; rates are since the look before."""
    now = time.monotonic()
    done: dict[str, int] = {}
    actors = []
    records = directory.actors(store)
    mailboxes = store.scripts.mailboxes([record.keys for record in records])
    for record, (waiting, count) in zip(records, mailboxes, strict=True):
        done[record.actor_id] = count
        earlier = before.done.get(record.actor_id, count) if before is not None else count
        rate = (count - earlier) / (now - before.at) if before is not None else 0.0
        row = {"actor": lookup.title_of(record), **listing.actor_row(record)}
        actors.append({**row, "calls_waiting": waiting, "calls_per_second": round(rate, 1)})
    actors.sort(key=lambda row: (-row["calls_per_second"], -row["calls_waiting"], row["actor"]))
    shared = [each for each in listing.shared(store) if each["length"]]
    return Activity(now, listing.nodes(store), actors, shared, done)


def plain(seen: Activity) -> dict[str, Any]:
    """Return what was seen as plain values."""
    return {"nodes": seen.nodes, "actors": seen.actors, "queues": seen.queues}


def shown(seen: Activity, address: str) -> Group:
    """Return what was seen for a terminal."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    states: dict[str, int] = {}
    for row in seen.actors:
        states[row["state"]] = states.get(row["state"], 0) + 1
    waiting = sum(row["calls_waiting"] for row in seen.actors)
    rate = sum(row["calls_per_second"] for row in seen.actors)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
    head = f"{address}   actors: {counted}   waiting: {waiting}   actor calls/s: {rate:g}"
    nodes = tables.table(
        "", ("node", "state", "CPU free", "GPU free", "workers"),
        (
            (node["node_id"], node["state"], _share(node, "CPU"), _share(node, "GPU"),
             str(node["workers"]))
            for node in seen.nodes
        ),
    )  # fmt: skip
    actors = tables.table(
        "", ("actor", "state", "calls/s", "waiting", "restarts", "node", "pid"),
        (
            (row["actor"], row["state"], f"{row['calls_per_second']:g}",
             str(row["calls_waiting"]), str(row["num_restarts"]), row["node_id"] or "-",
             str(row["pid"] or "-"))
            for row in seen.actors[:_SHOWN]
        ),
    )  # fmt: skip
    queues = tables.table(
        "",
        ("queue", "waiting", "what"),
        ((each["queue"], str(each["length"]), each["what"]) for each in seen.queues[:_SHOWN]),
    )
    parts = [nodes, actors, *([queues] if seen.queues else [])]
    return Group(Text(head), *(Padding(part, (1, 0, 0, 0)) for part in parts))


def _share(node: Mapping[str, Any], name: str) -> str:
    has = node["resources"].get(name)
    return f"{node['available'].get(name, 0):g} of {has:g}" if has else "-"
