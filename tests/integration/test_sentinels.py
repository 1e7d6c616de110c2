"""A store with a replica and sentinels: calls go on where the new primary is."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

import celery_actors as ca
from celery_actors.address import Address
from tests.integration.actors import Counter, Scribe, double, held
from tests.integration.gates import Gate
from tests.integration.matrix import NAME
from tests.integration.stores import Replicated, replicated
from tests.integration.support import Node, is_alive, node_on, wait_until

pytestmark = [
    pytest.mark.debian_redis,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.own_store("is about failovers"),
]


@pytest.fixture
def store() -> Iterator[Replicated]:
    """A primary, a replica and three sentinels."""
    with replicated() as found:
        yield found


@pytest.fixture
def node(store: Replicated) -> Iterator[Node]:
    """A node on that store, which this driver has joined."""
    with node_on(store) as found:
        ca.init(store.url, keys=store.key)
        try:
            yield found
        finally:
            ca.shutdown()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_cluster_is_joined_by_its_sentinels_in_our_form_and_in_celerys(tls: bool):
    with replicated(tls=tls, sentinels=1) as store, node_on(store):
        ours = ca.init(store.url, keys=store.key)
        with ours:
            actor = Counter.remote()
            ref = actor.add.remote(2)
            assert ca.get([ref, double.remote((1,))], timeout=20) == [2, (1, 1)]
            assert ours.app.AsyncResult(ref.id).get(timeout=10) == 2
            wait_until(
                lambda: any("node@test" in each for each in ours.app.control.ping(timeout=0.5)),
                "the node answers Celery's remote control",
                20,
            )
        app = Celery(broker=f"sentinel://127.0.0.1:{next(iter(store.sentinels))}/0")
        app.conf.broker_transport_options = {"master_name": NAME}
        if tls:
            app.conf.broker_use_ssl = {"ssl_ca_certs": str(store.folder / "ca.pem")}
        with ca.init(app=app, keys=store.key) as theirs:
            assert ca.get(double.remote((1,)), timeout=20) == (1, 1)
        assert theirs.address == ours.address == Address.parse(store.url).url


def test_calls_go_on_after_the_primary_is_killed(
    store: Replicated, node: Node, gate: Gate, tmp_path: Path
):
    journal = tmp_path / "journal"
    scribe = Scribe.options(max_restarts=-1).remote(str(journal))
    pid = ca.get(scribe.pid.remote(), timeout=20)
    running, function = scribe.hold.remote(gate.path), held.remote(gate.path)
    waiting = [scribe.write.remote(str(number)) for number in range(200)]
    gate.wait_reached(times=2)
    store.wait_replicated()
    old = store.primary()

    store.signal(old, signal.SIGKILL)
    meanwhile = [scribe.write.remote(str(number)) for number in range(200, 300)]
    store.wait_failed_over(old)
    gate.open()

    assert ca.get([running, function], timeout=60) == ["passed"] * 2
    assert ca.get(waiting + meanwhile, timeout=60) == [str(number) for number in range(300)]
    assert journal.read_text().split()[1:] == [str(number) for number in range(300)]
    assert ca.get(scribe.pid.remote(), timeout=20) == pid, "the actor lived on"
    assert is_alive(node.process.pid)
    assert ca.get(double.remote((1,)), timeout=20) == (1, 1)


def test_a_primary_that_hangs_is_left_for_the_new_one_and_what_it_still_says_does_not_count(
    store: Replicated, node: Node, gate: Gate, tmp_path: Path
):
    journal = tmp_path / "journal"
    scribe = Scribe.options(max_restarts=-1).remote(str(journal))
    running = scribe.hold.remote(gate.path)
    waiting = [scribe.write.remote(str(number)) for number in range(100)]
    gate.wait_reached()
    store.wait_replicated()
    old = store.primary()

    store.signal(old, signal.SIGSTOP)
    try:
        meanwhile = [scribe.write.remote(str(number)) for number in range(100, 110)]
        new = store.wait_failed_over(old)
        gate.open()
        assert ca.get(running, timeout=60) == "passed"
        assert ca.get(waiting + meanwhile, timeout=60) == [str(number) for number in range(110)]
    finally:
        store.signal(old, signal.SIGCONT)

    wait_until(lambda: store.role(old) == "slave", "the old primary follows the new one", 30)
    assert ca.get(scribe.write.remote("after"), timeout=20) == "after"
    assert journal.read_text().split()[1:] == [*(str(number) for number in range(110)), "after"]
    with contextlib.closing(store.at(new)) as client:
        assert client.info("replication")["connected_slaves"] == 1
    assert is_alive(node.process.pid)


def test_celerys_tools_see_the_workers_again_after_a_failover(store: Replicated, node: Node):
    actor = Counter.remote()
    assert ca.get(actor.add.remote(), timeout=20) == 1
    context = ca.init(store.url, keys=store.key, ignore_reinit_error=True)

    def seen() -> set[str]:
        with context.app.connection_for_write() as asking:  # one that knows who is primary now
            try:
                answers = context.app.control.ping(timeout=0.5, connection=asking)
            except asking.connection_errors:
                return set()
        return {name for each in answers for name in each}

    before = wait_until(lambda: len(seen()) >= 2 and seen(), "the node and its workers answer", 30)
    store.wait_replicated()
    old = store.primary()
    store.signal(old, signal.SIGKILL)
    store.wait_failed_over(old)

    wait_until(lambda: before <= seen(), "all of them answer on the new primary", 60)
