"""Cancel: what waits never runs, what runs is interrupted, what is over is left alone."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.integration.actors import Counter, Recorder, double, held, pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Cluster, stopped, wait_all_gone, wait_empty, wait_until


def arrive(gate: str) -> None:
    """Say that the call has begun."""
    with Path(f"{gate}.at").open("a") as file:
        file.write(f"{os.getpid()}\n")


def spin(gate: str) -> None:
    arrive(gate)
    while True:
        pass


def sleep(gate: str) -> None:
    arrive(gate)
    time.sleep(600)


def block_in_a_lock(gate: str) -> None:
    lock = threading.Lock()
    lock.acquire()
    arrive(gate)
    lock.acquire()


def wait_for_another(gate: str) -> None:
    ref = held.options(num_cpus=0).remote(f"{gate}-child")
    arrive(gate)
    ca.get(ref)


def swallow(gate: str) -> str:
    arrive(gate)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        return "swallowed"
    return "slept"


def recurse(gate: str) -> None:
    arrive(gate)
    try:
        sleep(f"{gate}-inner")
    finally:
        Path(f"{gate}.cleaned").touch()


WORK = [spin, sleep, block_in_a_lock, wait_for_another, swallow, recurse]


@ca.remote
class Worker:
    """Does what it is told."""

    def work(self, function: Any, gate: str) -> Any:
        return function(gate)

    def ping(self) -> int:
        return os.getpid()


def cancelled(ref: Any, words: str = "cancelled") -> None:
    began = time.monotonic()
    with pytest.raises(ca.TaskCancelledError, match=words):
        ca.get(ref, timeout=10)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("function", WORK, ids=lambda f: f.__name__)
def test_a_running_method_is_interrupted_and_its_actor_works_on(
    cluster: Cluster, gate: Gate, function: Any
):
    worker = Worker.remote()
    ref, behind = worker.work.remote(function, gate.path), worker.ping.remote()
    pid = gate.wait_reached()

    ca.cancel(ref)

    cancelled(ref, "Worker.work was cancelled while it ran")
    assert ca.get(behind, timeout=10) == pid
    assert ca.get([worker.ping.remote() for _ in range(50)], timeout=10) == [pid] * 50
    if function is recurse:
        assert Path(f"{gate.path}.cleaned").exists(), "finally blocks run"
    ca.kill(worker)


@pytest.mark.parametrize("function", WORK, ids=lambda f: f.__name__)
def test_a_running_function_is_interrupted_and_its_worker_works_on(
    cluster: Cluster, gate: Gate, function: Any
):
    ref = ca.remote(num_cpus=0.5, max_retries=-1, retry_exceptions=True)(function).remote(gate.path)
    gate.wait_reached()

    ca.cancel(ref)

    cancelled(ref)
    assert ca.get([double.remote(n) for n in range(20)], timeout=10) == list(range(0, 40, 2))
    assert len(gate.pids()) == 1, "a cancelled call is not run again"


@pytest.mark.parametrize("function", [spin, sleep, swallow], ids=lambda f: f.__name__)
def test_a_forced_cancellation_ends_the_process_and_the_call_is_not_run_again(
    cluster: Cluster, gate: Gate, function: Any
):
    ref = ca.remote(max_retries=-1)(function).remote(gate.path)
    gate.wait_reached()

    ca.cancel(ref, force=True)

    with pytest.raises((ca.WorkerCrashedError, ca.TaskCancelledError), match="cancel"):
        ca.get(ref, timeout=10)
    assert ca.get(double.remote(2), timeout=10) == 4
    assert len(gate.pids()) == 1


@pytest.mark.parametrize("num_cpus", [1, 0.5])
@pytest.mark.parametrize("force", [False, True])
def test_a_running_call_that_was_passed_on_is_interrupted_or_ended(
    cluster: Cluster, gate: Gate, force: bool, num_cpus: float
):
    gone = NodeAffinitySchedulingStrategy("gone-12345678", soft=True)
    passed_on = ca.remote(max_retries=-1, num_cpus=num_cpus, scheduling_strategy=gone)(sleep)
    ref = passed_on.remote(gate.path)
    pid = gate.wait_reached()

    ca.cancel(ref, force=force)

    errors = (ca.WorkerCrashedError, ca.TaskCancelledError) if force else ca.TaskCancelledError
    with pytest.raises(errors, match="cancel"):
        ca.get(ref, timeout=10)
    if force:
        wait_all_gone([pid], "its process was ended")
    assert gate.pids() == [pid], "it is not run again"


@pytest.mark.parametrize("kind", ["actor", "function"])
def test_a_node_that_is_cut_off_hears_of_a_cancellation_when_it_is_back(
    cluster: Cluster, gate: Gate, kind: str
):
    if kind == "actor":
        worker = Worker.remote()
        ref = worker.work.remote(sleep, gate.path)
    else:
        ref = ca.remote(sleep).remote(gate.path)
    gate.wait_reached()
    with stopped(ca.nodes()[0]["pid"]):
        with cluster.client() as client:
            assert client.client_kill_filter(_type="pubsub")
        ca.cancel(ref)
        assert not ca.wait([ref], timeout=0)[0], "nobody has heard of it"

    cancelled(ref)


def test_force_is_refused_for_an_actors_call(cluster: Cluster, gate: Gate):
    actor = Counter.remote()
    ref = actor.hold.remote(gate.path)

    with pytest.raises(ValueError, match="force=True is not supported for actor"):
        ca.cancel(ref, force=True)
    gate.open()
    assert ca.get(ref, timeout=10) == "passed"


@pytest.mark.parametrize("what", [7, None, [1]])
def test_only_references_can_be_cancelled(cluster: Cluster, what: Any):
    with pytest.raises(TypeError, match="ObjectRef"):
        ca.cancel(what)


def test_five_hundred_waiting_calls_cancelled_one_by_one_never_run(cluster: Cluster, gate: Gate):
    actor = Counter.remote()
    running = actor.hold.remote(gate.path)
    gate.wait_reached()
    refs = [actor.add.remote(number) for number in range(500)]
    last = actor.add.remote(7)

    for ref in refs:
        ca.cancel(ref)
    for ref in refs:
        cancelled(ref)
    gate.open()

    assert ca.get([running, last], timeout=10) == ["passed", 7]
    assert ca.get(actor.seen.remote(), timeout=10) == [7]


def test_calls_that_were_fetched_ahead_can_be_cancelled(cluster: Cluster, gate: Gate):
    actor = Counter.remote()
    for _ in range(50):
        actor.add.remote(0)  # a busy actor fetches many at once
    running = actor.hold.remote(gate.path)
    refs = [actor.add.remote(number) for number in range(1, 60)]
    gate.wait_reached()

    for ref in refs[::2]:
        ca.cancel(ref)
    for ref in refs[::2]:
        cancelled(ref)
    gate.open()

    ca.get([running, *refs[1::2]], timeout=10)
    assert ca.get(actor.seen.remote(), timeout=10)[50:] == list(range(2, 60, 2))


def test_cancelling_a_call_whose_argument_is_not_ready_frees_those_behind_it_at_once(
    cluster: Cluster, gate: Gate
):
    recorder = Recorder.remote()
    late = held.remote(gate.path)
    gate.wait_reached()
    waiting = recorder.note.remote("me", late)
    middle = recorder.note.remote("me", late)
    behind = recorder.note.remote("me", 3)
    assert not ca.wait([waiting, middle, behind], timeout=0.1)[0]

    ca.cancel(middle)
    cancelled(middle)
    assert not ca.wait([behind], timeout=0)[0]
    ca.cancel(waiting)
    cancelled(waiting)

    assert ca.get(behind, timeout=5) is None
    assert ca.get(recorder.notes_taken.remote(), timeout=10) == [["me", 3]]
    gate.open()
    assert ca.get(late, timeout=10) == "passed"
    assert ca.get(recorder.notes_taken.remote(), timeout=10) == [["me", 3]]


@pytest.mark.parametrize("arguments", ["ready", "late"])
def test_a_function_that_waits_for_a_cpu_or_an_argument_never_runs(
    cluster: Cluster, gate: Gate, tmp_path: Path, arguments: str
):
    blocked = [held.remote(gate.path) for _ in range(2)]
    gate.wait_reached(times=2)
    marker = Gate(tmp_path, "marker")
    value = blocked[0] if arguments == "late" else 1

    @ca.remote
    def mark(gate: str, value: Any) -> Any:
        arrive(gate)
        return value

    ref = mark.remote(marker.path, value)
    ca.wait([ref], timeout=0.05)

    ca.cancel(ref)

    cancelled(ref)
    gate.open()
    ca.get(blocked, timeout=10)
    assert ca.get([double.remote(n) for n in range(8)], timeout=10) == list(range(0, 16, 2))
    assert marker.pids() == []


def test_cancelling_what_is_over_or_cancelled_already_does_nothing(cluster: Cluster, gate: Gate):
    actor = Counter.remote()
    done, failed = actor.add.remote(), actor.fail.remote("own words")
    held_call = actor.hold.remote(gate.path)
    gate.wait_reached()
    ca.cancel(done)
    ca.cancel(failed)
    waiting = actor.add.remote()
    for ref in (waiting, waiting, held_call, held_call):
        ca.cancel(ref)

    assert ca.get(done, timeout=10) == 1
    with pytest.raises(ValueError, match="own words"):
        ca.get(failed, timeout=10)
    cancelled(waiting)
    cancelled(held_call)
    ca.cancel(waiting)
    cancelled(waiting)
    value = ca.put(3)
    ca.cancel(value)
    assert ca.get(value) == 3
    assert ca.get(actor.add.remote(), timeout=10) == 2


@pytest.mark.parametrize("stage", ["running", "waiting"])
def test_another_process_cancels_a_reference_that_it_was_given(
    cluster: Cluster, gate: Gate, stage: str
):
    @ca.remote(num_cpus=0)
    def stop(refs: list[Any]) -> str:
        ca.cancel(refs[0])
        try:
            ca.get(refs[0], timeout=10)
        except ca.TaskCancelledError as error:
            return str(error)
        return "not cancelled"

    worker = Worker.remote()
    running = worker.work.remote(sleep, gate.path)
    gate.wait_reached()
    ref = running if stage == "running" else worker.ping.remote()

    assert "cancelled" in ca.get(stop.remote([ref]), timeout=15)
    cancelled(ref)
    ca.cancel(running)
    assert ca.get(worker.ping.remote(), timeout=10) == gate.pids()[0]


@ca.remote(num_cpus=0)
def parent(worker: Any, gate: str, hold_on: bool) -> None:
    """Call a function or a method, and wait for it."""
    ref = worker.work.remote(pass_gate, gate) if worker is not None else nap.remote(gate)
    keep = [ref] if hold_on else []
    ca.get(keep or ref)


@ca.remote(num_cpus=0)
def nap(gate: str) -> None:
    pass_gate(gate)


@pytest.mark.parametrize("child", ["function", "method"])
@pytest.mark.parametrize("recursive", [True, False])
def test_a_cancellation_reaches_the_calls_of_a_call_if_it_is_recursive(
    cluster: Cluster, gate: Gate, child: str, recursive: bool
):
    worker = Worker.remote()
    ref = parent.remote(worker if child == "method" else None, gate.path, True)
    gate.wait_reached()

    ca.cancel(ref, recursive=recursive)

    cancelled(ref)
    if child == "method":
        ping = worker.ping.remote()
        ready = ca.wait([ping], timeout=10 if recursive else 0.3)[0]
        assert bool(ready) is recursive
    gate.open()
    ca.kill(worker)


def test_a_cancelled_function_takes_its_grandchildren_along(cluster: Cluster, gate: Gate):
    @ca.remote(num_cpus=0)
    def descend(depth: int, worker: Any, gate: str) -> None:
        if depth:
            ca.get(descend.remote(depth - 1, worker, gate))
        else:
            ca.get(worker.work.remote(sleep, gate))

    worker = Worker.remote()
    ref = descend.remote(3, worker, gate.path)
    pid = gate.wait_reached()

    ca.cancel(ref)

    cancelled(ref)
    assert ca.get(worker.ping.remote(), timeout=10) == pid


@ca.remote
class AsyncWorker:
    """Coroutines that wait."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.cleaned: list[Any] = []

    async def rest(self, who: Any, gate: str = "") -> Any:
        self.started.append(who)
        if gate:
            arrive(gate)
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned.append(who)

    async def stubborn(self) -> str:
        self.started.append("stubborn")
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            return "swallowed"
        return "slept"

    async def delegate(self, worker: Any, gate: str) -> None:
        await worker.work.remote(sleep, gate)

    def block(self, gate: str) -> None:
        sleep(gate)

    async def state(self) -> tuple[list[Any], list[Any]]:
        return self.started, self.cleaned


