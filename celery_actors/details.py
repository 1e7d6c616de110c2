"""One actor, node, call or queue in full, as plain values: what ``celery_actors get`` shows."""

from __future__ import annotations

from typing import Any

from . import directory, listing, lookup, registry, routing, waiting_calls
from .errors import NotFoundError
from .messages import Meta, decode_meta
from .need import Need, described
from .serialization import SEALED
from .store import Store
from .unreadable import UNREADABLE

__all__ = ["find"]

#: How many calls of a queue are shown.
_SHOWN = 20


def find(store: Store, name: str, namespace: str | None = None) -> dict[str, Any]:
    """Return what is known of a thing by its name or id, with its ``kind``.

    Raises:
        NotFoundError: there is no such thing, or several actors may be meant.
    """
    for look in (_node, _queue, _call):
        found = look(store, name)
        if found is not None:
            return found
    try:
        return _actor(store, lookup.find_actor(store, name, namespace))
    except NotFoundError as error:
        raise NotFoundError(f"{error}; nor is it a node, a queue or a call") from None


def _actor(store: Store, record: directory.ActorRecord) -> dict[str, Any]:
    meta, keys = record.meta, record.keys
    lives = record.state != "DEAD"
    return {
        "kind": "actor", **listing.actor_row(record), "needs": _needs(meta.get("needs", "")),
        "max_restarts": int(meta.get("max_restarts", 0)),
        "max_task_retries": int(meta.get("max_task_retries", 0)),
        "durable": meta.get("durable", ""), "detached": not meta.get("bye") and lives,
        "last_cause": meta.get("cause", ""), "calls_done": int(meta["ap"]),
        "calls_waiting": int(store.run("LLEN", keys.queue)) + int(store.run("HLEN", keys.parked)),
        "job": meta.get("job", ""), "epoch": int(meta["ep"]),
        "reminders": sorted(store.hash(keys.reminders)),
    }  # fmt: skip


def _node(store: Store, name: str) -> dict[str, Any] | None:
    found = [record for record in registry.records(store) if record.node_id == name]
    if not found:
        try:
            found = [lookup.find_node(store, name)]
        except NotFoundError:
            return None
    (record,) = found
    here = [actor for actor in directory.actors(store) if actor.incarnation == record.node_id]
    return {
        "kind": "node", **listing.node_row(record), "hostname": record.about["hostname"],
        "actors": [f"{lookup.title_of(actor)} {actor.actor_id}" for actor in here],
    }  # fmt: skip


def _queue(store: Store, name: str) -> dict[str, Any] | None:
    known = next((each for each in listing.queues(store) if each["queue"] == name), None)
    if known is None:
        return None
    described_by = {**known, "kind": "queue", "purpose": known["kind"]}
    calls = waiting_calls.calls_in(store, name, _SHOWN)
    shown = [f"{call['call_id']} {call['task']} {call['state']}" for call in calls]
    return {**described_by, "calls": shown}


def _call(store: Store, call_id: str) -> dict[str, Any] | None:
    raw = store.get(routing.result_key(call_id))
    if raw is None:
        found = waiting_calls.find(store, call_id)
        return {"kind": "call", **found} if found is not None else None
    try:
        meta = decode_meta(raw)
    except UNREADABLE:
        return None
    return {
        "kind": "call", "call_id": call_id, "state": meta.status, "result": _shown(meta),
        "traceback": meta.traceback,
        "expires_in_seconds": max(0, int(store.run("TTL", routing.result_key(call_id)))),
    }  # fmt: skip


def _shown(meta: Meta) -> str:
    """Return a result as text: nothing is unpickled to be looked at."""
    raw = bytes(meta.result)
    return f"a signed value of {len(raw)} bytes" if raw.startswith(SEALED) else raw.decode()


def _needs(text: str) -> str:
    try:
        return described(Need.decode(text).amounts) if text else ""
    except UNREADABLE:
        return ""
