"""How a node begins, pauses and ends by itself: modules imported beforehand, a dead fork server."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest

import celery_actors as ca
from tests.integration.actors import Counter
from tests.integration.gates import Gate
from tests.integration.support import Server, family, join, node_on, wait_all_gone

pytestmark = pytest.mark.timeout(90)


def fork_server(node: int) -> int:
    """Return the process from which a node forks its workers."""
    (found,) = [child.pid for child in psutil.Process(node).children() if child.children()]
    return found


@pytest.mark.debian_redis
def test_workers_find_modules_that_the_node_imported_beforehand(server: Server):
    @ca.remote
    def is_there(module: str) -> bool:
        return module in sys.modules

    with node_on(server, "--preload", "colorsys"), join(server):
        assert ca.get([is_there.remote("colorsys"), is_there.remote("chess")], timeout=20) == [
            True,
            False,
        ]


@pytest.mark.debian_redis
def test_a_node_whose_fork_server_dies_ends_and_the_next_one_takes_over(server: Server):
    with node_on(server, name="first") as node, join(server):
        actor = Counter.options(max_restarts=-1).remote()
        assert ca.get(actor.add.remote(), timeout=10) == 1
        below = family(node.process.pid)

        os.kill(fork_server(node.process.pid), signal.SIGKILL)

        node.process.wait(20)
        wait_all_gone(below, "its workers have ended")
        assert "the fork server ended" in node.log.read_text()
        refs = [actor.add.remote() for _ in range(3)]
        with node_on(server, name="second"):
            assert ca.get(refs, timeout=20) == [1, 2, 3]
            ca.kill(actor)


def test_a_driver_takes_no_node_for_lost_that_is_only_late(gate: Gate):
    with ca.init(num_cpus=1):
        actor = Counter.remote()
        running = actor.hold.remote(gate.path)
        gate.wait_reached()
        node = ca.nodes()[0]["pid"]
        os.kill(node, signal.SIGSTOP)  # as if it got no turn for longer than its lease lasts
        try:
            with pytest.raises(ca.GetTimeoutError):
                ca.get(running, timeout=4.5)  # looks after the nodes every two seconds
        finally:
            os.kill(node, signal.SIGCONT)
        gate.open()

        assert ca.get([running, actor.add.remote()], timeout=20) == ["passed", 1]
