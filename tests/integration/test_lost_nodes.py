"""A killed node: what had started fails, what waited survives where promised, nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, Scribe, held, pass_gate
from tests.integration.gates import Gate
from tests.integration.support import (
    Node,
    Server,
    family,
    join,
    lasting_keys,
    node_on,
    wait_all_gone,
    wait_empty,
    wait_until,
)

pytestmark = [pytest.mark.debian_redis, pytest.mark.timeout(60)]


@pytest.fixture
def two_nodes(server: Server) -> Iterator[tuple[Node, Node]]:
    """Two nodes and this driver on one Redis; `left` and `right` name what each has."""
    left = node_on(server, "--resources", json.dumps({"left": 9}), name="left")
    right = node_on(server, "--resources", json.dumps({"right": 9, "any": 9}), name="right")
    with left as first, right as second:
        join(server)
        try:
            yield first, second
        finally:
            ca.shutdown()


def survivors(refs: list[ca.ObjectRef[Any]]) -> list[Any]:
    """Return the values of all calls but the first, which the lost process may have begun."""
    with contextlib.suppress(ca.ActorUnavailableError):
        ca.get(refs[0], timeout=30)
    return ca.get(refs[1:], timeout=30)


def on(name: str, **more: float) -> dict[str, object]:
    return {"num_cpus": 0, "resources": {name: 1, **more}}


def test_started_calls_fail_and_others_run_on_the_other_node(
    two_nodes: tuple[Node, Node], server: Server, gate: Gate, tmp_path: Path
):
    left, _right = two_nodes
    journal = tmp_path / "journal"
    mortal = Counter.options(**on("left")).remote()
    running = mortal.hold.remote(gate.path)
    behind = mortal.add.remote()
    gate.wait_reached()
    # Both nodes can hold this one: kill the node that does.
    immortal = Scribe.options(num_cpus=0.01, max_restarts=-1).remote(str(journal))
    where = ca.get(immortal.pid.remote(), timeout=10)
    both = [left, _right]
    doomed = next(node for node in both if where in family(node.process.pid))
    below = family(doomed.process.pid)
    other = Gate(tmp_path, "second")
    started = immortal.hold.remote(other.path)
    waiting = [immortal.write.remote(str(number)) for number in range(50)]
    other.wait_reached()

    doomed.kill()

    wait_all_gone(below, "a node's processes die with it", 5)
    with pytest.raises(ca.ActorUnavailableError, match="restarts"):
        ca.get(started, timeout=20)
    assert ca.get(waiting, timeout=20) == [str(number) for number in range(50)]
    assert journal.read_text().split()[1:] == [str(number) for number in range(50)]
    if doomed is left:
        for ref in (running, behind):
            with pytest.raises(ca.ActorDiedError, match="left"):
                ca.get(ref, timeout=20)
    else:
        gate.open()
        assert ca.get([running, behind], timeout=20) == ["passed", 1]


def test_an_actor_without_restarts_dies_with_its_node_and_nothing_hangs(
    two_nodes: tuple[Node, Node], server: Server, gate: Gate
):
    left, _ = two_nodes
    actor = Counter.options(**on("left"), name="tied").remote()
    running, waiting = actor.hold.remote(gate.path), actor.add.remote()
    gate.wait_reached()

    left.kill()

    for ref in (running, waiting):
        with pytest.raises(ca.ActorDiedError, match=r"Counter\(tied\).*node left-"):
            ca.get(ref, timeout=20)
    with pytest.raises(ca.ActorDiedError):
        ca.get(actor.add.remote(), timeout=20)
    with contextlib.closing(server.client()) as client:
        wait_empty(
            lambda: [key for key in client.hkeys("ca:nodes") if not key.startswith(b"right-")],
            "the lost node is struck off",
        )
        wait_empty(
            lambda: [key for key in lasting_keys(client) if ":node:left-" in key],
            "no key of the lost node",
        )


def test_function_calls_of_a_killed_node_run_again_elsewhere(
    two_nodes: tuple[Node, Node], gate: Gate
):
    refs = [held.remote(gate.path) for _ in range(4)]
    gate.wait_reached(times=4)
    left, right = two_nodes
    on_left = [pid for pid in gate.pids() if pid in family(left.process.pid)]
    assert len(on_left) == 2

    left.kill()
    gate.open()

    assert ca.get(refs, timeout=30) == ["passed"] * 4
    assert right.process.poll() is None


def test_work_that_only_a_lost_node_could_do_waits_for_the_next_one(
    two_nodes: tuple[Node, Node], server: Server, tmp_path: Path
):
    left, _ = two_nodes
    actor = Counter.options(**on("left"), max_restarts=-1).remote()
    assert ca.get(actor.add.remote(), timeout=10) == 1

    below = family(left.process.pid)
    left.kill()
    wait_all_gone(below, "a node's processes die with it", 5)
    refs = [actor.add.remote() for _ in range(5)]

    with node_on(server, "--resources", json.dumps({"left": 1}), name="left2"):
        assert ca.get(refs, timeout=30) == [1, 2, 3, 4, 5]
        ca.kill(actor)


def test_an_embedded_node_that_is_killed_ends_every_wait(gate: Gate):
    context = ca.init(num_cpus=1)
    try:
        actor = Counter.remote()
        pid = ca.get(actor.pid.remote(), timeout=10)
        running, waiting = actor.hold.remote(gate.path), actor.add.remote()
        gate.wait_reached()
        node = ca.nodes()[0]["pid"]
        below = family(node)
        assert pid in below

        os.kill(node, signal.SIGKILL)

        for ref in (running, waiting):
            with pytest.raises((ca.ActorDiedError, ca.exceptions.NodeDiedError)):
                ca.get(ref, timeout=30)
        wait_all_gone(below, "the node's processes die with it")
    finally:
        ca.shutdown()
    folder = Path(context.address.removeprefix("redis+socket://")).parent
    wait_until(lambda: not folder.exists(), "the private folder is removed")


def test_a_paused_node_ends_its_workers_when_it_wakes_and_doubles_nothing(
    two_nodes: tuple[Node, Node], server: Server, tmp_path: Path
):
    left, right = two_nodes
    journal = tmp_path / "journal"
    actor = Scribe.options(num_cpus=0.01, max_restarts=-1).remote(str(journal))
    pid = ca.get(actor.pid.remote(), timeout=10)
    paused = next(node for node in (left, right) if pid in family(node.process.pid))
    frozen = family(paused.process.pid)
    for member in frozen:
        os.kill(member, signal.SIGSTOP)
    try:
        refs = [actor.write.remote(str(number)) for number in range(100)]
        assert survivors(refs) == [str(number) for number in range(1, 100)]
    finally:
        for member in frozen[::-1]:
            with contextlib.suppress(ProcessLookupError):  # the node may have ended it
                os.kill(member, signal.SIGCONT)

    assert ca.get(actor.write.remote("after"), timeout=20) == "after"
    wait_until(lambda: paused.process.poll() is not None, "the node that lost its lease ends", 20)
    written = journal.read_text().split()
    assert written.count("0") <= 1, "a call that may have begun is not run again"
    assert [w for w in written if w != "0"] == [*(str(n) for n in range(1, 100)), "after"]


def test_unpacked_packages_are_gone_with_their_node_or_with_the_next_one(
    server: Server, tmp_path: Path
):
    def left() -> set[Path]:
        return set(Path(tempfile.gettempdir()).glob("celery_actors-packages-*"))

    @ca.remote(runtime_env={"working_dir": tmp_path})
    def here() -> str:
        return str(Path.cwd())

    before = left()
    with node_on(server, name="first") as node:
        join(server)
        try:
            folder = Path(ca.get(here.remote(), timeout=20))
            assert folder.parent in left() - before
            node.kill()
        finally:
            ca.shutdown()
    assert folder.exists()
    with node_on(server, name="second"):
        assert not folder.exists()
        assert len(left() - before) == 1
    assert not left() - before


@ca.remote
class Holder:
    """Holds what it is given."""

    def keep(self, held: Any) -> None:
        self.held = held


def test_what_the_processes_of_a_lost_node_held_is_let_go(
    two_nodes: tuple[Node, Node], server: Server
):
    left, _right = two_nodes
    holder, actor = Holder.options(**on("left")).remote(), Holder.options(**on("right")).remote()
    name = actor._identity.actor_id
    ca.get([holder.keep.remote([actor]), actor.__ray_ready__.remote()], timeout=20)
    del actor

    left.kill()

    with contextlib.closing(server.client()) as client:
        wait_until(lambda: not client.hexists("ca:actors", name), "it has ended", 30)


class Pair:
    """Holds two calls at once; writes down what it runs."""

    def __init__(self, journal: str) -> None:
        self.journal = Path(journal)

    def write(self, word: int) -> int:
        with self.journal.open("a") as file:
            file.write(f"{word}\n")
        return word

    def hold(self, gate: str) -> str:
        return pass_gate(gate)

    def pid(self) -> int:
        return os.getpid()


class AsyncPair(Pair):
    """The same on an event loop."""

    async def hold(self, gate: str) -> str:  # type: ignore[override]
        return await asyncio.to_thread(pass_gate, gate)


@pytest.mark.parametrize("cls", [Pair, AsyncPair], ids=["threaded", "async"])
def test_calls_that_overlapped_on_a_lost_node_fail_and_those_that_waited_run_once_elsewhere(
    two_nodes: tuple[Node, Node], gate: Gate, tmp_path: Path, cls: type
):
    journal = tmp_path / "journal"
    wanted = {"num_cpus": 0.01, "max_restarts": -1, "max_concurrency": 2}
    actor = ca.remote(cls).options(**wanted).remote(str(journal))
    where = ca.get(actor.pid.remote(), timeout=10)
    doomed = next(node for node in two_nodes if where in family(node.process.pid))
    running = [actor.hold.remote(gate.path) for _ in range(2)]
    gate.wait_reached(times=2)
    waiting = [actor.write.remote(number) for number in range(100)]
    again = actor.hold.options(max_task_retries=1).remote(gate.path)
    assert not ca.wait(waiting, timeout=0.05)[0]

    doomed.kill()

    for ref in running:
        with pytest.raises(ca.ActorUnavailableError, match="restarts"):
            ca.get(ref, timeout=20)
    assert ca.get(waiting, timeout=20) == list(range(100))
    gate.open()
    assert ca.get(again, timeout=20) == "passed"
    assert sorted(journal.read_text().split(), key=int) == [str(n) for n in range(100)]
