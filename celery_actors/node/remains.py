"""What the Celery side of killed processes leaves in the store: their control mailboxes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .. import directory, routing
from ..broker.remains import control_remains
from ..need import Need
from ..store import Store

__all__ = ["forget", "forget_actor", "forget_face", "forget_shared", "host_of"]


def forget(store: Store, label: str, host: str) -> None:
    """Remove the control mailbox of a Celery worker that was killed."""
    bindings, member, queue = control_remains(routing.worker_name(label, host))
    store.run("SREM", bindings, member)
    store.run("UNLINK", queue)


def forget_actor(store: Store, actor: directory.ActorRecord, host: str) -> None:
    """The same for an actor's worker, before others may start the next one on that host."""
    name = actor.name or None
    forget(store, routing.worker_label(actor.class_name, name, actor.actor_id), host)


def forget_shared(store: Store, worker_id: str, meta: Mapping[str, str], host: str) -> None:
    """The same for a worker of functions."""
    if "needs" in meta:
        label = Need.decode(meta["needs"].encode()).label
        forget(store, routing.tasks_label(label, worker_id), host)


def host_of(store: Store, incarnation: str) -> str:
    """Return the host that a node run has told; '' where it told none."""
    about = store.run("HGET", routing.NODES, incarnation)
    return str(json.loads(about).get("host", "")) if about else ""


def forget_face(store: Store, incarnation: str, host: str) -> None:
    """The same for the process that stood for a node; another run on that host has its name."""
    listed = store.hash(routing.NODES)
    others = (json.loads(about) for name, about in listed.items() if name != incarnation)
    if host and all(about.get("host") != host for about in others):
        forget(store, routing.FACE_LABEL, host)
