from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from celery_actors import groups
from celery_actors.calls import Target
from celery_actors.config import Address, KeyRing
from celery_actors.runtime import Runtime
from celery_actors.serialization import Sealer
from celery_actors.store import Store
from tests.unit.store.records import StoredActor

# Two shared cores: an example may take long without being wrong.
settings.register_profile("unit", deadline=None, print_blob=True)
settings.load_profile("unit")

RING = KeyRing((b"\x01" * 32,))


@pytest.fixture(autouse=True)
def _in_one_cluster() -> None:
    """No test finds the process in several clusters because of another one."""
    sys.modules[Runtime.__module__]._several = False  # type: ignore[attr-defined] # a module's own


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(RING)


@pytest.fixture
def address(valkey_address: str) -> Address:
    """A database of the unit tests' own: other tests use database 0 of the same server."""
    return Address.parse(f"{valkey_address}?db=1")


@pytest.fixture
def store(address: Address) -> Iterator[Store]:
    """A client of an empty database."""
    client = Store(address)
    client.run("FLUSHDB")
    yield client
    client.run("FLUSHDB")
    client.close()


@pytest.fixture
def runtime(address: Address, store: Store) -> Iterator[Runtime]:
    """A driver's runtime without a cluster around it."""
    found = Runtime(address, RING, namespace="default", node_id="")
    yield found
    found.close()


@pytest.fixture
def actor(store: Store) -> StoredActor:
    found = StoredActor(store)
    found.create()
    return found


@pytest.fixture
def target(runtime: Runtime, actor: StoredActor) -> Target:
    return runtime.calls.actor(actor.keys.queue, actor.actor_id, "actor Counter(counter)")


@pytest.fixture
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no attempt to place a group, and no pause after one, be over by itself."""
    monkeypatch.setattr(groups, "ANSWER_MS", 60_000)
    monkeypatch.setattr(groups, "PAUSE_MS", 60_000)
