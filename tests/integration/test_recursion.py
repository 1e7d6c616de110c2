"""Waiting inside calls never deadlocks, even on one CPU."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, Ring, descend, double, fan_out
from tests.integration.generators import count
from tests.integration.support import Cluster, wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.mark.slow
def test_two_hundred_nested_gets_run_on_one_cpu(single_cpu: Cluster):
    actors = sum(state == "alive" for state in single_cpu.actor_states())
    assert ca.get(descend.remote(200), timeout=150) == 200
    # What was lent is given back: no more than a few workers stay beside the actors of other tests.
    wait_until(lambda: ca.nodes()[0]["workers"] <= actors + 3, "the lent workers have ended", 30)


def test_a_tree_of_calls_runs_on_one_cpu(single_cpu: Cluster):
    assert ca.get(fan_out.remote(3), timeout=60) == 27


def test_a_chain_of_actors_runs_on_one_cpu(single_cpu: Cluster):
    ring = [Ring.remote() for _ in range(6)]
    for one, following in itertools.pairwise(ring):
        ca.get(one.join.remote(following), timeout=20)

    assert ca.get(ring[0].travel.remote(5), timeout=20) == 5


def test_a_task_that_waits_for_a_task_behind_it_in_the_queue_goes_on(single_cpu: Cluster):
    @ca.remote
    def wait_for(refs: list[Any]) -> Any:
        return ca.get(refs[0])

    counter = Counter.remote()
    refs = [wait_for.remote([counter.add.remote()]) for _ in range(5)]
    refs += [wait_for.remote([double.remote(4)]) for _ in range(5)]

    assert ca.get(refs, timeout=30) == [1, 2, 3, 4, 5, 8, 8, 8, 8, 8]


def test_tasks_waiting_for_unready_arguments_do_not_stop_the_one_they_wait_for(
    single_cpu: Cluster,
):
    @ca.remote
    def late(counter: Any) -> int:
        return ca.get(counter.add.remote())

    counter = Counter.remote()
    first = late.remote(counter)
    refs = [double.remote(first) for _ in range(10)]

    assert ca.get(refs, timeout=30) == [2] * 10


def test_a_reader_and_its_limited_generator_share_one_cpu(single_cpu: Cluster):
    @ca.remote
    def read() -> list[int]:
        limited = count.options(_generator_backpressure_num_objects=1)
        return [ca.get(ref) for ref in limited.remote(4)]

    assert ca.get(read.remote(), timeout=30) == [0, 1, 2, 3]


def test_recursion_within_an_environment_goes_on_with_one_cpu(single_cpu: Cluster):
    @ca.remote(runtime_env={"env_vars": {"COLOUR": "red"}})
    def descend(depth: int) -> str:
        return ca.get(descend.remote(depth - 1)) if depth else os.environ["COLOUR"]

    assert ca.get(descend.remote(4), timeout=60) == "red"
    assert wait_until(lambda: ca.available_resources().get("CPU"), "a free CPU") == 1
