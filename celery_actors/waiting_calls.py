"""The calls that wait or run, in the order of their queues, as plain values.

What is told is what the store knows: calls stay in their queue until their results are stored. So
the oldest runs, or is about to, or has just run; a worker marks how far it reads ahead, not more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from . import directory, listing, registry, routing
from .errors import DeadLetterError
from .lookup import title_of
from .messages import outline
from .store import Store

__all__ = ["calls", "calls_in"]

#: How many calls of one queue are looked at when one is searched.
SEARCHED = 10_000


def calls(store: Store, limit: int) -> list[dict[str, Any]]:
    """Return calls that run or wait: those of actors, then of functions; at most ``limit``."""
    return list(islice(_everywhere(store, limit), limit))


def calls_in(store: Store, queue: str, limit: int) -> list[dict[str, Any]]:
    """Return the calls of one queue, the next one first."""
    for record in directory.actors(store):
        if record.keys.queue == queue:
            return list(islice(_of_actor(store, record, limit), limit))
    return list(_in_line(store, queue, limit))


def find(store: Store, call_id: str) -> dict[str, Any] | None:
    """Return a call that runs or waits by its id."""
    found = _everywhere(store, SEARCHED)
    return next((call for call in found if call["call_id"] == call_id), None)


def _everywhere(store: Store, limit: int) -> Iterator[dict[str, Any]]:
    for record in directory.actors(store):
        yield from _of_actor(store, record, limit)
    for node in registry.records(store):
        for worker in store.texts("SMEMBERS", routing.owned_key(node.node_id)):
            if worker.startswith("w-"):
                yield from _taken(store, worker, limit)
    for queue, kind, _ in listing.shared_queues(store):
        if kind == "functions":
            yield from _in_line(store, queue, limit)


def _in_line(store: Store, queue: str, limit: int) -> Iterator[dict[str, Any]]:
    for place, raw in enumerate(_oldest(store, queue, limit), 1):
        yield _call(raw, "WAITING", queue, place)


def _of_actor(store: Store, record: directory.ActorRecord, limit: int) -> Iterator[dict[str, Any]]:
    keys, about = record.keys, {"actor_id": record.actor_id, "actor": title_of(record)}
    parked = sorted(store.texts("HKEYS", keys.parked), key=int)
    messages = store.run("HMGET", keys.parked, *parked) if parked else []
    overlap = record.meta.get("concurrent") == "1"
    marked = set(store.texts("SMEMBERS", keys.begun))
    # Where no restart could repeat a call, none is marked: calls that overlap run all at once.
    all_run = overlap and record.meta.get("max_restarts", "0") == "0"
    for position, raw in zip(parked, messages, strict=True):
        if raw is not None:  # it has ended meanwhile
            state = "RUNNING" if all_run or position in marked else "WAITING"
            yield {**_call(raw, state, keys.queue, 0), **about}
    runs = not overlap and record.state == "ALIVE"
    for place, raw in enumerate(_oldest(store, keys.queue, limit), 1):
        state = "RUNNING" if runs and place == 1 else "WAITING"
        yield {**_call(raw, state, keys.queue, place), **about}


def _taken(store: Store, worker: str, limit: int) -> Iterator[dict[str, Any]]:
    """Yield the calls that a worker of functions has taken from its queue: it runs the oldest."""
    keys = routing.worker_keys(worker)
    meta = store.hash(keys.meta)
    for place, raw in enumerate(_oldest(store, keys.queue, limit), 1):
        yield _call(raw, "RUNNING" if place == 1 else "WAITING", meta.get("source", ""), place)


def _oldest(store: Store, queue: str, limit: int) -> Iterable[bytes]:
    return reversed(store.run("LRANGE", queue, -limit, -1)) if limit else ()


def _call(raw: bytes, state: str, queue: str, place: int) -> dict[str, Any]:
    """Return what a list says of a call; ``place`` 1 is the next, 0 is out of line."""
    call: dict[str, Any] = {
        "call_id": "", "task": "", "state": state, "queue": queue, "place": place, "actor_id": "",
        "actor": "", "caller": "", "retries": 0,
    }  # fmt: skip
    try:
        message = outline(raw)
    except DeadLetterError as error:
        return {**call, "task": f"unreadable: {error}"}
    return {
        **call, "call_id": message.call_id, "task": message.options.name or message.task,
        "caller": message.tag.caller, "retries": message.retries,
    }  # fmt: skip
