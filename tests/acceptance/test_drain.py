"""`celery_actors drain`: a node ends, its work goes on elsewhere or to its end; no call is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.acceptance.commands import run_cli
from tests.integration.actors import Counter, Scribe, double, held
from tests.integration.gates import Gate
from tests.integration.support import (
    Node,
    Server,
    family,
    lasting_keys,
    node_on,
    wait_all_gone,
    wait_empty,
    wait_until,
)

pytestmark = [pytest.mark.debian_redis, pytest.mark.timeout(120)]


@pytest.fixture
def nodes(server: Server) -> Iterator[dict[str, Node]]:
    """Two nodes, `old` and `new`, and this driver."""
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(node_on(server, "--resources", '{"old": 9}', name="old", cpus=4))
        new = stack.enter_context(node_on(server, name="new", cpus=4))
        ca.init(server.url, keys=server.key)
        try:
            yield {"old": old, "new": new}
        finally:
            ca.shutdown()


@contextlib.contextmanager
def draining(server: Server, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command beside the test, until the node says that it drains."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery_actors", "drain", *words, "--address", server.url],
        env=server.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(
            lambda: process.poll() is not None or drains("old"), "the node says that it drains", 20
        )
        yield process
    finally:
        process.kill()
        process.communicate()


def drains(host: str) -> bool:
    return any(n["Draining"] for n in ca.nodes() if n["NodeName"] == host)


def start_on(node: Node, cls: Any, *args: Any, **options: Any) -> Any:
    """Start an actor on a node from which it can move: softly bound to it."""
    (node_id,) = [each["NodeID"] for each in ca.nodes() if each["NodeName"] == node.name]
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=True)
    actor = cls.options(scheduling_strategy=strategy, **options).remote(*args)
    assert ca.get(actor.pid.remote(), timeout=20) in family(node.process.pid)
    return actor


def finished(process: subprocess.Popen[str], node: Node, server: Server) -> str:
    """Wait until the command and its node have ended well; return what the command said."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert node.process.wait(20) == 0, node.log.read_text()
    assert "Traceback" not in node.log.read_text()
    with contextlib.closing(server.client()) as client:
        left = [key for key in client.hkeys("ca:nodes") if key.startswith(f"{node.name}-".encode())]
        assert not left
        wait_empty(
            lambda: [key for key in lasting_keys(client) if f":node:{node.name}-" in key],
            "no key of the node",
        )
    return out + err


def test_an_actor_moves_with_the_calls_that_wait_for_it(
    server: Server, nodes: dict[str, Node], gate: Gate, tmp_path: Path
):
    journal = tmp_path / "journal"
    actor = start_on(nodes["old"], Scribe, str(journal), max_restarts=1, num_cpus=1)
    running = actor.hold.remote(gate.path)
    waiting = [actor.write.remote(str(number)) for number in range(50)]
    gate.wait_reached()
    below = family(nodes["old"].process.pid)

    with draining(server, "old") as process:
        assert nodes["old"].process.poll() is None, "the running call may finish"
        gate.open()
        said = finished(process, nodes["old"], server)

    assert "old-" in said
    assert "has gone" in said
    wait_all_gone(below, "nothing of the node runs")
    assert ca.get(running, timeout=20) == "passed"
    assert ca.get(waiting, timeout=30) == [str(number) for number in range(50)]
    assert journal.read_text().split()[1:] == [str(number) for number in range(50)]
    pid = ca.get(actor.pid.remote(), timeout=20)
    assert pid in family(nodes["new"].process.pid)
    os.kill(pid, signal.SIGKILL)  # the move has used up no restart
    assert ca.get(actor.write.options(max_task_retries=-1).remote("after"), timeout=20) == "after"


def test_functions_finish_and_new_work_goes_to_other_nodes(
    server: Server, nodes: dict[str, Node], gate: Gate
):
    running = [held.remote(gate.path) for _ in range(8)]
    gate.wait_reached(times=8)
    on_old = family(nodes["old"].process.pid)
    assert sum(pid in on_old for pid in gate.pids()) == 4

    with draining(server, "old", "--timeout", "300") as process:
        more = Gate(Path(gate.path).parent, "more")
        others = [held.options(num_cpus=0).remote(more.path) for _ in range(3)]
        actor = Counter.options(num_cpus=0).remote()
        more.wait_reached(times=3)
        assert not set(more.pids()) & set(family(nodes["old"].process.pid))
        assert ca.get(actor.pid.remote(), timeout=20) in family(nodes["new"].process.pid)
        states = {node["NodeName"]: node["Draining"] for node in ca.nodes()}
        assert states == {"old": True, "new": False}
        status = json.loads(run_cli("status", "--json", "--address", server.url).stdout)
        assert sorted(node["draining"] for node in status["nodes"].values()) == [False, True]
        assert "draining" in run_cli("status", "--address", server.url).stdout
        gate.open()
        more.open()
        finished(process, nodes["old"], server)

    assert ca.get([*running, *others], timeout=20) == ["passed"] * 11