def test_running_coroutines_are_cancelled_through_their_tasks(cluster: Cluster):
    worker = AsyncWorker.remote()
    refs = [worker.rest.remote(n) for n in range(100)]
    stubborn = worker.stubborn.remote()
    wait_until(lambda: len(ca.get(worker.state.remote())[0]) == 101, "all have started")

    for ref in [*refs[:50], stubborn]:
        ca.cancel(ref)

    for ref in [*refs[:50], stubborn]:
        cancelled(ref)
    assert ca.get(worker.state.remote(), timeout=10)[1] == list(range(50))
    assert not ca.wait(refs[50:], timeout=0)[0]


def test_a_coroutine_waiting_in_a_full_actor_never_starts(cluster: Cluster):
    worker = AsyncWorker.options(max_concurrency=2).remote()
    running = [worker.rest.remote(n) for n in range(2)]
    waiting = [worker.rest.remote(n) for n in range(2, 300)]

    for ref in waiting:
        ca.cancel(ref)
    for ref in waiting:
        cancelled(ref)
    for ref in running:
        ca.cancel(ref)
        cancelled(ref)

    started, _ = ca.get(worker.state.remote(), timeout=10)
    assert set(started) <= {0, 1}


def test_a_plain_method_that_blocks_the_event_loop_is_interrupted(cluster: Cluster, gate: Gate):
    worker = AsyncWorker.remote()
    ref = worker.block.remote(gate.path)
    gate.wait_reached()

    ca.cancel(ref)

    cancelled(ref)
    assert ca.get(worker.state.remote(), timeout=10) == ([], [])


