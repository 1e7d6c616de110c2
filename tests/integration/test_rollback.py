"""A store that has lost writes: who had seen them is told so, and nothing is silently mixed up."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import celery_actors as ca
from celery_actors import runtime
from celery_actors.exceptions import StoreRolledBackError
from tests.integration.actors import Counter, Recorder, Scribe, double, held
from tests.integration.gates import Gate
from tests.integration.stores import Replicated, replicated
from tests.integration.support import (
    Node,
    Server,
    is_alive,
    join,
    node_on,
    redis_server,
    wait_until,
)
from tests.integration.test_durable_nodes import Tally

pytestmark = [pytest.mark.debian_redis, pytest.mark.timeout(90)]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that after a restart knows what `remember` has written down, and no more."""
    with redis_server() as found:
        yield found


@pytest.fixture
def node(server: Server) -> Iterator[Node]:
    """A node on that server, which this driver has joined."""
    with node_on(server) as found:
        join(server)
        try:
            yield found
        finally:
            ca.shutdown()


def acknowledged() -> None:
    """Wait until this driver knows that its calls were accepted; else it sends them again."""
    runtime.current().calls.settle()


def remember(server: Server) -> None:
    with contextlib.closing(server.client()) as client:
        client.save()


def roll_back(server: Server) -> None:
    """Have the server forget everything since `remember`."""
    server.kill()
    server.start_again()


def test_a_caller_and_its_actor_are_told_and_then_go_on(server: Server, node: Node):
    actor = Counter.options(max_restarts=-1).remote()
    pid = ca.get(actor.pid.remote(), timeout=20)
    assert ca.get(actor.add.remote(), timeout=20) == 1
    remember(server)
    assert ca.get([actor.add.remote() for _ in range(10)], timeout=20)[-1] == 11

    roll_back(server)

    with pytest.raises(StoreRolledBackError, match=r"calls of this process to actor Counter"):
        ca.get(actor.add.remote(), timeout=30)
    # The actor was ahead of the store, so it has started anew, without a state.
    assert ca.get(actor.add.remote(), timeout=30) == 1
    assert ca.get(actor.pid.remote(), timeout=20) != pid
    assert not is_alive(pid)
    wait_until(
        lambda: "the store has lost writes" in node.log.read_text(), "the node's log says so"
    )
    assert is_alive(node.process.pid)


def test_calls_that_wait_or_run_and_are_forgotten_fail_and_older_ones_do_not(
    server: Server, node: Node, gate: Gate, tmp_path: Path
):
    scribe = Scribe.options(max_restarts=-1, max_task_retries=-1).remote(str(tmp_path / "journal"))
    running = scribe.hold.remote(gate.path)
    known = [scribe.write.remote(f"known-{number}") for number in range(5)]
    gate.wait_reached()
    remember(server)
    forgotten = [scribe.write.remote(f"forgotten-{number}") for number in range(5)]
    acknowledged()

    roll_back(server)
    gate.open()

    for ref in forgotten:
        with pytest.raises(StoreRolledBackError):
            ca.get(ref, timeout=30)
    assert ca.get(known, timeout=30) == [f"known-{number}" for number in range(5)]
    assert ca.get(running, timeout=20) == "passed"
    assert not [w for w in (tmp_path / "journal").read_text().split() if w.startswith("forgotten")]


def test_an_actor_without_restarts_dies_of_it_with_the_cause(server: Server, node: Node):
    actor = Counter.remote()
    assert ca.get(actor.add.remote(), timeout=20) == 1
    remember(server)
    assert ca.get(actor.add.remote(), timeout=20) == 2

    roll_back(server)

    with pytest.raises(StoreRolledBackError):
        ca.get(actor.add.remote(), timeout=30)
    with pytest.raises(ca.ActorDiedError, match="the store has lost writes: its position is 1"):
        ca.get(actor.add.remote(), timeout=30)


def test_a_call_that_runs_in_a_forgotten_place_leaves_no_result_in_anothers(
    server: Server, node: Node, gate: Gate, tmp_path: Path
):
    """The running call is forgotten; one that comes meanwhile has its position in the queue."""
    scribe = Scribe.options(max_restarts=-1, name="scribe").remote(str(tmp_path / "journal"))
    ca.get(scribe.pid.remote(), timeout=20)
    remember(server)
    running = scribe.hold.remote(gate.path)
    gate.wait_reached()
    acknowledged()

    server.kill()
    os.kill(node.process.pid, signal.SIGSTOP)  # nobody settles anything before the other call is in
    try:
        server.start_again()
        with pytest.raises(StoreRolledBackError):
            ca.get(running, timeout=30)
        other = scribe.write.remote("other")
        ca.wait([other], timeout=0)
    finally:
        os.kill(node.process.pid, signal.SIGCONT)
    gate.open()

    assert ca.get(other, timeout=30) == "other"
    assert ca.get(scribe.write.remote("after"), timeout=30) == "after"
    written = (tmp_path / "journal").read_text().split()
    assert written == [f"hold-{Path(gate.path).name}", "other", "after"]


