"""What celery_actors.testing gives to other people's tests."""

from __future__ import annotations

import os
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.testing import Semaphore, SignalActor, kill_worker, pause_worker, running_cluster
from tests.integration.actors import Counter
from tests.integration.support import Cluster, is_alive, wait_until


@ca.remote
def wait_for(signal: Any) -> str:
    ca.get(signal.wait.remote())
    return "passed"


def waiting(signal: Any) -> int:
    return ca.get(signal.cur_num_waiters.remote(), timeout=10)


def test_a_signal_holds_calls_back_until_it_is_sent(cluster: Cluster):
    signal = SignalActor.remote()
    refs = [wait_for.remote(signal) for _ in range(2)]
    wait_until(lambda: waiting(signal) == 2, "both calls wait")
    assert ca.wait(refs, timeout=0)[0] == []

    ca.get(signal.send.remote())
    assert ca.get(refs, timeout=20) == ["passed"] * 2
    assert ca.get(wait_for.remote(signal), timeout=20) == "passed"


def test_a_cleared_signal_holds_back_again(cluster: Cluster):
    signal = SignalActor.remote()
    ca.get(signal.send.remote(), timeout=10)
    ca.get(signal.clear.remote())
    first = wait_for.remote(signal)
    wait_until(lambda: waiting(signal) == 1, "the call waits")

    ca.get(signal.send.remote(clear=True))
    assert ca.get(first, timeout=20) == "passed"
    second = signal.wait.remote()
    wait_until(lambda: waiting(signal) == 1, "the next one waits")
    assert ca.get(signal.wait.remote(should_wait=False), timeout=10) is None
    ca.get(signal.send.remote())
    ca.get(second, timeout=10)


def test_a_semaphore_has_as_many_places_as_it_says(cluster: Cluster):
    semaphore = Semaphore.remote(2)
    ca.get([semaphore.acquire.remote() for _ in range(2)], timeout=10)
    assert ca.get(semaphore.locked.remote())
    third = semaphore.acquire.remote()
    ca.get(semaphore.release.remote(), timeout=10)
    assert ca.get(third, timeout=10) is None
    ca.get([semaphore.release.remote() for _ in range(2)], timeout=10)
    assert not ca.get(semaphore.locked.remote())


def test_a_killed_worker_is_gone_when_the_call_returns(cluster: Cluster):
    counter = Counter.options(max_restarts=1).remote()
    pid = kill_worker(counter)
    assert not is_alive(pid)
    second = kill_worker(counter)
    assert second != pid
    with pytest.raises(ca.ActorDiedError):
        ca.get(counter.add.remote(), timeout=20)
    with pytest.raises(ca.ActorDiedError, match="no process"):
        kill_worker(counter)


def test_a_paused_worker_does_nothing_and_then_goes_on(cluster: Cluster):
    counter = Counter.remote()
    with pause_worker(counter) as pid:
        ref = counter.pid.remote()
        with pytest.raises(ca.GetTimeoutError):
            ca.get(ref, timeout=0.2)
    assert ca.get(ref, timeout=10) == pid
    with pause_worker(counter):
        os.kill(pid, 9)
    wait_until(lambda: not is_alive(pid), "the process killed in its pause is gone")


def test_an_actor_that_cannot_start_is_not_waited_for_for_ever(cluster: Cluster):
    # Not one that no node could ever hold: that one is refused, a moment sooner or later.
    everything = Counter.options(num_cpus=2).remote()
    ca.get(everything.pid.remote(), timeout=10)
    stuck = Counter.options(num_cpus=2).remote()
    with pytest.raises(TimeoutError, match="to start"):
        kill_worker(stuck, timeout=0.1)
    ca.kill(stuck)
    ca.kill(everything)


def test_a_second_cluster_is_refused_with_words(cluster: Cluster):
    with pytest.raises(RuntimeError, match="shared_cluster"), running_cluster():
        pass
