"""Every test here runs on real servers: the embedded Valkey and Debian's Redis."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import celery_actors as ca
from celery_actors.store import client as client_module
from tests import prefixed
from tests.integration import matrix
from tests.integration.actors import Recorder
from tests.integration.gates import Gate
from tests.integration.rabbitmq import rabbitmq
from tests.integration.strangers import Target
from tests.integration.support import Cluster, Server, redis_server, running

if prefixed.IN_FORCE:  # tests do to the store of their own driver what the package never does
    client_module.prefix_of = prefixed.open_prefix_of

STORES = ["valkey", pytest.param("redis", marks=pytest.mark.debian_redis)]
if matrix.KIND:
    STORES = ["valkey" if matrix.KIND == "valkey" else STORES[1]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests that are about a store of their own, where another serves everything."""
    for item in items:
        if matrix.KIND and (found := item.get_closest_marker("own_store")):
            reason = f"not over {matrix.KIND}: it {found.args[0]}"
            item.add_marker(pytest.mark.skip(reason=reason))
        found = item.get_closest_marker("not_over")
        if found and found.args[0] == matrix.KIND:
            item.add_marker(pytest.mark.skip(reason=f"not over {matrix.KIND}: {found.args[1]}"))


@pytest.fixture(autouse=True)
def _served(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Say in the report whether what served the test was what serves all: `make brokers` counts."""
    before = matrix.begun
    yield
    record_property("served", "yes" if matrix.live or matrix.begun > before else "no")


@pytest.fixture(scope="session", autouse=True)
def _broker() -> Iterator[None]:
    """What all tests share: the certificates, or the broker where that is not their store."""
    if matrix.KIND == "tls":
        matrix.certificates()  # now: tests look at what files they leave behind
    if matrix.KIND != "rabbitmq":
        yield
        return
    with rabbitmq() as matrix.broker:
        yield
        for app in [*matrix.apps]:
            matrix.close(app)


@pytest.fixture(scope="module", params=STORES)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of two CPUs that the tests of a module share; it must leave nothing behind."""
    with running(request.param) as found:
        yield found


@pytest.fixture(scope="module", params=STORES)
def single_cpu(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with one CPU."""
    with running(request.param, cpus=1) as found:
        yield found


@pytest.fixture(scope="module", params=STORES)
def with_gpus(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with four CPUs and four logical GPUs."""
    with running(request.param, cpus=4, gpus=4) as found:
        yield found


@pytest.fixture(scope="module", params=STORES)
def watched(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster that sends an event for every call."""
    with running(request.param, task_events=True) as found:
        yield found


@pytest.fixture
def server() -> Iterator[Server]:
    """Debian's Redis alone: the test starts its nodes and drivers."""
    with redis_server() as found:
        yield found


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A gate at which a method waits for the test."""
    return Gate(tmp_path)


@pytest.fixture
def target(cluster: Cluster) -> Iterator[Target]:
    """An actor whose queue a stranger can reach."""
    name = f"target-{uuid.uuid4()}"
    actor = Recorder.options(name=name).remote()
    ca.get(actor.notes_taken.remote(), timeout=10)
    with cluster.client() as client:
        yield Target(actor, ca.actor_queue(cluster.context.namespace, name), client)
    ca.kill(actor)
