"""A process that kills itself at each named point: exactly the promised outcome, at every one."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.crash_points import MOMENTS, POINTS, VARIABLE
from tests.integration.actors import pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Server, join, node_on
from tests.waits import wait_empty, wait_until

pytestmark = [pytest.mark.debian_redis, pytest.mark.slow]

CALLS = 12


@ca.remote(max_restarts=-1, max_task_retries=-1)
class Late:
    """Returns when the test says so."""

    def value(self, gate: str) -> str:
        return pass_gate(gate)


class Tally:
    """Counts its calls, and writes down what it runs."""

    def __init__(self, journal: str) -> None:
        self.journal = journal
        self.count = 0

    def add(self, number: int, _after: Any = None) -> int:
        with Path(self.journal).open("a") as file:
            file.write(f"{number}\n")
        self.count += 1
        return self.count

    def add_with_step(self, number: int, after: Any = None) -> int:
        """The same with an outside step, which is recorded at once."""
        assert ca.ctx.run(os.getpid) > 1
        return self.add(number, after)

    def pid(self) -> int:
        return ca.ctx.run(os.getpid)


#: What an actor promises, by the mode in which it is made.
MODES: dict[str, Any] = {
    "once": ca.remote(Tally).options(max_restarts=-1),
    "again": ca.remote(Tally).options(max_restarts=-1, max_task_retries=-1),
    "state": ca.remote(durable=True)(Tally),
    "journal": ca.remote(durable="journal", snapshot_every=4)(Tally),
    "threads": ca.remote(Tally).options(max_restarts=-1, max_concurrency=2),
}
MORTAL = ca.remote(Tally)
ORDERED = {"once", "again", "state", "journal"}
DURABLE = {"state", "journal"}
#: The points of a worker: in which modes one comes there, and at which of its passings it crashes.
WORKER = {
    "set-up": (ORDERED | {"threads"}, 1),
    "create": (ORDERED | {"threads"}, 1),
    "load-state": (DURABLE, 1),
    "ready": (ORDERED | {"threads"}, 1),
    "peek": (ORDERED | {"threads"}, 3),
    "mark": (ORDERED, 3),
    "start": (ORDERED, 3),
    "run": (ORDERED, 3),
    "finish": (ORDERED, 3),
    "outbox": (ORDERED, 3),
    "state": (DURABLE, 3),
    "send": (ORDERED, 3),
    "reply": (ORDERED, 3),
    "clear": (ORDERED, 3),
    "park": (ORDERED, 1),
    "start-aside": (ORDERED, 1),
    "settle-aside": (ORDERED, 1),
    "take": ({"threads"}, 3),
    "begin": ({"threads"}, 3),
    "step": (DURABLE, 3),
    "close": (ORDERED | {"threads"}, 1),
}
NODE = set(POINTS) - set(WORKER)
#: Both moments of a point in one test, where a restarted worker comes there again.
LAST = {"start-aside", "settle-aside", "close"}
CASES = [(point, MOMENTS) for point in WORKER if point not in LAST]
CASES += [(point, (each,)) for point in sorted(LAST) for each in MOMENTS]


@contextlib.contextmanager
def joined(server: Server) -> Iterator[None]:
    join(server)
    try:
        yield
    finally:
        ca.shutdown()


def armed(point: str, number: int, folder: Path, *moments: str) -> dict[str, str]:
    """Return the variable for crashes at a point, once for each process name and moment."""
    words = [f"{point}:{moment}:{number}:{folder / moment}" for moment in moments]
    return {VARIABLE: ",".join(words)}


def call_often(
    actor: Any, mode: str, late: ca.ObjectRef[str], *, lone: bool = True
) -> list[ca.ObjectRef[int]]:
    """Make calls: four each alone, if asked, then several at once, one of which waits."""
    method = actor.add_with_step if mode in DURABLE else actor.add
    refs = []
    for number in range(4):
        refs.append(method.remote(number))
        if lone:
            ca.wait(refs[-1:], timeout=30)
    refs += [method.remote(number) for number in range(4, 7)]
    refs.append(method.remote(7, late))
    return refs + [method.remote(number) for number in range(8, CALLS)]


def outcome(ref: ca.ObjectRef[int]) -> int | None:
    """Return the result, or None where the call had begun when its process ended."""
    try:
        return ca.get(ref, timeout=40)
    except ca.ActorUnavailableError:
        return None


def check(mode: str, results: list[int | None], journal: Path) -> None:
    """Hold what callers were given, and what ran, against what the mode promises."""
    ran = [int(word) for word in journal.read_text().split()]
    given = [number for number, result in enumerate(results) if result is not None]
    if mode in {"once", "threads"}:
        assert len(ran) == len(set(ran)), f"{mode}: something ran twice: {ran}"
        assert set(given) <= set(ran)
        assert len(given) >= CALLS - 7, f"{mode}: only what had begun may fail: {results}"
    else:
        assert len(given) == CALLS, f"{mode}: {results}"
        assert set(ran) == set(range(CALLS))
    if mode in ORDERED:
        first = list(dict.fromkeys(ran))
        assert first == sorted(first), f"{mode}: {ran}"
    if mode in DURABLE:
        assert results == list(range(1, CALLS + 1)), f"{mode}: {results}"


@pytest.mark.parametrize(("point", "moments"), CASES, ids="".join)
def test_a_worker_that_crashes_keeps_its_actors_promise(
    server: Server, tmp_path: Path, gate: Gate, point: str, moments: tuple[str, ...]
):
    modes, number = WORKER[point]
    with node_on(server, cpus=1, variables=armed(point, number, tmp_path, *moments)) as node:
        with joined(server), contextlib.closing(server.client()) as client:
            # It has the only CPU: workers for functions would crash there, too, each one anew.
            late = Late.options(name="late", num_cpus=1).remote()
            value = late.value.remote(gate.path)
            actors = {
                mode: MODES[mode].options(name=mode).remote(str(tmp_path / mode))
                for mode in sorted(modes)
            }
            refs = {mode: call_often(actor, mode, value) for mode, actor in actors.items()}
            wait_until(lambda: len([*client.scan_iter("ca:*:p")]) == len(modes), "a call waits", 40)
            gate.open()
            for mode in actors:
                check(mode, [outcome(ref) for ref in refs[mode]], tmp_path / mode)
            del actors, late
            wait_empty(lambda: client.hkeys("ca:actors"), "actors that nobody holds end")
            wait_empty(lambda: client.hgetall("ca:dying"), "the dead are buried")
            expected = {f"{moment}-Tally-{mode}" for moment in moments for mode in modes}
            assert not expected - {path.name for path in tmp_path.iterdir()}, "all have crashed"
        assert node.process.poll() is None, node.log.read_text()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("point", sorted(NODE))
def test_a_node_that_crashes_is_taken_over_and_every_promise_is_kept(
    server: Server, tmp_path: Path, point: str, moment: str
):
    number = {"tick": 4, "launch": 5}.get(point, 1)  # its face and two workers are launched first
    with contextlib.ExitStack() as stack:
        lost = stack.enter_context(node_on(server, name="lost")) if point == "take-over" else None
        stack.enter_context(joined(server))
        actors: dict[str, Any] = {}
        if lost is not None:
            actors = start_actors(tmp_path)
        first = stack.enter_context(
            node_on(server, name="first", variables=armed(point, number, tmp_path, moment))
        )
        actors = actors or start_actors(tmp_path)
        doomed = None
        if point in {"release", "reap"}:
            mortal = MORTAL.remote(str(tmp_path / "mortal"))
            ca.get([actor.pid.remote() for actor in actors.values()], timeout=30)
            os.kill(ca.get(mortal.pid.remote(), timeout=30), signal.SIGKILL)
            doomed = mortal.pid.remote()
        value = ca.put("here")
        refs = {mode: call_often(actor, mode, value, lone=False) for mode, actor in actors.items()}
        if lost is not None:
            lost.kill()
        wait_until(lambda: first.process.poll() is not None, "the node has crashed there", 40)
        stack.enter_context(node_on(server, name="second"))
        for mode in MODES:
            check(mode, [outcome(ref) for ref in refs[mode]], tmp_path / mode)
            assert ca.get(actors[mode].pid.remote(), timeout=20)
        if doomed is not None:
            with pytest.raises(ca.ActorDiedError, match=r"SIGKILL|node first-"):
                ca.get(doomed, timeout=30)


def start_actors(folder: Path) -> dict[str, Any]:
    return {mode: MODES[mode].options(name=mode).remote(str(folder / mode)) for mode in MODES}
