"""Durable actors: a crash takes back the call that ran, and nothing else; nothing happens twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import celery_actors as ca
from celery_actors import runtime
from tests.integration.actors import Counter, Recorder, pass_gate
from tests.integration.gates import Gate
from tests.integration.large import SIZE, lose_everything
from tests.integration.records import record_of, wait_dead
from tests.integration.support import Cluster, wait_until


@ca.remote(durable=True)
class Ledger:
    """Keeps amounts, and tells somebody of each."""

    def __init__(self, recorder: Any = None, start: int = 0) -> None:
        self.total = start
        self.recorder = recorder
        self.born = os.getpid()

    def add(self, amount: int = 1) -> int:
        self.total += amount
        if self.recorder is not None:
            self.recorder.note.remote("ledger", self.total)
        return self.total

    def add_at(self, gate: str, amount: int = 1) -> int:
        total = self.add(amount)
        pass_gate(gate)
        return total

    def add_and_fail(self, amount: int = 1) -> None:
        self.add(amount)
        raise ValueError("after it was added")

    def add_until(self, journal: str, tries: int) -> int:
        """Succeed with the given try."""
        total = self.add(1)
        with Path(journal).open("a+") as file:
            file.write("try\n")
            file.seek(0)
            if len(file.readlines()) < tries:
                raise ValueError("not yet")
        return total

    def crash(self, journal: str) -> None:
        self.total += 1000
        with Path(journal).open("a") as file:
            file.write("try\n")
        os._exit(3)

    def add_two(self, amount: int) -> tuple[int, int]:
        return self.add(amount), self.add(amount)

    def ask(self, gate: str = "") -> int:
        """Wait for somebody else in the middle of the call."""
        self.total += 1
        known = len(ca.get(self.recorder.notes_taken.remote()))
        if gate:
            pass_gate(gate)
        return known

    def wait_for(self, values: int) -> int:
        return self.add(values)

    def take(self, thing: Any) -> None:
        self.thing = thing

    def give(self) -> Any:
        return self.thing

    def use(self) -> int:
        return ca.get(self.thing.add.remote())

    def spoil(self) -> None:
        self.total += 1000
        self.thing = (number for number in range(3))

    def loop(self) -> None:
        self.total += 1000
        while True:
            pass

    def pids(self) -> tuple[int, int]:
        return self.born, os.getpid()

    def array(self) -> np.ndarray:
        self.add(1)
        return np.full(SIZE, 1.0)

    def leave(self) -> None:
        self.add(1)
        ca.exit_actor()


def kill(actor: Any) -> None:
    os.kill(ca.get(actor.pids.remote(), timeout=30)[1], signal.SIGKILL)


def test_the_state_outlives_a_killed_process(cluster: Cluster):
    ledger = Ledger.remote(start=5)
    assert ca.get([ledger.add.remote() for _ in range(10)], timeout=10)[-1] == 15
    born, pid = ca.get(ledger.pids.remote(), timeout=10)

    os.kill(pid, signal.SIGKILL)

    assert ca.get(ledger.add.remote(), timeout=20) == 16
    born_then, pid_then = ca.get(ledger.pids.remote(), timeout=10)
    assert born_then == born, "the constructor ran again"
    assert pid_then != pid


def test_a_call_that_ran_is_rolled_back_and_runs_again_with_what_it_sent(
    cluster: Cluster, gate: Gate
):
    recorder = Recorder.remote()
    ledger = Ledger.remote(recorder)
    before = ledger.add.remote(1)
    running = ledger.add_at.remote(gate.path, 10)
    after = ledger.add.remote(100)
    assert ca.get(before, timeout=10) == 1

    os.kill(gate.wait_reached(), signal.SIGKILL)
    gate.wait_reached(times=2)
    notes = ca.get(recorder.notes_taken.remote(), timeout=10)
    gate.open()

    assert notes == [["ledger", 1]], "what a call sends is not seen before the call commits"
    assert ca.get([running, after], timeout=20) == [11, 111]
    notes = ca.get(recorder.notes_taken.remote(), timeout=10)
    assert notes == [["ledger", total] for total in (1, 11, 111)]


@pytest.mark.parametrize("commit_every", [1, 20])
def test_through_many_kills_each_call_counts_once_in_order(cluster: Cluster, commit_every: int):
    recorder = Recorder.remote()
    ledger = Ledger.options(commit_every=commit_every).remote(recorder)
    refs = []
    for kills in range(1, 7):
        refs += [ledger.add.remote() for _ in range(60)]
        ca.get(refs[-20], timeout=60)
        os.kill(int(record_of(ledger).meta["pid"]), signal.SIGKILL)
        wait_until(lambda n=kills: record_of(ledger).meta["restarts"] == str(n), "the restart")

    assert ca.get(refs, timeout=60) == list(range(1, 361))
    notes = ca.get(recorder.notes_taken.remote(), timeout=10)
    assert notes == [["ledger", total] for total in range(1, 361)]


def test_a_paused_process_that_comes_back_commits_nothing(cluster: Cluster, gate: Gate):
    recorder = Recorder.remote()
    ledger = Ledger.remote(recorder)
    running = ledger.add_at.remote(gate.path)
    pid = gate.wait_reached()
    record = record_of(ledger)
    os.kill(pid, signal.SIGSTOP)
    lost = {"epoch": record.meta["ep"], "owner": record.meta["own"]}
    store = runtime.current().store
    # Another node has taken over meanwhile: the epoch moves on.
    store.run("HSET", record.keys.meta, "ep", str(int(lost["epoch"]) + 1))
    gate.open()

    os.kill(pid, signal.SIGCONT)

    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the process to end")
    assert ca.get(recorder.notes_taken.remote(), timeout=10) == []
    store.run("HSET", record.keys.meta, "ep", lost["epoch"])
    assert ca.get(running, timeout=40) == 1
    assert ca.get(recorder.notes_taken.remote(), timeout=10) == [["ledger", 1]]


def test_an_exception_keeps_what_was_done_before_it(cluster: Cluster):
    ledger = Ledger.remote()
    with pytest.raises(ValueError, match="after it was added"):
        ca.get(ledger.add_and_fail.remote(5), timeout=10)
    kill(ledger)
    assert ca.get(ledger.add.remote(), timeout=20) == 6


def test_with_rollback_on_error_an_exception_takes_the_call_back(cluster: Cluster):
    recorder = Recorder.remote()
    ledger = Ledger.options(rollback_on_error=True).remote(recorder)
    assert ca.get(ledger.add.remote(1), timeout=10) == 1
    with pytest.raises(ValueError, match="after it was added"):
        ca.get(ledger.add_and_fail.remote(5), timeout=10)

    assert ca.get(ledger.add.remote(2), timeout=10) == 3
    kill(ledger)
    assert ca.get(ledger.add.remote(1), timeout=20) == 4
    notes = ca.get(recorder.notes_taken.remote(), timeout=10)
    assert notes == [["ledger", total] for total in (1, 3, 4)]


def test_with_rollback_on_error_each_try_of_a_call_starts_afresh(cluster: Cluster, tmp_path: Path):
    recorder = Recorder.remote()
    ledger = Ledger.options(rollback_on_error=True).remote(recorder)
    retried = ledger.add_until.options(retry_exceptions=True, max_task_retries=5)

    assert ca.get(retried.remote(str(tmp_path / "tries"), 3), timeout=10) == 1
    assert ca.get(recorder.notes_taken.remote(), timeout=10) == [["ledger", 1]]


def test_a_call_that_was_stopped_leaves_no_trace(cluster: Cluster):
    ledger = Ledger.remote()
    with pytest.raises(ca.exceptions.TaskTimeoutError):
        ca.get(ledger.loop.options(timeout=0.1).remote(), timeout=20)
    assert ca.get(ledger.add.remote(), timeout=10) == 1


def test_a_call_that_always_crashes_can_be_cancelled(cluster: Cluster, tmp_path: Path):
    tries = tmp_path / "tries"
    ledger = Ledger.remote()
    poison = ledger.crash.remote(str(tries))
    waiting = ledger.add.remote()
    wait_until(lambda: tries.exists() and len(tries.read_text().splitlines()) > 4, "five tries")

    ca.cancel(poison)

    with pytest.raises(ca.TaskCancelledError):
        ca.get(poison, timeout=20)
    assert ca.get(waiting, timeout=20) == 1


def test_a_state_that_cannot_be_pickled_fails_its_call_and_is_rolled_back(cluster: Cluster):
    ledger = Ledger.remote()
    with pytest.raises(ca.exceptions.SerializationError, match=r"Ledger\(.*rolled back"):
        ca.get(ledger.spoil.remote(), timeout=10)
    assert ca.get(ledger.add.remote(), timeout=10) == 1


def test_a_call_may_wait_for_another_actor_in_the_middle(cluster: Cluster, gate: Gate):
    recorder = Recorder.remote()
    ledger = Ledger.remote(recorder)
    added = [ledger.add.remote() for _ in range(5)]
    assert ca.get(ledger.ask.remote(), timeout=20) == 5, "what was sent before is there before"
    running = ledger.ask.remote(gate.path)
    os.kill(gate.wait_reached(), signal.SIGKILL)
    gate.open()
    assert ca.get(running, timeout=20) == 5
    assert ca.get([*added, ledger.add.remote()], timeout=10) == [1, 2, 3, 4, 5, 8]


def test_a_call_whose_argument_comes_late_commits_its_state_too(cluster: Cluster, gate: Gate):
    recorder = Recorder.remote()
    ledger = Ledger.remote(recorder)
    counter = Counter.remote()
    late = counter.hold.remote(gate.path)
    amount = counter.add.remote(7)
    waits = ledger.wait_for.remote(amount)
    gate.wait_reached()
    gate.open()

    assert ca.get(waits, timeout=10) == 7
    assert ca.get(late, timeout=10) == "passed"
    kill(ledger)
    assert ca.get(ledger.add.remote(1), timeout=20) == 8
    notes = ca.get(recorder.notes_taken.remote(), timeout=10)
    assert notes == [["ledger", 7], ["ledger", 8]]


def test_several_values_are_committed_with_the_state(cluster: Cluster):
    ledger = Ledger.remote()
    first, second = ledger.add_two.options(num_returns=2).remote(3)
    assert ca.get([first, second], timeout=10) == [3, 6]
    kill(ledger)
    assert ca.get([first, second, ledger.add.remote()], timeout=20) == [3, 6, 7]


def test_a_handle_in_the_state_keeps_its_actor_alive_over_a_crash(cluster: Cluster):
    counter = Counter.remote()
    ledger = Ledger.remote()
    ca.get(ledger.take.remote(counter), timeout=10)
    of_counter = record_of(counter)
    del counter
    kill(ledger)

    assert ca.get(ledger.use.remote(), timeout=20) == 1
    ca.get(ledger.take.remote(None), timeout=10)
    wait_dead(of_counter)


def test_an_ended_actor_leaves_no_state(cluster: Cluster):
    counter = Counter.remote()
    ledger = Ledger.remote()
    ca.get(ledger.take.remote(counter), timeout=10)
    keys = record_of(ledger).keys
    store = runtime.current().store
    assert store.run("EXISTS", keys.state) == 1

    with pytest.raises(ca.ActorDiedError):
        ca.get(ledger.leave.remote(), timeout=10)

    wait_until(lambda: store.run("EXISTS", keys.state) == 0, "the state to go")
    of_counter = record_of(counter)
    del counter
    wait_dead(of_counter)


def test_a_lost_value_of_a_durable_actor_is_not_made_again(cluster: Cluster):
    ledger = Ledger.remote()
    ref = ledger.array.remote()
    assert ca.wait([ref], timeout=10)[0] == [ref]
    lose_everything(cluster.address)
    with pytest.raises(ca.ObjectLostError):
        ca.get(ref, timeout=20)
    assert ca.get(ledger.add.remote(), timeout=10) == 2


class Shelf:
    """Has a state of its own making."""

    __state_version__ = 1

    def __init__(self) -> None:
        self.things = ["a"]
        self.lock = (number for number in range(3))  # cannot be kept

    def __getstate__(self) -> dict[str, Any]:
        return {"things": self.things}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.things = state["things"]
        self.lock = None

    def put(self, thing: str) -> list[str]:
        self.things.append(thing)
        return self.things

    def pids(self) -> tuple[int, int]:
        return 0, os.getpid()


def test_a_class_may_say_what_its_state_is(cluster: Cluster):
    shelf = ca.remote(durable="state")(Shelf).remote()
    assert ca.get(shelf.put.remote("b"), timeout=10) == ["a", "b"]
    kill(shelf)
    assert ca.get(shelf.put.remote("c"), timeout=20) == ["a", "b", "c"]


class Bag(list):  # type: ignore[type-arg]
    """Keeps its state in a built-in base, and one of it in a member that points back."""

    class Tag:
        owner: Any = None

    def fill(self, *things: Any) -> list[Any]:
        self.extend(things)
        self.tag = Bag.Tag()
        self.tag.owner = self
        return list(self)

    def is_itself(self) -> bool:
        return self.tag.owner is self

    def pids(self) -> tuple[int, int]:
        return 0, os.getpid()


def test_a_state_that_points_back_to_its_actor_stays_one(cluster: Cluster):
    bag = ca.remote(durable=True)(Bag).remote()
    ca.get(bag.fill.remote(1, 2), timeout=10)
    kill(bag)
    assert ca.get(bag.is_itself.remote(), timeout=20) is True
    assert ca.get(bag.fill.remote(3), timeout=10) == [1, 2, 3]


def test_what_cannot_be_durable_is_refused_where_it_is_said(cluster: Cluster):
    class Late:
        async def work(self) -> None:
            pass

    class Many:
        def work(self) -> Any:
            yield 1

    for cls, options in ((Late, {}), (Many, {"max_concurrency": 2})):
        with pytest.raises(ValueError, match="durable, and its calls would overlap"):
            ca.remote(durable=True, **options)(cls)
    with pytest.raises(ValueError, match="commit_every needs durable=True"):
        ca.remote(commit_every=5)(Many)
    with pytest.raises(ValueError, match="must be True, False, 'state' or 'journal'"):
        ca.remote(durable="always")(Many)
    many = ca.remote(durable=True)(Many).remote()
    with pytest.raises(ValueError, match=r"one by one.*durable.*Return a list"):
        many.work.remote()
