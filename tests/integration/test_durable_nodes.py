"""Durable actors whose node or store goes: the state comes back with what was committed, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.testing import kill_worker
from tests.integration.actors import Recorder, pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Node, Server, family, join, node_on, redis_server

pytestmark = [pytest.mark.debian_redis, pytest.mark.timeout(90)]

WAYS = pytest.mark.parametrize("durable", ["state", "journal"])


@ca.remote(durable=True, num_cpus=0)
class Tally:
    """Counts, and tells a recorder of each count."""

    def __init__(self, recorder: Any) -> None:
        self.recorder = recorder
        self.count = 0

    def add(self) -> int:
        self.count += 1
        self.recorder.note.remote("tally", self.count)
        return self.count

    def add_at(self, gate: str) -> int:
        count = self.add()
        ca.ctx.run(pass_gate, gate)
        return count

    def pid(self) -> int:
        return ca.ctx.run(os.getpid)


@pytest.fixture
def lasting() -> Iterator[Server]:
    """A server that knows after a restart what it knew before."""
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as found:
        yield found


@pytest.fixture
def nodes(lasting: Server) -> Iterator[list[Node]]:
    """Two nodes on that server, which this driver has joined."""
    with node_on(lasting, name="one") as one, node_on(lasting, name="two") as two:
        join(lasting)
        try:
            yield [one, two]
        finally:
            ca.shutdown()


def told(recorder: Any) -> list[int]:
    return [count for _, count in ca.get(recorder.notes_taken.remote(), timeout=30)]


def node_of(actor: Any, nodes: list[Node]) -> Node:
    pid = ca.get(actor.pid.remote(), timeout=20)
    return next(node for node in nodes if pid in family(node.process.pid))


@WAYS
def test_the_actor_of_a_killed_node_goes_on_elsewhere(nodes: list[Node], durable: str):
    recorder = Recorder.options(max_restarts=0).remote()
    home = node_of_recorder(recorder, nodes)
    tally = Tally.options(durable=durable).remote(recorder)
    while node_of(tally, nodes) is home:  # the recorder must live on
        tally = Tally.options(durable=durable).remote(recorder)
    assert ca.get([tally.add.remote() for _ in range(20)], timeout=20)[-1] == 20
    waiting = [tally.add.remote() for _ in range(20)]

    node_of_now = next(node for node in nodes if node is not home)
    node_of_now.kill()

    assert ca.get([*waiting, tally.add.remote()], timeout=40) == list(range(21, 42))
    assert told(recorder) == list(range(1, 42))


def node_of_recorder(recorder: Any, nodes: list[Node]) -> Node:
    ca.get(recorder.notes_taken.remote(), timeout=20)
    pid = ca.get(recorder.__ray_call__.remote(lambda _self: os.getpid()), timeout=20)
    return next(node for node in nodes if pid in family(node.process.pid))


@WAYS
def test_a_paused_node_that_comes_back_finds_its_actor_elsewhere(
    nodes: list[Node], durable: str, gate: Gate
):
    recorder = Recorder.remote()
    home = node_of_recorder(recorder, nodes)
    tally = Tally.options(durable=durable).remote(recorder)
    while node_of(tally, nodes) is home:
        tally = Tally.options(durable=durable).remote(recorder)
    running = tally.add_at.remote(gate.path)
    gate.wait_reached()
    paused = next(node for node in nodes if node is not home)
    frozen = family(paused.process.pid)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    gate.wait_reached(times=2)  # it runs on the other node
    gate.open()
    assert ca.get(running, timeout=40) == 1

    for pid in frozen:
        os.kill(pid, signal.SIGCONT)

    assert ca.get([tally.add.remote() for _ in range(10)], timeout=40) == list(range(2, 12))
    assert told(recorder) == list(range(1, 12))


@WAYS
def test_a_store_that_restarts_from_its_file_has_every_committed_call(
    lasting: Server, nodes: list[Node], durable: str
):
    recorder = Recorder.options(max_restarts=0).remote()
    tally = Tally.options(durable=durable).remote(recorder)
    assert ca.get([tally.add.remote() for _ in range(50)], timeout=20)[-1] == 50
    waiting = [tally.add.remote() for _ in range(50)]

    lasting.kill()
    lasting.start_again()

    assert ca.get([*waiting, tally.add.remote()], timeout=60) == list(range(51, 102))
    kill_worker(tally)
    assert ca.get(tally.add.remote(), timeout=40) == 102
    assert told(recorder) == list(range(1, 103))


@WAYS
def test_a_process_that_dies_while_the_store_is_away_loses_nothing(
    lasting: Server, nodes: list[Node], durable: str
):
    recorder = Recorder.options(max_restarts=0).remote()
    tally = Tally.options(durable=durable).remote(recorder)
    assert ca.get([tally.add.remote() for _ in range(7)], timeout=20)[-1] == 7
    pid = ca.get(tally.pid.remote(), timeout=20)

    lasting.kill()
    os.kill(pid, signal.SIGKILL)
    lasting.start_again()

    assert ca.get(tally.add.remote(), timeout=60) == 8
    assert told(recorder) == list(range(1, 9))
