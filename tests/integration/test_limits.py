"""Limits of calls: seconds that they may run, and how many may be under way."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import double, pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Cluster, is_alive, wait_until


def arrive(gate: str) -> None:
    with Path(f"{gate}.at").open("a") as file:
        file.write(f"{os.getpid()}\n")


class Patient:
    """Takes as long as it is told."""

    @ca.method(timeout=0.05)
    def short(self) -> None:
        time.sleep(600)

    def sleep(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    def spin(self) -> None:
        while True:
            pass

    def tidy(self) -> str:
        try:
            time.sleep(600)
        except ca.exceptions.TaskTimeoutError:
            return "tidied up"
        return "slept"

    def wait_for(self, gate: str) -> str:
        return ca.get(held_outside.remote(gate))

    def hold(self, gate: str) -> str:
        return pass_gate(gate)

    def pid(self) -> int:
        return os.getpid()


@ca.remote(num_cpus=0)
def held_outside(gate: str) -> str:
    return pass_gate(gate)


Sync = ca.remote(Patient)
Threaded = ca.remote(max_concurrency=2)(Patient)


@ca.remote
class Async:
    """The same, as coroutines."""

    @ca.method(timeout=0.05)
    async def short(self) -> None:
        await asyncio.Event().wait()

    async def sleep(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"

    def spin(self) -> None:
        while True:
            pass

    async def tidy(self) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "tidied up"
        return "slept"

    async def pid(self) -> int:
        return os.getpid()


KINDS = [Sync, Async, Threaded]
IDS = ["sync", "async", "threaded"]


@pytest.mark.parametrize("kind", [Sync, Async], ids=["sync", "async"])
def test_a_call_beyond_its_timeout_gets_an_error_inside_and_its_actor_works_on(
    cluster: Cluster, kind: Any
):
    actor = kind.remote()
    pid = ca.get(actor.pid.remote(), timeout=10)

    with pytest.raises(ca.exceptions.TaskTimeoutError, match=r"\.short ran longer than .* 0.05 s"):
        ca.get(actor.short.remote(), timeout=10)
    with pytest.raises(TimeoutError):
        ca.get(actor.sleep.options(timeout=0.05).remote(600), timeout=10)
    with pytest.raises(TimeoutError):
        ca.get(actor.spin.options(timeout=0.05).remote(), timeout=10)
    assert ca.get(actor.tidy.options(timeout=0.05).remote(), timeout=10) == "tidied up"
    assert ca.get(actor.sleep.options(timeout=30).remote(0), timeout=10) == "slept"
    assert ca.get(actor.pid.remote(), timeout=10) == pid


def test_a_call_in_a_thread_beyond_its_timeout_ends_at_its_next_bytecode(cluster: Cluster):
    actor = Threaded.remote()
    pid = ca.get(actor.pid.remote(), timeout=10)

    with pytest.raises(ca.exceptions.TaskTimeoutError, match=r"Patient\.spin ran longer"):
        ca.get(actor.spin.options(timeout=0.05).remote(), timeout=10)
    assert ca.get([actor.pid.remote() for _ in range(50)], timeout=10) == [pid] * 50


def test_a_wait_for_another_call_is_within_the_timeout(cluster: Cluster, gate: Gate):
    actor = Sync.remote()

    with pytest.raises(ca.exceptions.TaskTimeoutError):
        ca.get(actor.wait_for.options(timeout=0.3).remote(gate.path), timeout=10)
    gate.open()
    assert ca.get(actor.wait_for.remote(gate.path), timeout=10) == "passed"


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_late_timeout_hits_no_other_call(cluster: Cluster, kind: Any):
    actor = kind.remote()
    limited = actor.sleep.options(timeout=0.002)
    outcomes: list[Any] = []

    refs = []
    for _ in range(150):
        refs += [limited.remote(0.0018), actor.pid.remote()]  # the second has no limit at all
    for ref in refs:
        try:
            outcomes.append(ca.get(ref, timeout=10))
        except ca.exceptions.TaskTimeoutError:
            outcomes.append("late")

    assert set(outcomes[::2]) <= {"late", "slept"}
    assert len(set(outcomes[1::2])) == 1, "calls without a limit all answer, from one process"


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_call_beyond_its_deadline_ends_with_its_process_and_the_actor_restarts(
    cluster: Cluster, kind: Any
):
    actor = kind.options(max_restarts=1).remote()
    pid = ca.get(actor.pid.remote(), timeout=10)
    slow = actor.spin.options(deadline=0.1).remote()

    with pytest.raises(ca.ActorUnavailableError, match="deadline"):
        ca.get(slow, timeout=10)
    again = ca.get(actor.pid.remote(), timeout=10)
    assert again != pid
    assert not is_alive(pid)

    with pytest.raises(ca.ActorDiedError, match="deadline"):
        ca.get(actor.spin.options(deadline=0.1).remote(), timeout=10)
    with pytest.raises(ca.ActorDiedError, match="deadline"):
        ca.get(actor.pid.remote(), timeout=10)


def test_a_deadline_that_was_kept_kills_nobody(cluster: Cluster):
    actor = Sync.remote()
    pid = ca.get(actor.pid.remote(), timeout=10)

    ca.get(actor.sleep.options(deadline=0.15).remote(0.01), timeout=10)

    assert ca.get(actor.sleep.remote(0.3), timeout=10) == "slept"
    assert ca.get(actor.pid.remote(), timeout=10) == pid


def test_a_call_beyond_its_deadline_is_tried_as_often_as_it_may(cluster: Cluster, gate: Gate):
    @ca.remote(max_restarts=-1)
    class Slow:
        def hang(self, gate: str) -> None:
            arrive(gate)
            time.sleep(600)

        def ping(self) -> str:
            return "pong"

    actor = Slow.remote()
    ref = actor.hang.options(deadline=0.1, max_task_retries=2).remote(gate.path)

    with pytest.raises(ca.ActorUnavailableError, match="deadline"):
        ca.get(ref, timeout=20)
    assert len(gate.pids()) == 3
    assert ca.get(actor.ping.remote(), timeout=10) == "pong"


def test_functions_have_timeouts_and_deadlines_too(cluster: Cluster, gate: Gate):
    @ca.remote
    def sleep(seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    with pytest.raises(ca.exceptions.TaskTimeoutError, match="sleep ran longer than"):
        ca.get(sleep.options(timeout=0.05).remote(600), timeout=10)
    with pytest.raises(ca.WorkerCrashedError, match="deadline"):
        ca.get(sleep.options(deadline=0.1, max_retries=0).remote(600), timeout=10)
    assert ca.get([double.remote(n) for n in range(4)], timeout=10) == [0, 2, 4, 6]


def test_a_timeout_may_be_retried_like_any_exception_and_starts_anew(cluster: Cluster, gate: Gate):
    @ca.remote
    class Slow:
        def __init__(self) -> None:
            self.tries = 0

        def work(self) -> int:
            self.tries += 1
            time.sleep(600 if self.tries < 3 else 0.15)
            return self.tries

    wanted = {"timeout": 0.3, "max_task_retries": 5, "retry_exceptions": [TimeoutError]}
    assert ca.get(Slow.remote().work.options(**wanted).remote(), timeout=10) == 3


# -- calls under way ----------------------------------------------------------------------------


def test_one_call_too_many_is_refused_in_the_caller_and_room_comes_back(
    cluster: Cluster, gate: Gate
):
    actor = Sync.options(max_pending_calls=3).remote()
    refs = [actor.hold.remote(gate.path) for _ in range(3)]

    for _ in range(2):
        with pytest.raises(ca.exceptions.PendingCallsLimitExceeded, match="max_pending_calls is 3"):
            actor.pid.remote()
    last = refs.pop()
    ca.cancel(last)
    with pytest.raises(ca.TaskCancelledError):
        ca.get(last, timeout=10)
    refs.append(actor.pid.remote())
    with pytest.raises(ca.exceptions.PendingCallsLimitExceeded, match="on_full='block'"):
        actor.pid.remote()

    gate.open()
    assert ca.get(refs[:2], timeout=10) == ["passed"] * 2
    assert ca.get([actor.pid.remote() for _ in range(1)], timeout=10) == ca.get(refs[2:])


def test_the_limit_counts_calls_whose_references_were_dropped_until_they_end(
    cluster: Cluster, gate: Gate
):
    actor = Sync.options(max_pending_calls=2).remote()
    for _ in range(2):
        actor.hold.remote(gate.path)
    with pytest.raises(ca.exceptions.PendingCallsLimitExceeded):
        actor.pid.remote()

    gate.open()

    def accepted() -> Any:
        try:
            return actor.pid.remote()
        except ca.exceptions.PendingCallsLimitExceeded:
            return None

    assert ca.get(wait_until(accepted, "room for another call"), timeout=10)


def test_the_limit_is_per_calling_process_and_shared_by_its_handles(cluster: Cluster, gate: Gate):
    @ca.remote(num_cpus=0)
    def call(handle: Any) -> int:
        return ca.get(handle.pid.remote(), timeout=10)

    actor = Threaded.options(max_pending_calls=1, name="limited").remote()
    running = actor.hold.remote(gate.path)

    with pytest.raises(ca.exceptions.PendingCallsLimitExceeded):
        ca.get_actor("limited").pid.remote()
    assert ca.get(call.remote(actor), timeout=10) == gate.wait_reached()
    gate.open()
    assert ca.get(running, timeout=10) == "passed"
    ca.kill(actor)


def test_an_actor_that_dies_gives_the_room_back(cluster: Cluster, gate: Gate):
    actor = Sync.options(max_pending_calls=1).remote()
    running = actor.hold.remote(gate.path)
    gate.wait_reached()
    ca.kill(actor)
    with pytest.raises(ca.ActorDiedError):
        ca.get(running, timeout=10)

    for _ in range(3):
        with pytest.raises(ca.ActorDiedError):
            ca.get(actor.pid.remote(), timeout=10)


def test_a_blocking_limit_waits_for_room_and_keeps_to_it(cluster: Cluster, gate: Gate):
    actor = Sync.options(max_pending_calls=2, on_full="block").remote()
    first = actor.hold.remote(gate.path)
    gate.wait_reached()
    found: list[Any] = []
    sender = threading.Thread(target=lambda: found.extend(actor.pid.remote() for _ in range(200)))

    sender.start()
    wait_until(lambda: actor._identity and sender.is_alive(), "the sender waits")
    sender.join(0.2)
    assert sender.is_alive()
    assert ca.get(double.remote(2), timeout=10) == 4, "other calls pass meanwhile"

    gate.open()
    sender.join(20)
    assert len(found) == 200
    assert len(set(ca.get(found, timeout=10))) == 1
    assert ca.get(first, timeout=10) == "passed"


def test_an_actor_at_its_own_blocking_limit_is_told_instead_of_waiting_for_itself(
    cluster: Cluster,
):
    @ca.remote(max_pending_calls=2, on_full="block")
    class Self:
        def burst(self, me: list[Any]) -> str:
            try:
                for _ in range(3):
                    me[0].ping.remote()
            except ca.exceptions.PendingCallsLimitExceeded as error:
                return str(error)
            return "no limit"

        def ping(self) -> None:
            """Do nothing."""

    actor = Self.remote()

    assert "waits for itself" in ca.get(actor.burst.remote([actor]), timeout=10)
    ca.kill(actor)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"timeout": 0}, ValueError), ({"timeout": -1}, ValueError), ({"timeout": "1"}, TypeError),
        ({"deadline": float("inf")}, ValueError), ({"max_task_retries": -2}, ValueError),
        ({"retry_exceptions": [int]}, TypeError), ({"retry_exceptions": "all"}, TypeError),
        ({"colour": 1}, ValueError),
    ],
    ids=str,
)  # fmt: skip
def test_an_impossible_option_of_a_call_is_an_error_in_the_caller(
    cluster: Cluster, given: dict[str, Any], error: type[Exception]
):
    actor = Sync.remote()
    with pytest.raises(error, match=next(iter(given))):
        actor.pid.options(**given)
    with pytest.raises(error, match=next(iter(given))):
        ca.method(**given)
