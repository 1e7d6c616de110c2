"""A store that speaks TLS: every process of a cluster verifies whom it talks to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

import celery_actors as ca
from celery_actors.address import Address
from celery_actors.store import Store, StoreUnreachableError, Wire
from celery_actors.store.wire import pack
from tests.integration.actors import Counter, Recorder, double
from tests.integration.stores import tls_server
from tests.integration.support import Server, node_on, run_script, wait_until

pytestmark = [pytest.mark.debian_redis, pytest.mark.own_store("is about TLS")]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Debian's Redis with TLS."""
    with tls_server() as found:
        yield found


@pytest.fixture(scope="module")
def cluster(server: Server) -> Iterator[ca.ClusterContext]:
    """A node on that server, and this driver."""
    with node_on(server):
        context = ca.init(server.url, keys=server.key)
        try:
            yield context
        finally:
            ca.shutdown()


def test_calls_values_and_celerys_tools_work_over_tls(cluster: ca.ClusterContext):
    actor = Recorder.remote()
    ca.get([actor.note.remote("me", number) for number in range(500)], timeout=30)
    assert ca.get(actor.notes_taken.remote(), timeout=20) == [["me", n] for n in range(500)]
    ref = double.remote(b"x" * 60_000)  # several records of TLS, and not yet in shared memory
    assert ca.get(ref, timeout=20) == b"x" * 120_000
    assert (ca.get(double.remote(np.ones(300_000)), timeout=20) == 2).all()
    plain = Counter.remote().add.remote(3)
    assert ca.get(plain, timeout=20) == 3
    assert cluster.app.AsyncResult(plain.id).get(timeout=10) == 3
    wait_until(
        lambda: any("node@test" in each for each in cluster.app.control.ping(timeout=0.5)),
        "the node answers Celery's remote control",
        20,
    )


def test_threads_share_one_encrypted_connection(cluster: ca.ClusterContext):
    actor = Recorder.remote()
    failed: list[Exception] = []

    def call(who: int) -> None:
        try:
            for number in range(100):
                ca.get(actor.note.remote(who, number), timeout=30)
        except ca.exceptions.RayError as error:
            failed.append(error)

    threads = [threading.Thread(target=call, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not failed
    notes = ca.get(actor.notes_taken.remote(), timeout=20)
    for who in range(8):
        assert [number for name, number in notes if name == who] == list(range(100))


def test_the_address_that_a_context_tells_is_enough_to_join(
    cluster: ca.ClusterContext, server: Server, tmp_path
):
    run = run_script(
        tmp_path,
        f"import celery_actors as ca\nfrom tests.integration.actors import double\n"
        f"with ca.init({cluster.address!r}):\n    print(ca.get(double.remote((1,)), timeout=20))\n",
        server.environment(),
    )
    assert run.stdout.split("\n")[0] == "(1, 1)", run.stderr


def test_an_encrypted_wire_ends_its_reads_when_it_is_broken(server: Server):
    address = Address.parse(server.url)
    with closing(Wire(address)) as wire, closing(Store(address)) as store:
        large = b"z" * 2_000_000
        wire.send(pack(("SET", "large", large)) + pack(("GET", "large")) + pack(("DEL", "large")))
        assert [wire.read() for _ in range(3)] == [b"OK", large, 1]
        assert wire.receive(0) == []
        number = wire.call("CLIENT", "ID")
        store.run("CLIENT", "KILL", "ID", number)
        with pytest.raises(StoreUnreachableError):
            wire.receive(10)
    with closing(Wire(address)) as wire:
        reader = threading.Timer(0.05, wire.abort)
        reader.start()
        with pytest.raises(StoreUnreachableError):
            wire.receive()
        wire.abort()
