"""What a cluster has, as plain values: actors, nodes and queues; ``waiting`` has the calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import directory, inventory, lookup, registry, routing
from .need import Need, described
from .options import FunctionOptions
from .store import Store
from .unreadable import UNREADABLE

__all__ = [
    "actor_row",
    "actors",
    "amounts",
    "node_row",
    "nodes",
    "queues",
    "shared",
    "shared_queues",
]

#: States in which a record's cause is that of the state, not of a restart before.
_ENDED = ("DEAD", "FROZEN")


def actors(store: Store, dead: int = 100) -> list[dict[str, Any]]:
    """Return every living actor, and the newest of the dead that are remembered."""
    known = directory.actors(store)
    ids = {record.actor_id for record in known}
    gone = [record for record in directory.buried(store) if record.actor_id not in ids]
    return [actor_row(record) for record in (*known, *gone[:dead])]


def actor_row(actor: directory.ActorRecord) -> dict[str, Any]:
    """Return what a list says of an actor."""
    meta = actor.meta
    return {
        "actor_id": actor.actor_id, "class_name": actor.class_name, "name": actor.name,
        "namespace": meta.get("namespace", ""), "state": actor.state,
        "node_id": meta.get("node", ""), "pid": int(meta.get("pid", 0)),
        "num_restarts": int(meta["restarts"]),
        "death_cause": meta.get("cause", "") if actor.state in _ENDED else "",
        "queue": meta["queue"],
    }  # fmt: skip


def nodes(store: Store) -> list[dict[str, Any]]:
    """Return every run of a node that the store knows."""
    return [node_row(record) for record in registry.records(store)]


def node_row(record: registry.NodeRecord) -> dict[str, Any]:
    """Return what a list says of a node; amounts are plain numbers, memory in bytes."""
    about = record.about
    state = ("draining" if record.draining else "alive") if record.alive else "lost"
    return {
        "node_id": record.node_id, "host": about["host"], "ip": about["ip"], "pid": about["pid"],
        "state": state, "workers": about["workers"],
        "resources": inventory.plain(registry.shown(about["total"])),
        "available": inventory.plain(registry.shown(about["free"])),
        "labels": record.labels, "devices": inventory.devices_of(record),
    }  # fmt: skip


def amounts(units: Mapping[str, int]) -> str:
    """Return amounts of a node for people, without what only marks it."""
    return described(tuple(registry.shown(units).items()))


def queues(store: Store) -> list[dict[str, Any]]:
    """Return the queues of the cluster: how much waits in each, and what it is for.

    Those of actors, also empty ones, and those of functions and creations under which something
    waits; the calls that nobody could read, where there are any.
    """
    found = [
        _queue(store, record.keys.queue, "actor", f"calls of {lookup.title_of(record)}",
               record.actor_id)
        for record in directory.actors(store)
    ]  # fmt: skip
    found += shared(store)
    letters = _queue(
        store, routing.DEAD_LETTERS, "dead letters", "messages that could not be read, as JSON"
    )
    return [*found, letters] if letters["length"] else found


def shared(store: Store) -> list[dict[str, Any]]:
    """Return the queues that nodes take from: of functions, and of creations."""
    return [_queue(store, name, kind, what) for name, kind, what in shared_queues(store)]


def _queue(store: Store, name: str, kind: str, what: str, actor_id: str = "") -> dict[str, Any]:
    length = int(store.run("LLEN", name))
    return {"queue": name, "kind": kind, "length": length, "what": what, "actor_id": actor_id}


def shared_queues(store: Store) -> Iterator[tuple[str, str, str]]:
    """Yield name, kind and purpose of the queues that nodes take from, by what work needs."""
    usual = FunctionOptions().need
    known = {usual.label: usual.encode(), **store.hash(routing.NEEDS)}
    for label, text in sorted(known.items()):
        try:
            need = described(Need.decode(text).amounts)
        except UNREADABLE:
            need = "something that cannot be read"
        yield routing.shared_queue(label), "functions", f"calls of functions that need {need}"
        yield routing.creation_queue(label), "creations", f"actors to start that need {need}"
