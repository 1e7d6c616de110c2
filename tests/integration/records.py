"""Actors as the store knows them."""

from __future__ import annotations

from typing import Any

from celery_actors import directory, runtime
from tests.integration.support import wait_until


def record_of(actor: Any) -> directory.ActorRecord:
    identity = actor._identity
    found = directory.find(runtime.current().store, identity.actor_id, identity.queue)
    assert found is not None
    return found


def wait_dead(record: directory.ActorRecord) -> None:
    store = runtime.current().store
    wait_until(
        lambda: store.run("HGET", record.keys.meta, "st") in (b"dead", b"buried"),
        f"{record.title} to end",
    )
