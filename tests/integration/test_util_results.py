"""Results as they become ready: as_completed and map_unordered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.util import as_completed, map_unordered
from tests.integration.actors import Counter, double, fail, held
from tests.integration.gates import Gate
from tests.integration.support import Cluster


def test_as_completed_gives_what_is_ready_before_what_is_not(cluster: Cluster, gate: Gate):
    slow = held.remote(gate.path)
    refs = [slow, *(double.remote(number) for number in range(5))]

    results = as_completed(refs, chunk_size=10)

    assert sorted(next(results) for _ in range(5)) == [0, 2, 4, 6, 8]
    gate.open()
    assert list(results) == ["passed"]


@pytest.mark.parametrize("chunk_size", [1, 7, 10, 1000])
def test_as_completed_gives_every_result_once(cluster: Cluster, chunk_size: int):
    refs = [double.remote(number) for number in range(50)]

    assert sorted(as_completed(refs, chunk_size=chunk_size)) == list(range(0, 100, 2))
    assert len(refs) == 50


def test_as_completed_can_give_references(cluster: Cluster):
    refs = [double.remote(number) for number in range(12)]

    found = list(as_completed(refs, yield_obj_refs=True))

    assert set(found) == set(refs)
    assert len(found) == 12


def test_as_completed_of_nothing_is_nothing(cluster: Cluster):
    assert list(as_completed([])) == []


def test_a_failed_call_raises_after_what_was_ready_before_it(cluster: Cluster):
    refs: list[Any] = [double.remote(1), fail.remote("in between"), double.remote(2)]
    ca.wait(refs, num_returns=3, timeout=10)
    results = as_completed(refs)

    assert next(results) == 2
    with pytest.raises(ValueError, match="in between"):
        next(results)


CALLS: dict[str, Callable[[], Any]] = {
    "function": lambda: double,
    "remote": lambda: double.remote,
    "options": lambda: double.options(num_cpus=1),
    "method": lambda: Counter.remote().add,
    "lambda": lambda: lambda number: double.remote(number + 1),
}


@pytest.mark.parametrize("make", CALLS.values(), ids=CALLS)
def test_map_unordered_takes_whatever_gives_references(cluster: Cluster, make: Callable[[], Any]):
    assert len(list(map_unordered(make(), range(20)))) == 20


@pytest.mark.parametrize(("backpressure", "chunk"), [(1, 1), (3, 2), (100, 10), (None, 10)])
def test_map_unordered_gives_every_result_once(
    cluster: Cluster, backpressure: int | None, chunk: int
):
    results = map_unordered(
        double, iter(range(30)), backpressure_size=backpressure, chunk_size=chunk
    )

    assert sorted(results) == list(range(0, 60, 2))


def test_map_unordered_takes_items_only_as_fast_as_results_are_fetched(cluster: Cluster):
    taken = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = map_unordered(double, items(), backpressure_size=4, chunk_size=1)

    assert taken == []
    assert next(results) % 2 == 0
    assert len(taken) == 4
    assert len(list(itertools.islice(results, 10))) == 10
    assert len(taken) <= 14


def test_map_unordered_can_give_references(cluster: Cluster):
    found = list(map_unordered(double, [1, 2], yield_obj_refs=True))

    assert sorted(ca.get(found)) == [2, 4]


def test_numbers_that_cannot_work_are_refused_at_once(cluster: Cluster):
    with pytest.raises(ValueError, match="chunk_size must be 1 or more"):
        as_completed([], chunk_size=0)
    with pytest.raises(ValueError, match="chunk_size must be 1 or more"):
        map_unordered(double, [], chunk_size=0)
    with pytest.raises(ValueError, match="backpressure_size must be positive"):
        map_unordered(double, [], backpressure_size=0)
    with pytest.raises(ValueError, match="cannot be larger"):
        map_unordered(double, [], backpressure_size=2, chunk_size=3)
    with pytest.raises(TypeError, match="remote function, not int"):
        map_unordered(3, [])
