"""Durable actors that keep a journal: a recovery runs the calls since the last state again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from celery_actors import ctx, runtime
from celery_actors.testing import kill_worker
from tests.integration.actors import Counter, Recorder, pass_gate
from tests.integration.gates import Gate
from tests.integration.records import record_of, wait_dead
from tests.integration.support import Cluster, wait_until


@ca.remote(durable="journal", snapshot_every=10)
class Book:
    """Keeps entries, and notes outside of its state which of its calls ran."""

    def __init__(self, runs: str, recorder: Any = None) -> None:
        self.runs = runs
        self.recorder = recorder
        self.entries: list[Any] = []

    def ran(self, word: str) -> None:
        with Path(self.runs).open("a") as file:
            file.write(f"{word}\n")

    def write(self, entry: Any) -> int:
        self.ran(str(entry))
        self.entries.append(entry)
        if self.recorder is not None:
            self.recorder.note.remote("book", entry)
        return len(self.entries)

    def read(self) -> list[Any]:
        return self.entries

    def write_at(self, gate: str, entry: Any) -> int:
        count = self.write(entry)
        pass_gate(gate)
        return count

    def write_and_fail(self, entry: Any) -> None:
        self.write(entry)
        raise ValueError("after it was written")

    def write_chance(self) -> tuple[Any, ...]:
        chance = (ctx.now(), ctx.random(), ctx.uuid4())
        self.entries.append(chance)
        return chance

    def write_outside(self) -> str:
        self.entries.append(ctx.run(self.ask_outside))
        return self.entries[-1]

    def ask_outside(self) -> str:
        self.ran("outside")
        return f"answer {len(Path(self.runs).read_text().splitlines())}"

    def write_others(self, counter: Any) -> int:
        """Take in what another actor says."""
        self.entries.append(ca.get(counter.add.remote()))
        return self.entries[-1]

    def make_another(self) -> Any:
        self.another = Counter.remote()
        return ca.get(self.another.add.remote())

    def use_another(self) -> int:
        return ca.get(self.another.add.remote())

    def write_clock(self) -> float:
        """Break the rule: take the time from the clock."""
        self.entries.append(time.time_ns() + random.random())
        return self.entries[-1]

    def write_names(self, names: set[str]) -> set[str]:
        self.entries.append(sorted(names))
        return {name.upper() for name in names}

    def loop(self) -> None:
        self.entries.append("never")
        while True:
            pass

    def crash(self) -> None:
        os._exit(3)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_a_recovery_runs_only_the_calls_since_the_last_state(cluster: Cluster, runs: Path):
    book = Book.remote(str(runs))
    refs = [book.write.remote(number) for number in range(25)]
    assert ca.get(refs, timeout=20) == list(range(1, 26))

    kill_worker(book)

    assert ca.get(book.read.remote(), timeout=20) == list(range(25))
    again = lines(runs)[25:]
    assert again == ["20", "21", "22", "23", "24"], "in their order, from the last state on"


def test_new_calls_wait_until_the_replay_is_over(cluster: Cluster, runs: Path, gate: Gate):
    book = Book.remote(str(runs))
    for number in range(3):
        ca.get(book.write.remote(number), timeout=10)
    running = book.write_at.remote(gate.path, "running")
    waiting = [book.write.remote(f"new {number}") for number in range(3)]
    os.kill(gate.wait_reached(), signal.SIGKILL)
    gate.open()

    assert ca.get([running, *waiting], timeout=20) == [4, 5, 6, 7]
    assert lines(runs) == [
        "0", "1", "2", "running", "0", "1", "2", "running", "new 0", "new 1", "new 2",
    ]  # fmt: skip


def test_what_a_call_sent_is_not_sent_again_by_the_replay(cluster: Cluster, runs: Path):
    recorder = Recorder.remote()
    book = Book.remote(str(runs), recorder)
    for round_ in range(4):
        refs = [book.write.remote([round_, number]) for number in range(7)]
        ca.get(refs, timeout=20)
        kill_worker(book)
    assert ca.get(book.write.remote("end"), timeout=20) == 29

    notes = ca.get(recorder.notes_taken.remote(), timeout=10)
    expected = [["book", [round_, number]] for round_ in range(4) for number in range(7)]
    assert notes == [*expected, ["book", "end"]]


def test_chance_is_the_same_when_a_call_runs_again(cluster: Cluster, runs: Path):
    book = Book.remote(str(runs))
    first = [ca.get(book.write_chance.remote(), timeout=10) for _ in range(3)]
    assert len({chance[1] for chance in first}) == 3
    kill_worker(book)
    assert ca.get(book.read.remote(), timeout=20) == first


def test_an_outside_step_is_made_once(cluster: Cluster, runs: Path):
    book = Book.remote(str(runs))
    answer = ca.get(book.write_outside.remote(), timeout=10)
    kill_worker(book)
    assert ca.get(book.read.remote(), timeout=20) == [answer]
    assert lines(runs) == ["outside"]


def test_what_others_said_is_not_asked_again(cluster: Cluster, runs: Path):
    counter = Counter.remote()
    book = Book.remote(str(runs))
    assert ca.get([book.write_others.remote(counter) for _ in range(3)], timeout=20) == [1, 2, 3]
    kill_worker(book)
    assert ca.get(book.read.remote(), timeout=20) == [1, 2, 3]
    assert ca.get(counter.add.remote(), timeout=10) == 4


def test_an_actor_that_a_call_made_is_the_same_after_a_replay(cluster: Cluster, runs: Path):
    book = Book.remote(str(runs))
    assert ca.get(book.make_another.remote(), timeout=20) == 1
    kill_worker(book)
    assert ca.get(book.use_another.remote(), timeout=20) == 2


def test_a_failed_call_fails_again_and_leaves_the_same(cluster: Cluster, runs: Path):
    book = Book.remote(str(runs))
    with pytest.raises(ValueError, match="after it was written"):
        ca.get(book.write_and_fail.remote("kept"), timeout=10)
    kill_worker(book)
    assert ca.get(book.read.remote(), timeout=20) == ["kept"]


def test_sets_are_compared_by_what_they_hold(cluster: Cluster, runs: Path):
    book = Book.remote(str(runs))
    names = {f"name {number}" for number in range(50)}
    assert len(ca.get(book.write_names.remote(names), timeout=10)) == 50
    kill_worker(book)
    assert ca.get(book.read.remote(), timeout=20) == [sorted(names)]


def test_a_call_that_was_stopped_or_rolled_back_leaves_no_trace(cluster: Cluster, runs: Path):
    book = Book.options(rollback_on_error=True).remote(str(runs))
    ca.get([book.write.remote(number) for number in range(4)], timeout=10)
    with pytest.raises(ca.exceptions.TaskTimeoutError):
        ca.get(book.loop.options(timeout=0.1).remote(), timeout=20)
    with pytest.raises(ValueError, match="after it was written"):
        ca.get(book.write_and_fail.remote("gone"), timeout=10)
    assert ca.get(book.read.remote(), timeout=10) == [0, 1, 2, 3]
    kill_worker(book)
    assert ca.get(book.read.remote(), timeout=20) == [0, 1, 2, 3]


def test_another_result_freezes_the_actor_with_its_state(cluster: Cluster, runs: Path):
    book = Book.options(name="careless").remote(str(runs))
    ca.get([book.write.remote(1), book.write_clock.remote()], timeout=10)
    keys, store = record_of(book).keys, runtime.current().store
    journal = store.run("LRANGE", keys.journal, 0, -1)
    state = store.get(keys.state)

    kill_worker(book)
    wait_until(lambda: record_of(book).state == "FROZEN", "the standstill")

    with pytest.raises(
        ca.exceptions.NonDeterminismError, match=r"careless\) stands still.*call 2.*write_clock"
    ):
        ca.get(book.write.remote(2), timeout=10)
    assert store.run("LRANGE", keys.journal, 0, -1) == journal
    assert store.get(keys.state) == state
    ca.kill(book)
    wait_until(lambda: store.run("EXISTS", keys.state, keys.journal) == 0, "the keys to go")


def test_a_node_that_ends_in_order_stores_the_state(cluster: Cluster, runs: Path):
    book = Book.remote(str(runs))
    ca.get([book.write.remote(number) for number in range(3)], timeout=10)
    pid = int(record_of(book).meta["pid"])

    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: record_of(book).meta["pid"] != str(pid), "the next process")

    assert ca.get(book.read.remote(), timeout=20) == [0, 1, 2]
    assert lines(runs) == ["0", "1", "2"], "no call ran again"


def test_a_passive_actor_comes_back_from_its_state_alone(cluster: Cluster, runs: Path):
    book = Book.options(idle_timeout=0.2).remote(str(runs))
    ca.get([book.write.remote(number) for number in range(3)], timeout=10)
    wait_until(lambda: record_of(book).state == "PASSIVE", "the actor to be passive")

    assert ca.get(book.read.remote(), timeout=20) == [0, 1, 2]
    assert lines(runs) == ["0", "1", "2"], "no call ran again"


def test_what_only_the_journal_referred_to_is_let_go_with_it(cluster: Cluster, runs: Path):
    counter = Counter.remote()
    book = Book.options(idle_timeout=0.2).remote(str(runs))
    assert ca.get(book.write_others.remote(counter), timeout=20) == 1
    of_counter = record_of(counter)
    wait_until(lambda: record_of(book).state == "PASSIVE", "the actor to be passive")
    del counter
    wait_dead(of_counter)
