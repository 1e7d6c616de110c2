"""Calls for later: ``countdown`` and ``eta``, which hold nobody back."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Recorder
from tests.integration.support import Cluster, wait_until

KINDS: dict[str, dict[str, Any]] = {
    "sync": {}, "out of order": {"allow_out_of_order_execution": True},
    "threaded": {"max_concurrency": 2},
}  # fmt: skip


class Clock:
    """Writes down when it was called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def note(self, word: Any) -> float:
        self.calls.append(word)
        return time.time()

    def read(self) -> list[Any]:
        return self.calls

    def pid(self) -> int:
        return os.getpid()


class AsyncClock(Clock):
    """The same, on an event loop."""

    async def tick(self) -> None:
        """Make the class async."""


@pytest.mark.parametrize("kind", [*KINDS, "async"])
def test_a_call_for_later_starts_when_it_is_due_and_holds_nobody_back(cluster: Cluster, kind: str):
    cls = ca.remote(AsyncClock) if kind == "async" else ca.remote(Clock).options(**KINDS[kind])
    clock = cls.remote()
    ahead = datetime.now(UTC) + timedelta(hours=1)
    far = [clock.note.options(countdown=3600).remote(3), clock.note.options(eta=ahead).remote(4)]

    assert ca.get(clock.note.remote(1), timeout=10)
    began = time.time()
    second = clock.note.options(eta=datetime.now(UTC) + timedelta(seconds=0.3)).remote(2)
    assert ca.get(second, timeout=10) >= began + 0.3
    assert ca.get(clock.note.options(countdown=0.3).remote(5), timeout=10) >= began + 0.6
    assert not ca.wait(far, timeout=0)[0]
    assert ca.get(clock.read.remote(), timeout=10) == [1, 2, 5]
    ca.kill(clock)


def test_a_moment_that_is_over_or_a_countdown_of_nought_means_now(cluster: Cluster):
    recorder = Recorder.remote()
    past = datetime.now(UTC) - timedelta(hours=1)

    recorder.note.options(countdown=0).remote("me", 1)
    recorder.note.options(eta=past).remote("me", 2)
    naive = datetime.now() - timedelta(seconds=1)  # noqa: DTZ005 - local time, as users write it
    ca.get(recorder.note.options(eta=naive).remote("me", 3), timeout=5)

    assert ca.get(recorder.notes_taken.remote(), timeout=10) == [["me", n] for n in (1, 2, 3)]


def test_a_countdown_begins_anew_with_each_call(cluster: Cluster):
    clock = ca.remote(Clock).remote()
    ca.get(clock.pid.remote(), timeout=10)
    later = clock.note.options(countdown=0.2)
    for _ in range(2):
        began = time.time()
        assert ca.get(later.remote(1), timeout=10) >= began + 0.2


def test_a_call_for_later_can_be_cancelled(cluster: Cluster):
    clock = ca.remote(Clock).remote()
    ref = clock.note.options(countdown=300).remote(1)
    ca.get(clock.pid.remote(), timeout=10)

    ca.cancel(ref)

    with pytest.raises(ca.TaskCancelledError):
        ca.get(ref, timeout=5)
    assert ca.get(clock.read.remote(), timeout=10) == []


def test_thousands_of_calls_for_later_cost_no_thread_each(cluster: Cluster):
    clock = ca.remote(Clock).remote()
    pid = ca.get(clock.pid.remote(), timeout=10)
    later = clock.note.options(eta=datetime.now(UTC) + timedelta(hours=1))
    far = [later.remote(n) for n in range(2_000)]
    near = clock.note.options(countdown=0.1).remote("near")

    assert ca.get(near, timeout=20)
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) < 20
    assert not ca.wait(far[:1], timeout=0)[0]
    ca.kill(clock)


def test_a_call_for_later_survives_a_restart_of_its_actor(cluster: Cluster):
    clock = ca.remote(max_restarts=1)(Clock).remote()
    pid = ca.get(clock.pid.remote(), timeout=10)
    began = time.time()
    ref = clock.note.options(countdown=1.0).remote("later")
    assert ca.get(clock.pid.remote(), timeout=10) == pid

    os.kill(pid, signal.SIGKILL)

    assert ca.get(ref, timeout=10) >= began + 1.0
    assert ca.get(clock.read.remote(), timeout=10) == ["later"]


def test_a_call_for_later_fails_with_its_actor(cluster: Cluster):
    clock = ca.remote(Clock).remote()
    ref = clock.note.options(countdown=300).remote("never")
    ca.get(clock.pid.remote(), timeout=10)

    ca.kill(clock)

    with pytest.raises(ca.ActorDiedError):
        ca.get(ref, timeout=5)


def test_a_moment_and_a_countdown_contradict_each_other(cluster: Cluster):
    recorder = Recorder.remote()
    with pytest.raises(ValueError, match="countdown or eta"):
        recorder.note.options(countdown=1, eta=datetime.now(UTC))


def test_a_late_call_still_waits_for_its_arguments(cluster: Cluster, gate: Any):
    from tests.integration.actors import held

    recorder = Recorder.remote()
    ref = recorder.note.options(countdown=0.05).remote("me", held.remote(gate.path))
    assert ca.get(recorder.note.remote("me", 1), timeout=10) is None
    assert not ca.wait([ref], timeout=0.3)[0]

    gate.open()

    ca.get(ref, timeout=10)
    wait_until(lambda: len(ca.get(recorder.notes_taken.remote())) == 2, "both notes")