def test_an_actor_that_cannot_restart_serves_until_it_ends_by_itself(
    server: Server, nodes: dict[str, Node]
):
    actor = start_on(nodes["old"], Counter, num_cpus=1)
    assert ca.get(actor.add.remote(), timeout=20) == 1

    with draining(server, "old", "--timeout", "300") as process:
        wait_until(lambda: "drains" in nodes["old"].log.read_text(), "the node has heard it")
        assert ca.get([actor.add.remote() for _ in range(20)], timeout=20)[-1] == 21
        assert nodes["old"].process.poll() is None
        ca.kill(actor)
        said = finished(process, nodes["old"], server)

    assert "cannot move, and may serve for 300 s: actor Counter(" in said


def test_an_actor_that_cannot_restart_ends_with_the_patience_and_says_why(
    server: Server, nodes: dict[str, Node], gate: Gate
):
    actor = start_on(nodes["old"], Counter, num_cpus=1)
    stuck = start_on(nodes["old"], Counter, num_cpus=1)
    running = stuck.hold.remote(gate.path)
    gate.wait_reached()

    with draining(server, "old", "--timeout", "2") as process:
        finished(process, nodes["old"], server)

    with pytest.raises(ca.ActorDiedError, match=r"old was drained .*no restart left .*2 s .* over"):
        ca.get(actor.add.remote(), timeout=20)
    with pytest.raises(ca.ActorDiedError, match=r"old was drained .*had not ended after 2 s"):
        ca.get(running, timeout=20)


def test_a_signal_ends_a_node_that_drains_and_has_time(server: Server, nodes: dict[str, Node]):
    actor = start_on(nodes["old"], Counter, num_cpus=1)

    with draining(server, "old", "--timeout", "3000") as process:
        nodes["old"].process.send_signal(signal.SIGTERM)
        finished(process, nodes["old"], server)

    with pytest.raises(ca.ActorDiedError, match=r"old was stopped \(SIGTERM\)"):
        ca.get(actor.add.remote(), timeout=20)


def test_a_stopped_node_keeps_its_lease_while_calls_run_there(
    server: Server, nodes: dict[str, Node], gate: Gate
):
    """Other nodes would take over its actors, and the running call could not be committed."""
    actor = start_on(nodes["old"], Counter, num_cpus=1)
    running = actor.hold.remote(gate.path)
    gate.wait_reached()
    (node_id,) = [each["NodeID"] for each in ca.nodes() if each["NodeName"] == "old"]
    nodes["old"].process.send_signal(signal.SIGTERM)
    with contextlib.closing(server.client()) as client:
        wait_until(lambda: drains("old"), "it says that it ends")
        for _ in range(4):  # longer than a lease lasts
            client.pexpire(f"ca:node:{node_id}", 2_000)
            wait_until(lambda: client.pttl(f"ca:node:{node_id}") > 2_100, "the lease is renewed")
    gate.open()

    assert ca.get(running, timeout=20) == "passed"
    assert nodes["old"].process.wait(20) == 0


def test_whom_to_drain_must_be_clear(server: Server, nodes: dict[str, Node]):
    with node_on(server, name="old"):
        wait_until(lambda: len(ca.nodes()) == 3, "all of them are there")
        several = run_cli("drain", "old", "--address", server.url)
        unknown = run_cli("drain", "nobody", "--address", server.url)
        (first, *_rest) = [each["NodeID"] for each in ca.nodes() if each["NodeName"] == "old"]

        assert (several.returncode, unknown.returncode) == (1, 1)
        assert first in several.stderr
        assert "several nodes run on old" in several.stderr
        assert "no living node has the id or the host 'nobody'" in unknown.stderr
        assert first in unknown.stderr

        by_id = run_cli("drain", first, "--no-wait", "--address", server.url)
        assert by_id.returncode == 0, by_id.stderr
        assert f"{first} has begun to drain" in by_id.stdout
    assert ca.get(double.remote((1,)), timeout=20) == (1, 1)
