"""How long values live: as long as somebody holds a reference, and no longer."""

from __future__ import annotations

import copy
import os
import pickle
from typing import Any

import numpy as np
import pytest

import celery_actors as ca
from celery_actors import runtime
from tests.integration.actors import held
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_empty, wait_until


@ca.remote
class Keeper:
    """Keeps what it is given."""

    def keep(self, kept: Any) -> None:
        self.kept = kept

    def give(self) -> Any:
        return self.kept

    def read(self) -> Any:
        return ca.get(self.kept[0])

    def forget(self) -> None:
        self.kept = None


@ca.remote
def look(given: list[Any]) -> Any:
    return ca.get(given[0])


@ca.remote
def wrap(value: Any) -> list[Any]:
    return [ca.put(value)]


@pytest.fixture
def keeper(cluster: Cluster) -> Any:
    return Keeper.remote()


def is_stored(cluster: Cluster, object_id: str) -> bool:
    with cluster.client() as client:
        return bool(client.exists(f"celery-task-meta-{object_id}"))


def wait_freed(cluster: Cluster, *objects: str) -> None:
    wait_empty(lambda: [one for one in objects if is_stored(cluster, one)], "the values are freed")
    with cluster.client() as client:
        wait_empty(
            lambda: [one for one in objects if client.exists(f"ca:tok:{one}")], "nobody holds them"
        )


def settled() -> None:
    """Let everything be sent that this process has dropped."""
    runtime.current().calls.flush()
    runtime.current().calls.settle()


def test_a_passed_value_is_freed_when_its_last_holder_forgets_it(cluster: Cluster, keeper: Any):
    ref = ca.put({"a", "b"})
    name = ref.id
    ca.get(keeper.keep.remote([ref]), timeout=20)
    del ref
    settled()
    assert ca.get(keeper.read.remote(), timeout=10) == {"a", "b"}
    with cluster.client() as client:
        assert client.ttl(f"celery-task-meta-{name}") == -1, "it does not expire under its holder"

    ca.get(keeper.forget.remote(), timeout=10)

    wait_freed(cluster, name)


def test_its_owner_may_hold_a_value_longer_than_who_borrowed_it(cluster: Cluster, keeper: Any):
    ref = ca.put((1, 2))
    name = ref.id
    ca.get(keeper.keep.remote([ref]), timeout=20)
    ca.get(keeper.forget.remote(), timeout=10)
    settled()

    assert ca.get(look.remote([ref]), timeout=10) == (1, 2)

    del ref
    wait_freed(cluster, name)


def test_a_value_in_a_waiting_call_outlives_its_owners_reference(
    cluster: Cluster, keeper: Any, gate: Gate
):
    array = ca.put(np.arange(100_000))
    top, nested = ca.put({"top"}), ca.put({"nested"})
    names = [array.id, top.id, nested.id]
    slow = held.remote(gate.path)

    @ca.remote
    def use(_slow: Any, array: Any, top: Any, nested: list[Any]) -> list[Any]:
        return [int(array.sum()), top, ca.get(nested[0])]

    answer = use.remote(slow, array, top, [nested])
    del array, top, nested
    settled()
    assert all(is_stored(cluster, name) for name in names)

    gate.open()

    assert ca.get(answer, timeout=20) == [4999950000, {"top"}, {"nested"}]
    wait_freed(cluster, *names)
    with cluster.client() as client:
        wait_empty(lambda: list(client.scan_iter("ca:blob:*", count=1000)), "no buffer is left")


def test_a_value_that_was_dropped_before_it_came_is_freed_when_it_comes(
    cluster: Cluster, keeper: Any, gate: Gate
):
    ref = held.remote(gate.path)
    name = ref.id
    ca.get(keeper.keep.remote([ref]), timeout=20)
    ca.get(keeper.forget.remote(), timeout=10)
    del ref
    settled()

    gate.open()

    wait_freed(cluster, name)


