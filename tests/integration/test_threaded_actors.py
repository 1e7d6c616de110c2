"""Threaded actors: a pool of threads that stay, no order, one process and one queue."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import held, pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Cluster, is_alive, wait_until


@ca.remote(max_concurrency=4)
class Crew:
    """Four threads of one process."""

    def __init__(self) -> None:
        self.local = threading.local()
        self.lock = threading.Lock()
        self.present = self.most = 0

    def hold(self, gate: str) -> str:
        with self.lock:
            self.present += 1
            self.most = max(self.most, self.present)
        try:
            return pass_gate(gate)
        finally:
            with self.lock:
                self.present -= 1

    def most_present(self) -> int:
        return self.most

    def mine(self) -> tuple[int, int]:
        self.local.calls = getattr(self.local, "calls", 0) + 1
        time.sleep(0.001)
        return threading.get_ident(), self.local.calls

    def echo(self, value: Any) -> Any:
        return value

    def double(self, value: Any) -> Any:
        return value * 2

    def pid(self) -> int:
        return os.getpid()


def test_as_many_calls_run_at_once_as_there_are_threads_and_no_more(cluster: Cluster, gate: Gate):
    crew = Crew.remote()
    refs = [crew.hold.remote(gate.path) for _ in range(9)]
    gate.wait_reached(times=4)
    behind = crew.echo.remote("behind")
    assert not ca.wait([behind], timeout=0.1)[0]
    assert len(gate.pids()) == 4
    assert len(set(gate.pids())) == 1, "one process"

    gate.open()

    assert ca.get([*refs, behind], timeout=10) == ["passed"] * 9 + ["behind"]
    assert ca.get(crew.most_present.remote(), timeout=10) == 4


def test_threads_stay_and_keep_what_is_local_to_them(cluster: Cluster):
    crew = Crew.remote()

    found = ca.get([crew.mine.remote() for _ in range(200)], timeout=20)

    by_thread: dict[int, list[int]] = {}
    for thread, calls in found:
        by_thread.setdefault(thread, []).append(calls)
    assert 2 <= len(by_thread) <= 4
    for calls in by_thread.values():
        assert sorted(calls) == list(range(1, len(calls) + 1))


def test_ten_thousand_calls_all_answer(cluster: Cluster):
    crew = Crew.remote()

    assert ca.get([crew.echo.remote(n) for n in range(10_000)], timeout=60) == list(range(10_000))


def test_a_threaded_actor_may_wait_for_calls_to_itself(cluster: Cluster):
    @ca.remote(max_concurrency=2)
    class Two:
        def ask(self, me: list[Any]) -> int:
            return ca.get(me[0].answer.remote())

        def answer(self) -> int:
            return 42

    two = Two.remote()
    assert ca.get(two.ask.remote([two]), timeout=10) == 42


def test_an_unready_argument_holds_nobody_back(cluster: Cluster, gate: Gate):
    crew = Crew.remote()
    waiting = crew.echo.remote(held.remote(gate.path))

    assert ca.get(crew.echo.remote("after"), timeout=10) == "after"
    assert not ca.wait([waiting], timeout=0)[0]
    gate.open()
    assert ca.get(waiting, timeout=10) == "passed"


def test_an_exception_in_one_thread_leaves_the_others_alone(cluster: Cluster, gate: Gate):
    crew = Crew.remote()
    waiting = crew.hold.remote(gate.path)
    gate.wait_reached()

    with pytest.raises(TypeError):
        ca.get(crew.double.remote(None), timeout=10)
    gate.open()
    assert ca.get(waiting, timeout=10) == "passed"


def test_order_cannot_be_demanded_of_overlapping_calls():
    class Plain:
        def work(self) -> None:
            """Never runs."""

    with pytest.raises(ValueError, match="allow_out_of_order_execution"):
        ca.remote(max_concurrency=2, allow_out_of_order_execution=False)(Plain)


def test_what_waits_survives_a_killed_threaded_actor_and_what_ran_fails(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    journal = tmp_path / "journal"

    @ca.remote(max_concurrency=2, max_restarts=-1)
    class Writer:
        def hold(self, gate: str) -> str:
            return pass_gate(gate)

        def write(self, word: Any) -> Any:
            with journal.open("a") as file:
                file.write(f"{word}\n")
            return word

    writer = Writer.remote()
    running = [writer.hold.remote(gate.path) for _ in range(2)]
    pid = gate.wait_reached(times=2)
    waiting = [writer.write.remote(number) for number in range(200)]

    os.kill(pid, signal.SIGKILL)

    for ref in running:
        with pytest.raises(ca.ActorUnavailableError):
            ca.get(ref, timeout=10)
    assert ca.get(waiting, timeout=20) == list(range(200))
    assert sorted(journal.read_text().split(), key=int) == [str(n) for n in range(200)]


def test_what_ran_in_a_killed_threaded_actor_runs_again_with_retries(cluster: Cluster, gate: Gate):
    crew = Crew.options(max_restarts=-1, max_task_retries=-1).remote()
    refs = [crew.hold.remote(gate.path) for _ in range(4)]
    first = gate.wait_reached(times=4)

    os.kill(first, signal.SIGKILL)

    gate.wait_reached(times=8)
    gate.open()
    assert ca.get(refs, timeout=10) == ["passed"] * 4
    assert len(gate.pids()) == 8


def test_kill_ends_running_waiting_and_later_calls_of_a_threaded_actor(
    cluster: Cluster, gate: Gate
):
    crew = Crew.options(name="crew").remote()
    refs = [crew.hold.remote(gate.path) for _ in range(6)]
    pid = gate.wait_reached(times=4)

    ca.kill(crew)

    for ref in [*refs, crew.echo.remote(1)]:
        with pytest.raises(ca.ActorDiedError, match=r"Crew\(crew\).*kill\(\)"):
            ca.get(ref, timeout=10)
    wait_until(lambda: not is_alive(pid), "its process is gone")


def test_sys_exit_in_a_thread_is_a_crash_that_restarts_the_actor(cluster: Cluster, gate: Gate):
    @ca.remote(max_concurrency=2, max_restarts=1)
    class Quitter:
        def quit(self) -> None:
            raise SystemExit(7)

        def hold(self, gate: str) -> str:
            return pass_gate(gate)

        def pid(self) -> int:
            return os.getpid()

    quitter = Quitter.remote()
    running = quitter.hold.remote(gate.path)
    pid = gate.wait_reached()

    with pytest.raises(ca.ActorUnavailableError, match="status 7"):
        ca.get(quitter.quit.remote(), timeout=10)
    with pytest.raises(ca.ActorUnavailableError, match="status 7"):
        ca.get(running, timeout=10)
    assert ca.get(quitter.pid.remote(), timeout=10) != pid