@pytest.mark.parametrize("restarts", [0, -1])
def test_calls_that_overlapped_are_told_too(
    server: Server, node: Node, gate: Gate, tmp_path: Path, restarts: int
):
    actor = Scribe.options(max_concurrency=2, max_restarts=restarts).remote(
        str(tmp_path / "journal")
    )
    ca.get(actor.pid.remote(), timeout=20)
    first, second = Gate(tmp_path, "first"), Gate(tmp_path, "second")
    known = actor.hold.options(max_task_retries=0).remote(first.path)
    first.wait_reached()
    remember(server)
    forgotten = actor.hold.remote(second.path)
    second.wait_reached()
    acknowledged()

    roll_back(server)
    first.open()
    second.open()

    with pytest.raises(StoreRolledBackError):
        ca.get(forgotten, timeout=30)
    with contextlib.suppress(StoreRolledBackError, ca.ActorDiedError):
        assert ca.get(known, timeout=30) == "passed"
    journal = (tmp_path / "journal").read_text().split()
    assert sorted(journal) == ["hold-first", "hold-second"], "neither has run twice"


def test_functions_and_their_callers_are_told_and_go_on(server: Server, node: Node, gate: Gate):
    running = held.remote(gate.path)
    gate.wait_reached()
    remember(server)
    other = Gate(Path(gate.path).parent, "other")
    forgotten = held.remote(other.path)
    other.wait_reached()
    waiting = [double.remote((number,)) for number in range(3)]
    acknowledged()

    roll_back(server)
    gate.open()
    other.open()

    assert ca.get(running, timeout=30) == "passed"
    for ref in (forgotten, *waiting):
        with pytest.raises(StoreRolledBackError, match="calls of this process to"):
            ca.get(ref, timeout=30)
    assert ca.get(double.remote((1,)), timeout=30) == (1, 1)


def test_a_store_that_has_forgotten_everything_ends_every_wait_and_its_nodes(
    server: Server, node: Node, gate: Gate
):
    actor = Counter.options(max_restarts=-1).remote()
    running = actor.hold.remote(gate.path)
    waiting = actor.add.remote()
    assert ca.get(double.remote((1,)), timeout=20) == (1, 1)
    gate.wait_reached()
    acknowledged()

    roll_back(server)  # nothing was written down

    for ref in (running, waiting):
        with pytest.raises(StoreRolledBackError):
            ca.get(ref, timeout=30)
    assert node.process.wait(20) == 1
    assert "or the store lost writes" in node.log.read_text()
    with pytest.raises(ca.ActorDiedError, match="is not known to this store"):
        ca.get(actor.add.remote(), timeout=20)
    with node_on(server, name="next"):
        with pytest.raises(StoreRolledBackError):  # one call of a function is forgotten, too
            ca.get(double.remote((1,)), timeout=30)
        assert ca.get(double.remote((1,)), timeout=30) == (1, 1)
        assert ca.get(Counter.remote().add.remote(), timeout=30) == 1


@pytest.mark.slow
def test_a_failover_to_a_replica_that_was_behind_is_told_as_such():
    with replicated(sentinels=1) as store, node_on(store), join(store):
        actor = Counter.options(max_restarts=-1).remote()
        assert ca.get(actor.add.remote(), timeout=20) == 1
        store.wait_replicated()
        old = store.primary()
        leave_behind(store, old)
        assert ca.get([actor.add.remote() for _ in range(10)], timeout=20)[-1] == 11

        store.signal(old, signal.SIGKILL)
        for process in store.sentinels.values():
            process.send_signal(signal.SIGCONT)
        store.wait_failed_over(old)

        with pytest.raises(StoreRolledBackError):
            ca.get(actor.add.remote(), timeout=60)
        assert ca.get(actor.add.remote(), timeout=30) == 1


def leave_behind(store: Replicated, primary: int) -> None:
    """Let the replica follow no more, and nobody notice."""
    for process in store.sentinels.values():
        process.send_signal(signal.SIGSTOP)
    (replica,) = [port for port in store.servers if port != primary]
    with contextlib.closing(store.at(replica)) as client:
        client.replicaof("127.0.0.1", 1)  # a primary that nobody has ever seen


@pytest.mark.parametrize("durable", ["state", "journal"])
def test_a_store_that_has_lost_writes_takes_state_and_results_back_together(
    server: Server, node: Node, durable: str
):
    tally = Tally.options(durable=durable).remote(Recorder.remote())
    assert ca.get([tally.add.remote() for _ in range(5)], timeout=20)[-1] == 5
    remember(server)
    assert ca.get([tally.add.remote() for _ in range(5)], timeout=20)[-1] == 10

    roll_back(server)

    with pytest.raises(StoreRolledBackError, match=r"calls of this process to actor Tally"):
        ca.get(tally.add.remote(), timeout=30)
    assert ca.get([tally.add.remote() for _ in range(5)], timeout=30) == [6, 7, 8, 9, 10]