def test_a_borrower_reads_a_value_that_its_owner_dropped_before_it_came(
    cluster: Cluster, keeper: Any, gate: Gate
):
    ref = held.remote(gate.path)
    name = ref.id
    ca.get(keeper.keep.remote([ref]), timeout=20)
    del ref
    settled()
    gate.open()

    assert ca.get(keeper.read.remote(), timeout=10) == "passed"
    ca.get(keeper.forget.remote(), timeout=10)
    wait_freed(cluster, name)


def test_values_inside_values_live_as_long_as_the_outermost(cluster: Cluster):
    inner = ca.put({"inner"})
    middle = ca.put([inner])
    outer = ca.put({"middle": middle})
    names = [ref.id for ref in (inner, middle, outer)]
    del inner, middle
    settled()
    middle = ca.get(outer)["middle"]
    assert ca.get(ca.get(middle)[0]) == {"inner"}
    del middle

    del outer

    wait_freed(cluster, *names)


def test_a_value_that_a_function_put_lives_as_long_as_its_result(cluster: Cluster):
    ref = wrap.remote({7})
    (inner,) = ca.get(ref, timeout=20)
    name = inner.id
    del inner
    settled()

    (inner,) = ca.get(ref, timeout=10)
    assert ca.get(inner, timeout=10) == {7}
    del ref
    settled()
    assert ca.get(look.remote([inner]), timeout=10) == {7}

    del inner
    wait_freed(cluster, name)


def test_a_copy_in_this_process_is_the_same_reference(cluster: Cluster):
    ref = ca.put((1,))
    name = ref.id
    copies = [copy.copy(ref), copy.deepcopy([ref])[0]]
    assert all(one is ref for one in copies)

    del ref, copies

    wait_freed(cluster, name)


def test_a_reference_pickled_by_hand_keeps_its_value_as_long_as_the_process(cluster: Cluster):
    ref = ca.put({"by hand"})
    data = pickle.dumps(ref)
    del ref
    settled()

    assert ca.get(pickle.loads(data), timeout=10) == {"by hand"}


def test_buffers_of_a_borrowed_value_are_freed_with_it(cluster: Cluster, keeper: Any):
    ref = ca.put(np.ones(200_000))
    name = ref.id
    ca.get(keeper.keep.remote([ref]), timeout=20)
    del ref
    assert ca.get(keeper.read.remote(), timeout=10).sum() == 200_000

    ca.get(keeper.forget.remote(), timeout=10)

    wait_freed(cluster, name)
    with cluster.client() as client:
        wait_empty(lambda: list(client.scan_iter("ca:blob:*", count=1000)), "no buffer is left")


def test_what_a_killed_process_borrowed_is_freed(cluster: Cluster, keeper: Any):
    refs = [ca.put({number}) for number in range(20)]
    names = [ref.id for ref in refs]
    ca.get(keeper.keep.remote(refs), timeout=20)
    del refs

    ca.kill(keeper)

    wait_freed(cluster, *names)


def test_arguments_of_a_call_that_is_never_run_are_removed(
    cluster: Cluster, keeper: Any, gate: Gate
):
    array, ref = np.ones(100_000), ca.put({"argument"})
    name = ref.id
    busy = Keeper.options(max_concurrency=1).remote()
    waiting = busy.keep.remote(held.remote(gate.path))
    later = busy.keep.remote([ref, array])
    del ref
    settled()

    ca.kill(busy)

    for call in (waiting, later):
        with pytest.raises(ca.ActorDiedError):
            ca.get(call, timeout=10)
    wait_freed(cluster, name)
    with cluster.client() as client:
        wait_empty(lambda: list(client.scan_iter("ca:blob:*", count=1000)), "no buffer is left")
    gate.open()


def test_a_large_result_that_nobody_reads_is_removed_with_what_it_contains(cluster: Cluster):
    @ca.remote
    def make() -> Any:
        return [ca.put({"inside"}), os.urandom(100_000)]

    with cluster.client() as client:

        def held_values() -> set[bytes]:
            return set(client.scan_iter("ca:tok:*", count=1000))

        before = held_values()
        ref = make.remote()
        name = ref.id
        ca.wait([ref], timeout=20)
        wait_until(lambda: held_values() - before, "the inner one is held")

        del ref

        wait_freed(cluster, name)
        wait_empty(lambda: list(held_values() - before), "the inner one is not held any more")