def test_a_cancelled_coroutine_takes_along_what_it_awaits(cluster: Cluster, gate: Gate):
    worker, caller = Worker.remote(), AsyncWorker.remote()
    ref = caller.delegate.remote(worker, gate.path)
    pid = gate.wait_reached()

    ca.cancel(ref)

    cancelled(ref)
    assert ca.get(worker.ping.remote(), timeout=10) == pid


@pytest.mark.parametrize("function", [spin, wait_for_another], ids=lambda f: f.__name__)
def test_a_call_in_a_thread_is_interrupted_and_its_thread_serves_on(
    cluster: Cluster, gate: Gate, tmp_path: Path, function: Any
):
    worker = Worker.options(max_concurrency=2).remote()
    other = Gate(tmp_path, "other")
    beside = worker.work.remote(pass_gate, other.path)
    ref = worker.work.remote(function, gate.path)
    pid = gate.wait_reached()
    other.wait_reached()

    ca.cancel(ref)

    cancelled(ref)
    assert ca.get([worker.ping.remote() for _ in range(100)], timeout=10) == [pid] * 100
    other.open()
    assert ca.get(beside, timeout=10) == "passed"


def test_a_crash_does_not_bring_cancelled_calls_back(cluster: Cluster, gate: Gate, tmp_path: Path):
    actor = Counter.options(max_restarts=-1, max_task_retries=-1).remote()
    running = actor.hold.remote(gate.path)
    waiting = [actor.add.remote(n) for n in range(100)]
    pid = gate.wait_reached()
    for ref in waiting[::2]:
        ca.cancel(ref)

    os.kill(pid, signal.SIGKILL)
    second = gate.wait_reached(times=2)
    ca.cancel(running)
    cancelled(running)
    os.kill(second, signal.SIGKILL)

    for ref in waiting[::2]:
        cancelled(ref)
    ca.get(waiting[1::2], timeout=20)
    assert len(gate.pids()) == 2, "the cancelled call is not run again"


