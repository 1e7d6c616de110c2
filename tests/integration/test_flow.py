"""Flow control: endless producers slow down, reads come through, nothing deadlocks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until

pytestmark = pytest.mark.timeout(120)

#: A caller is slowed down from 5,000 calls ahead; four of them share the actor's queue.
BOUND = 30_000


@ca.remote(num_cpus=0)
def produce(counter: Any, stop: str) -> int:
    sent = 0
    while not Path(stop).exists():
        counter.add.remote()
        sent += 1
    return sent


@ca.remote
class Slow:
    """Takes its time."""

    def __init__(self) -> None:
        self.value = 0

    def add(self) -> int:
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            pass
        self.value += 1
        return self.value

    def read(self) -> int:
        return self.value


@ca.remote
class Loop:
    """Calls itself."""

    def __init__(self) -> None:
        self.value = 0
        self.me: Any = None

    def meet(self, me: list[Any]) -> None:
        self.me = me[0]

    def add(self) -> int:
        self.value += 1
        return self.value

    def burst(self, calls: int) -> None:
        for _ in range(calls):
            self.me.add.remote()

    def read(self) -> int:
        return self.value


@pytest.mark.slow
def test_four_endless_producers_leave_the_queue_bounded_and_the_actor_readable(
    cluster: Cluster, tmp_path: Path
):
    stop = tmp_path / "stop"
    counter = Slow.remote()
    producers = [produce.remote(counter, str(stop)) for _ in range(4)]
    with cluster.client() as client:
        wait_until(
            lambda: client.llen(counter._identity.queue) > 3_000, "the producers are ahead", 60
        )
        longest, reads, slowest = 0, [], 0.0
        for _ in range(10):
            began = time.monotonic()
            reads.append(ca.get(counter.read.remote(), timeout=60))
            slowest = max(slowest, time.monotonic() - began)
            longest = max(longest, client.llen(counter._identity.queue))
        stop.touch()
        sent = sum(ca.get(producers, timeout=60))
        assert ca.get(counter.read.remote(), timeout=60) == sent
    assert reads == sorted(reads)
    assert longest < BOUND, "the queue is bounded"
    assert slowest < 15, "a read takes seconds"
    ca.kill(counter)


def test_a_driver_far_ahead_of_a_held_actor_is_slowed_down_and_not_stopped(
    cluster: Cluster, gate: Gate
):
    from tests.integration.actors import Counter

    actor = Counter.remote()
    held = actor.hold.remote(gate.path)
    gate.wait_reached()

    refs = [actor.add.remote() for _ in range(6_000)]

    gate.open()
    assert ca.get(held, timeout=10) == "passed"
    assert ca.get(refs[-1], timeout=60) == 6_000
    ca.kill(actor)


def test_an_actor_that_calls_itself_six_thousand_times_does_not_deadlock(cluster: Cluster):
    actor = Loop.remote()
    ca.get(actor.meet.remote([actor]), timeout=10)

    ca.get(actor.burst.remote(6_000), timeout=60)

    wait_until(lambda: ca.get(actor.read.remote(), timeout=30) == 6_000, "all calls to itself", 30)
    ca.kill(actor)


def test_two_actors_that_call_each_other_six_thousand_times_do_not_deadlock(cluster: Cluster):
    one, other = Loop.remote(), Loop.remote()
    ca.get([one.meet.remote([other]), other.meet.remote([one])], timeout=10)

    ca.get([one.burst.remote(6_000), other.burst.remote(6_000)], timeout=90)

    def values() -> list[int]:
        return ca.get([one.read.remote(), other.read.remote()], timeout=30)

    wait_until(lambda: values() == [6_000, 6_000], "all calls to each other", 60)
