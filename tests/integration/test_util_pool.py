"""ActorPool: who works, in which order results come, and what a dead actor leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.util import ActorPool
from tests.integration.actors import Counter, pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until


@ca.remote
class Worker:
    """Doubles; waits at a gate, fails or dies when told."""

    def double(self, value: int) -> int:
        return value * 2

    def hold(self, gate: str) -> str:
        return pass_gate(gate)

    def fail(self, text: str) -> None:
        raise ValueError(text)


def double(actor: Any, value: int) -> Any:
    return actor.double.remote(value)


def pool_of(count: int) -> tuple[ActorPool[Any], list[Any]]:
    actors = [Worker.remote() for _ in range(count)]
    return ActorPool(actors), actors


def test_map_gives_results_in_the_order_of_the_values(cluster: Cluster):
    pool, _ = pool_of(2)

    assert list(pool.map(double, range(20))) == list(range(0, 40, 2))
    assert not pool.has_next()
    assert pool.has_free()


def test_map_unordered_gives_what_is_ready_first(cluster: Cluster, gate: Gate):
    pool, _ = pool_of(2)

    def work(actor: Any, value: Any) -> Any:
        return actor.hold.remote(gate.path) if value == "slow" else actor.double.remote(value)

    results = pool.map_unordered(work, ["slow", 1, 2, 3])

    assert [next(results) for _ in range(3)] == [2, 4, 6]
    gate.open()
    assert list(results) == ["passed"]


def test_map_sends_everything_it_can_before_it_is_iterated(cluster: Cluster):
    pool, _ = pool_of(1)
    counter = Counter.remote()
    pool.push(counter)

    pool.map(lambda actor, value: (actor.add if actor == counter else actor.double).remote(value),
             [1, 1])  # fmt: skip

    wait_until(lambda: ca.get(counter.seen.remote()) == [1], "the counter has counted")
    assert not pool.has_free()


def test_map_drops_results_that_nobody_has_fetched(cluster: Cluster):
    pool, _ = pool_of(1)
    for value in (100, 200, 300):
        pool.submit(double, value)

    assert list(pool.map(double, [1, 2])) == [2, 4]
    pool.submit(double, 9)
    assert list(pool.map_unordered(double, [1])) == [2]


def test_get_next_follows_the_order_of_submission(cluster: Cluster):
    pool, _ = pool_of(2)
    for value in range(5):
        pool.submit(double, value)

    assert [pool.get_next(timeout=10) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(StopIteration, match="No more results to get"):
        pool.get_next()
    with pytest.raises(StopIteration, match="No more results to get"):
        pool.get_next_unordered()


def test_get_next_after_get_next_unordered_says_that_there_is_no_order(
    cluster: Cluster, gate: Gate
):
    pool, _ = pool_of(2)
    pool.submit(lambda actor, path: actor.hold.remote(path), gate.path)
    pool.submit(double, 1)
    assert pool.get_next_unordered(timeout=10) == 2

    with pytest.raises(ValueError, match="get_next_unordered"):
        pool.get_next()

    gate.open()
    assert pool.get_next_unordered(timeout=10) == "passed"


TAKES: list[Callable[..., Any]] = [ActorPool.get_next, ActorPool.get_next_unordered]


@pytest.mark.parametrize("take", TAKES, ids=lambda take: take.__name__)
def test_a_late_result_can_be_asked_for_again_or_given_up(
    cluster: Cluster, gate: Gate, take: Callable[..., Any]
):
    pool, _ = pool_of(1)
    pool.submit(lambda actor, path: actor.hold.remote(path), gate.path)
    pool.submit(double, 4)

    with pytest.raises(TimeoutError, match="Timed out waiting for result"):
        take(pool, timeout=0.01)
    assert pool.has_next()
    with pytest.raises(TimeoutError, match="has been ignored"):
        take(pool, timeout=0.01, ignore_if_timedout=True)

    gate.open()
    assert take(pool, timeout=10) == 8
    assert not pool.has_next()


def test_a_failed_call_raises_and_its_actor_works_on(cluster: Cluster):
    pool, _ = pool_of(1)
    pool.submit(lambda actor, text: actor.fail.remote(text), "bad luck")
    pool.submit(double, 4)

    with pytest.raises(ValueError, match="bad luck"):
        pool.get_next(timeout=10)
    assert pool.get_next(timeout=10) == 8


def test_actors_are_lent_and_given_back(cluster: Cluster, gate: Gate):
    pool, (actor,) = pool_of(1)

    assert pool.has_free()
    assert pool.pop_idle() == actor
    assert not pool.has_free()
    assert pool.pop_idle() is None
    pool.submit(double, 1)
    assert not pool.has_next()
    pool.push(actor)
    assert pool.has_next()
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(actor)
    assert pool.get_next(timeout=10) == 2
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(actor)


def test_a_dead_actor_is_dropped_and_the_others_do_its_work(cluster: Cluster):
    pool, (dead, living) = pool_of(2)
    ca.get([dead.double.remote(1), living.double.remote(1)], timeout=10)
    ca.kill(dead)

    found, failed = [], 0
    for value in range(6):
        pool.submit(double, value)
    while pool.has_next():
        try:
            found.append(pool.get_next_unordered(timeout=10))
        except ca.ActorDiedError:
            failed += 1

    assert failed == 1
    assert len(found) == 5
    assert pool.pop_idle() == living
    assert pool.pop_idle() is None


def test_the_last_actor_takes_waiting_work_with_it(cluster: Cluster):
    pool, (actor,) = pool_of(1)
    ca.get(actor.double.remote(1), timeout=10)
    ca.kill(actor)
    for value in range(3):
        pool.submit(double, value)

    for _ in range(3):
        with pytest.raises(ca.ActorDiedError):
            pool.get_next(timeout=10)

    assert not pool.has_next()
    assert not pool.has_free()
    pool.push(Worker.remote())
    assert list(pool.map(double, [4])) == [8]


def test_the_death_of_another_actor_is_no_reason_to_drop_one(cluster: Cluster):
    dead = Worker.remote()
    ca.kill(dead)
    lost = dead.double.remote(1)
    pool, (actor,) = pool_of(1)

    pool.submit(lambda actor, _: actor.double.remote(lost), None)
    with pytest.raises(ca.ActorDiedError):
        pool.get_next(timeout=10)

    assert pool.pop_idle() == actor


def test_a_function_that_gives_no_reference_is_refused(cluster: Cluster):
    pool, (actor,) = pool_of(1)

    with pytest.raises(TypeError, match="returns an ObjectRef"):
        pool.submit(lambda _actor, value: value, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda _actor, value: 1 // value, 0)

    assert pool.pop_idle() == actor


def test_several_results_of_one_call_come_as_a_list(cluster: Cluster):
    pool, _ = pool_of(1)
    pool.submit(lambda actor, value: [actor.double.remote(value), actor.double.remote(-value)], 3)

    assert pool.get_next(timeout=10) == [6, -6]


def test_a_pool_works_inside_a_task(cluster: Cluster):
    @ca.remote
    def work(actors: list[Any]) -> list[int]:
        return list(ActorPool(actors).map(double, range(4)))

    _, actors = pool_of(2)

    assert ca.get(work.remote(actors), timeout=20) == [0, 2, 4, 6]
