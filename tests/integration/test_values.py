"""Values, references and handles: what travels, and in what form it arrives."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import numpy as np
import pytest

import celery_actors as ca
from tests.integration.actors import Counter, Recorder, double, echo, held
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until

VALUES = [
    None, True, 0, -(2**63), 2**80, 1.5, float("inf"), "text ✓", "\ud800", b"bytes",
    bytearray(b"x"), (1, (2, 3)), [1, [2, "x"]], {"a": [1], "b": None}, {1: 2}, {"__type__": "ca"},
    {1, 2}, frozenset({3}), 1 + 2j, range(3), Ellipsis, ValueError("kept"), object,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_value_comes_back_as_it_went(cluster: Cluster, value: Any):
    there_and_back = ca.get(echo.remote(value), timeout=10)[0]
    put_and_got = ca.get(ca.put(value), timeout=10)

    for found in (there_and_back, put_and_got):
        assert type(found) is type(value)
        assert repr(found) == repr(value)


def test_a_function_calls_functions_and_actors(cluster: Cluster):
    @ca.remote
    def work(counter: Any, times: int) -> list[int]:
        ca.get([counter.add.remote(2) for _ in range(times)])
        return [ca.get(double.remote(times)), ca.get(counter.add.remote(0))]

    counter = Counter.remote()

    assert ca.get(work.remote(counter, 5), timeout=10) == [10, 10]
    assert ca.get(counter.add.remote(1), timeout=10) == 11


def test_an_actor_creates_and_calls_another(cluster: Cluster):
    @ca.remote
    class Parent:
        def __init__(self) -> None:
            self.child = Counter.remote(100)

        def add(self) -> int:
            return ca.get(self.child.add.remote())

        def lend(self) -> Any:
            return self.child

    parent = Parent.remote()

    assert ca.get([parent.add.remote() for _ in range(3)], timeout=20) == [101, 102, 103]
    child = ca.get(parent.lend.remote(), timeout=10)
    assert ca.get(child.add.remote(), timeout=10) == 104


def test_references_arrive_as_values_at_the_top_and_as_references_below(cluster: Cluster):
    @ca.remote
    def kinds(top: Any, named: Any, nested: list[Any]) -> list[Any]:
        return [top, named, type(nested[0]).__name__, ca.get(nested[0])]

    stored, running = ca.put((7,)), double.remote(4)

    found = ca.get(kinds.remote(stored, named=running, nested=[running]), timeout=10)

    assert found == [(7,), 8, "ObjectRef", 8]


def test_a_chain_of_references_resolves_without_a_get_between(cluster: Cluster):
    value = 1
    ref = double.remote(value)
    for _ in range(9):
        ref = double.remote(ref)

    assert ca.get(ref, timeout=10) == 2**10


def test_a_reference_among_constructor_arguments_arrives_as_a_value(cluster: Cluster, gate: Gate):
    counter = Counter.remote(double.remote(4))

    assert ca.get(counter.add.remote(), timeout=10) == 9


def test_the_error_of_a_failed_argument_is_the_error_of_the_call(cluster: Cluster):
    counter = Counter.remote()
    bad = counter.fail.remote("first")

    with pytest.raises(ValueError, match="first"):
        ca.get(double.remote(bad), timeout=10)
    with pytest.raises(ValueError, match="first"):
        ca.get(counter.add.remote(bad), timeout=10)
    assert ca.get(counter.add.remote(), timeout=10) == 1


WRAPS = {"bare": lambda h: h, "list": lambda h: [h], "nested": lambda h: {"k": (h,)}, "put": ca.put}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_a_handle_travels_in_arguments_containers_results_and_put(cluster: Cluster, wrap: Any):
    @ca.remote
    def use(given: Any) -> Any:
        while not isinstance(given, ca.ActorHandle):
            given = given["k"] if isinstance(given, dict) else given[0]
        ca.get(given.add.remote(5))
        return [given]

    counter = Counter.remote()

    (returned,) = ca.get(use.remote(wrap(counter)), timeout=10)

    assert returned == counter
    assert hash(returned) == hash(counter)
    assert ca.get(returned.add.remote(), timeout=10) == 6


def test_an_actor_can_be_given_its_own_handle(cluster: Cluster):
    recorder = Recorder.remote()
    recorder.note.remote("me", recorder)

    notes = ca.get(recorder.notes_taken.remote(), timeout=10)

    assert notes == [["me", recorder]]


def test_a_reference_is_hashable_picklable_and_named(cluster: Cluster):
    ref = double.remote(3)
    copy = pickle.loads(pickle.dumps(ref))

    assert copy == ref
    assert {ref: 1}[copy] == 1
    assert ref != double.remote(3)
    assert int(ref.hex(), 16)
    assert ref.hex() in repr(ref)
    assert ca.get(copy, timeout=10) == 6


def test_a_reference_can_be_awaited(cluster: Cluster):
    async def main() -> list[Any]:
        return await asyncio.gather(*(double.remote(n) for n in range(20)))

    assert asyncio.run(main()) == list(range(0, 40, 2))


def test_awaiting_a_failed_call_raises_its_error(cluster: Cluster):
    counter = Counter.remote()

    async def main() -> None:
        await counter.fail.remote("awaited")

    with pytest.raises(ValueError, match="awaited"):
        asyncio.run(main())


def test_a_reference_gives_a_future(cluster: Cluster, gate: Gate):
    running = held.remote(gate.path)
    future = running.future()
    gate.wait_reached()
    assert not future.done()

    gate.open()

    assert future.result(timeout=10) == "passed"
    failed = Counter.remote().fail.remote("in a future").future()
    assert isinstance(failed.exception(timeout=10), ValueError)


def test_get_takes_a_list_with_repetitions_and_nothing(cluster: Cluster):
    ref = double.remote(1)

    assert ca.get([ref, double.remote(2), ref], timeout=10) == [2, 4, 2]
    assert ca.get([]) == []
    assert [ca.get(ref, timeout=0) for _ in range(3)] == [2, 2, 2]


def test_get_gives_up_in_time_and_the_call_goes_on(cluster: Cluster, gate: Gate):
    ref = held.remote(gate.path)
    gate.wait_reached()

    with pytest.raises(ca.GetTimeoutError, match="wait longer"):
        ca.get(ref, timeout=0.05)
    with pytest.raises(TimeoutError):
        ca.get([ref, double.remote(1)], timeout=0)

    gate.open()
    assert ca.get(ref, timeout=10) == "passed"


def test_get_of_a_list_raises_before_all_are_ready(cluster: Cluster, gate: Gate):
    slow, bad = held.remote(gate.path), Counter.remote().fail.remote("soon")

    with pytest.raises(ValueError, match="soon"):
        ca.get([slow, bad], timeout=10)

    gate.open()


def test_wait_splits_what_is_ready_from_the_rest_in_order(cluster: Cluster, gate: Gate):
    slow = held.remote(gate.path)
    quick = [double.remote(number) for number in range(3)]
    refs = [quick[0], slow, quick[1], quick[2]]

    assert ca.wait(refs, num_returns=3, timeout=10) == (quick, [slow])
    assert ca.wait(refs, num_returns=2, timeout=10) == (quick[:2], [slow, quick[2]])
    assert ca.wait(refs, num_returns=4, timeout=0.05) == (quick, [slow])
    assert ca.wait([]) == ([], [])

    gate.open()
    assert ca.wait(refs, num_returns=4) == (refs, [])


def test_a_failed_call_counts_as_ready(cluster: Cluster):
    bad = Counter.remote().fail.remote("failed")

    assert ca.wait([bad], timeout=10) == ([bad], [])


def test_a_dropped_result_is_removed_from_the_store(cluster: Cluster):
    ref = double.remote(2)
    key = f"celery-task-meta-{ref.id}"
    ca.get(ref, timeout=10)
    dropped = double.remote(3)
    abandoned = f"celery-task-meta-{dropped.id}"

    del ref, dropped

    with cluster.client() as client:
        wait_until(lambda: not client.exists(key), "the dropped result is removed")
        wait_until(lambda: not client.exists(abandoned), "the abandoned result is removed")


def test_dropped_large_values_leave_no_chunks(cluster: Cluster):
    array = np.ones(1_000_000)
    ref = ca.put(array)
    result = double.remote(array)
    assert ca.get(result, timeout=20).sum() == 2_000_000
    assert ca.get(ref, timeout=20).sum() == 1_000_000

    del ref, result, array

    with cluster.client() as client:
        wait_until(lambda: not list(client.scan_iter("ca:blob:*", count=1000)), "no chunk is left")


@pytest.mark.slow
def test_an_array_of_200_mb_as_argument_and_result(cluster: Cluster):
    array = np.arange(25_000_000, dtype=np.float64)
    assert array.nbytes == 200_000_000

    ref = double.remote(array)
    doubled = ca.get(ref, timeout=60)

    assert doubled.nbytes == array.nbytes
    assert np.array_equal(doubled[::1_000], array[::1_000] * 2)
    del ref, doubled
    with cluster.client() as client:
        wait_until(lambda: not list(client.scan_iter("ca:blob:*", count=1000)), "no chunk is left")
