"""A store that is away for a moment: what ends meanwhile is settled when it is back."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import celery_actors as ca
from celery_actors.routing import ActorKeys
from tests.integration.actors import Counter, held
from tests.integration.gates import Gate
from tests.integration.load import under_load
from tests.integration.support import (
    Node,
    Server,
    family,
    is_alive,
    join,
    node_on,
    redis_server,
    wait_all_gone,
    wait_until,
)

pytestmark = [pytest.mark.debian_redis, pytest.mark.timeout(60)]


@pytest.fixture
def lasting() -> Iterator[Server]:
    """A server that knows after a restart what it knew before."""
    words = ("--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "yes")
    with redis_server(*words) as found:
        yield found


@pytest.fixture
def node(lasting: Server) -> Iterator[Node]:
    """A node on that server, which this driver has joined."""
    with node_on(lasting) as found:
        join(lasting)
        try:
            yield found
        finally:
            ca.shutdown()


def test_an_actor_whose_process_ends_while_the_store_is_away_restarts(lasting: Server, node: Node):
    actor = Counter.options(max_restarts=-1).remote()
    pid = ca.get(actor.pid.remote(), timeout=20)
    lasting.kill()

    os.kill(pid, signal.SIGKILL)
    wait_all_gone([pid], "the actor's process has ended")
    wait_until(lambda: "is settled when" in node.log.read_text(), "the node has seen it", 5)
    lasting.start_again()

    assert ca.get(actor.add.remote(), timeout=20) == 1
    assert is_alive(node.process.pid)


def test_a_function_call_whose_process_ends_while_the_store_is_away_runs_again(
    lasting: Server, node: Node, gate: Gate
):
    ref = held.remote(gate.path)
    gate.wait_reached()
    (pid,) = gate.pids()
    lasting.kill()

    os.kill(pid, signal.SIGKILL)
    wait_all_gone([pid], "the worker's process has ended")
    wait_until(lambda: "is settled when" in node.log.read_text(), "the node has seen it", 5)
    lasting.start_again()
    gate.open()

    assert ca.get(ref, timeout=20) == "passed"
    assert is_alive(node.process.pid)


def test_an_actor_that_starts_while_the_store_is_away_waits_for_it(lasting: Server, node: Node):
    [fork_server] = [
        each for each in psutil.Process(node.process.pid).children() if each.name() == "ca-zygote"
    ]
    before = set(family(fork_server.pid))
    fork_server.suspend()
    actor = Counter.remote()
    with contextlib.closing(lasting.client()) as client:
        meta = ActorKeys(actor._identity.queue, actor._identity.actor_id).meta
        wait_until(lambda: client.hget(meta, "st") == b"starting", "the node has claimed it")
    lasting.kill()

    fork_server.resume()
    wait_until(lambda: set(family(fork_server.pid)) - before, "its process is there")
    wait_until(lambda: "does not answer" in node.log.read_text(), "the node misses the store")
    lasting.start_again()

    assert ca.get(actor.add.remote(), timeout=20) == 1


def test_a_server_that_sleeps_and_restarts_with_its_append_only_file(
    lasting: Server, tmp_path: Path
):
    with node_on(lasting, cpus=4) as node, join(lasting):
        actor = Counter.remote()
        assert ca.get(actor.add.remote(), timeout=20) == 1
        with under_load(tmp_path, calls=1000) as load:
            for turn in range(1, 6):
                load.wait_done(turn * load.total // 7)
                if turn % 2:
                    lasting.kill()
                    lasting.start_again()
                else:
                    with contextlib.closing(lasting.client()) as client:
                        client.execute_command("DEBUG", "SLEEP", "0.5")
        assert ca.get(actor.add.remote(), timeout=20) == 2, "no actor has lost its state"
        assert is_alive(node.process.pid)