def test_a_call_that_was_cancelled_while_its_process_died_is_not_run_again(
    cluster: Cluster, gate: Gate
):
    actor = Counter.options(max_restarts=-1, max_task_retries=-1).remote()
    running = actor.hold.remote(gate.path)
    pid = gate.wait_reached()
    os.kill(pid, signal.SIGSTOP)  # it hears nothing

    ca.cancel(running)
    os.kill(pid, signal.SIGKILL)

    cancelled(running)
    assert ca.get(actor.pid.remote(), timeout=10) != pid
    assert len(gate.pids()) == 1


def test_cancellations_leave_no_mark_once_the_calls_are_over(cluster: Cluster, gate: Gate):
    actor, function = Counter.remote(), held.remote(f"{gate.path}-function")
    running = actor.hold.remote(gate.path)
    waiting = [actor.add.remote() for _ in range(5)]
    gate.wait_reached()
    for ref in (*waiting, running, function):
        ca.cancel(ref)
        cancelled(ref)
    assert ca.get(actor.add.remote(), timeout=10) == 1

    wanted = [f"ca:cancelled:{ref.id}" for ref in (*waiting, running, function)]

    def left() -> list[str]:
        with cluster.client() as client:
            return [key for key in wanted if client.exists(key)]

    wait_empty(left, "no mark of a cancelled call")


def test_cancelling_frequently_while_calls_run_disturbs_nobody_else(cluster: Cluster):
    actor = Counter.remote()
    ca.get(actor.add.remote(0), timeout=10)
    refs = [actor.add.remote() for _ in range(400)]

    for ref in refs[::4]:
        ca.cancel(ref)

    outcomes = []
    for ref in refs:
        try:
            outcomes.append(ca.get(ref, timeout=10))
        except ca.TaskCancelledError:
            outcomes.append(None)
    assert all(value is not None for n, value in enumerate(outcomes) if n % 4)
    others = [value for n, value in enumerate(outcomes) if n % 4 and value is not None]
    assert others == sorted(others)
