"""Calls that return several values, or none."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import celery_actors as ca
from celery_actors.broker.app import close_app
from tests.integration.actors import fail, held
from tests.integration.gates import Gate
from tests.integration.generators import AsyncSource, Reader, Source, count, note, notes
from tests.integration.support import Cluster, wait_empty, wait_until

WAYS = ["function", "actor", "threads", "async"]


@ca.remote
def give(*values: Any) -> Any:
    return values


@ca.remote
def one(value: Any) -> Any:
    return value


@ca.remote
def leave_note(path: str) -> None:
    note(path, "was here")


def way_to_return(way: str) -> Any:
    """Return a remote function or method that returns its two arguments."""
    if way == "function":
        return give
    if way == "async":
        return AsyncSource.remote().pair
    options = {"max_concurrency": 2} if way == "threads" else {}
    return Source.options(**options).remote().pair


@pytest.mark.parametrize("way", WAYS)
def test_a_call_of_two_returns_gives_two_references(cluster: Cluster, way: str):
    refs = way_to_return(way).options(num_returns=2).remote(1, {"set"})
    assert isinstance(refs, list)
    first, second = refs
    assert ca.get(second, timeout=10) == {"set"}
    assert ca.get(first, timeout=10) == 1
    assert ca.get(refs) == [1, {"set"}]


def test_a_method_says_itself_how_many_values_it_returns(cluster: Cluster):
    assert ca.get(Source.remote().pair.remote("a", "b"), timeout=10) == ["a", "b"]


def test_a_call_without_returns_gives_none_and_runs(cluster: Cluster, tmp_path: Path):
    path = tmp_path / "notes"
    assert leave_note.options(num_returns=0).remote(str(path)) is None
    wait_until(lambda: notes(path), "the call without a reference has run")


def test_a_generator_without_returns_runs_to_its_end(cluster: Cluster, tmp_path: Path):
    for number, source in enumerate((Source.remote(), AsyncSource.remote())):
        path = tmp_path / str(number)
        assert source.noted.options(num_returns=0).remote(3, str(path)) is None
        wait_until(lambda path=path: notes(path) == ["0", "1", "2", "closed"], "it has run")


@pytest.mark.parametrize("source", [count, Source, AsyncSource], ids=["function", "sync", "async"])
def test_a_generator_fills_a_fixed_number_of_returns(cluster: Cluster, source: Any):
    call = source if source is count else source.remote().count
    assert ca.get(call.options(num_returns=3).remote(3), timeout=10) == [0, 1, 2]
    for wrong in (2, 10**9):
        refs = call.options(num_returns=3).remote(wrong)
        for ref in refs:
            with pytest.raises(ValueError, match=r"num_returns=3 and returned (2|more) values"):
                ca.get(ref, timeout=10)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_that_many_values_fails_every_reference(cluster: Cluster, way: str):
    refs = way_to_return(way).options(num_returns=3).remote(1, 2)
    for ref in refs:
        with pytest.raises(ValueError, match="num_returns=3 and returned 2 values") as caught:
            ca.get(ref, timeout=10)
        assert isinstance(caught.value, ca.RayTaskError)


def test_a_value_that_is_not_iterable_fails_every_reference(cluster: Cluster):
    for call in (one, AsyncSource.remote().plain):
        for ref in call.options(num_returns=2).remote(7):
            with pytest.raises(ValueError, match="returned one int: return a tuple"):
                ca.get(ref, timeout=10)


def test_a_value_that_cannot_be_pickled_fails_every_reference(cluster: Cluster):
    @ca.remote(num_returns=2)
    def broken() -> Any:
        return 1, threading.Lock()

    for ref in broken.remote():
        with pytest.raises(ca.SerializationError, match=r"value 2 of .*broken"):
            ca.get(ref, timeout=10)


def test_an_exception_is_raised_by_every_reference(cluster: Cluster):
    for ref in fail.options(num_returns=2).remote("both"):
        with pytest.raises(ValueError, match="both"):
            ca.get(ref, timeout=10)


def test_a_celery_client_reads_one_of_several_values(cluster: Cluster):
    refs = give.options(num_returns=2).remote("a", "b")
    ca.get(refs, timeout=10)
    call_id = refs[0].task_id()
    assert [ref.id for ref in refs] == [f"{call_id}.1", f"{call_id}.2"]
    assert refs[0].task_id() == refs[1].task_id()
    assert len({int(ref.hex(), 16) for ref in refs}) == 2
    app = cluster.stock_app()
    try:
        assert [app.AsyncResult(ref.id).get(timeout=10) for ref in refs] == ["a", "b"]
        gc.collect()  # an AsyncResult that dies later would look for a store that is gone
    finally:
        close_app(app)


def test_a_large_value_comes_back_beside_large_arguments(cluster: Cluster):
    arrays = [np.arange(200_000), np.ones(200_000)]
    refs = give.options(num_returns=2).remote(*arrays)
    for ref, array in zip(refs, arrays, strict=True):
        np.testing.assert_array_equal(ca.get(ref, timeout=10), array)


def test_a_long_text_comes_back_as_one_of_several_values(cluster: Cluster):
    text = "x" * 200_000
    assert ca.get(give.options(num_returns=2).remote(text, "short"), timeout=10) == [text, "short"]


def test_one_of_several_values_is_an_argument_like_any_reference(cluster: Cluster, gate: Gate):
    reader, source = Reader.remote(), Source.remote()
    ready = source.pair.remote(1, {"set"})
    ca.get(ready, timeout=10)
    waiting = source.wait_and_return.options(num_returns=2).remote(gate.path, [{"a"}, {"b"}])

    assert ca.get(reader.value.remote(ready[1]), timeout=10) == {"set"}
    assert ca.get(reader.nested.remote(ready), timeout=10) == [1, {"set"}]
    early = Reader.remote().value.remote(waiting[1])
    gate.wait_reached()
    gate.open()
    assert ca.get(early, timeout=10) == {"b"}


def test_a_passed_reference_raises_what_its_call_raised(cluster: Cluster, gate: Gate):
    source = Source.remote()
    wrong = source.wait_and_return.options(num_returns=2).remote(gate.path, [1, 2, 3])
    early = Reader.remote().nested.remote([wrong[1]])
    gate.wait_reached()
    gate.open()
    late = Reader.remote().nested.remote([wrong[0]])
    with pytest.raises(ValueError, match="num_returns=2"):
        ca.get(wrong[0], timeout=10)
    later = Reader.remote().value.remote(wrong[0])
    for ref in (early, late, later):
        with pytest.raises(ValueError, match="num_returns=2"):
            ca.get(ref, timeout=10)


def test_the_death_of_an_actor_fails_every_reference(cluster: Cluster, gate: Gate):
    refs = Source.remote().wait_and_return.options(num_returns=2).remote(gate.path, [1, 2])
    os.kill(gate.wait_reached(), signal.SIGKILL)
    for ref in refs:
        with pytest.raises(ca.ActorDiedError):
            ca.get(ref, timeout=10)


def test_a_call_to_a_dead_actor_fails_every_reference(cluster: Cluster):
    source = Source.remote()
    ca.get(source.plain.remote(), timeout=10)
    ca.kill(source)
    for ref in source.pair.remote(1, 2):
        with pytest.raises(ca.ActorDiedError):
            ca.get(ref, timeout=10)


def test_cancelling_one_reference_cancels_the_call(cluster: Cluster, gate: Gate):
    refs = held.options(num_returns=2).remote(gate.path)
    gate.wait_reached()
    ca.cancel(refs[1])
    for ref in refs:
        with pytest.raises(ca.TaskCancelledError):
            ca.get(ref, timeout=10)


def test_wait_and_await_take_single_references_of_several(cluster: Cluster, gate: Gate):
    async def both(refs: list[Any]) -> list[Any]:
        return list(await asyncio.gather(*refs))

    source = Source.remote()
    refs = source.wait_and_return.options(num_returns=2).remote(gate.path, "ab")
    assert ca.wait(refs, num_returns=1, timeout=0.05) == ([], refs)
    gate.open()
    assert ca.wait(refs, num_returns=2, timeout=10) == (refs, [])
    assert asyncio.run(both(source.pair.remote(1, 2))) == [1, 2]


def test_several_values_are_freed_when_nobody_holds_them(cluster: Cluster):
    def stored(call_id: str) -> Iterator[bytes]:
        with cluster.client() as client:
            return client.keys(f"*{call_id}*")

    refs = give.options(num_returns=2).remote(np.arange(100_000), 2)
    call_id = refs[0].task_id()
    ca.get(refs, timeout=10)
    assert stored(call_id)
    del refs[0]
    ca.get(refs, timeout=10)
    del refs
    wait_empty(lambda: stored(call_id), "nothing of the call is stored")


def test_a_retry_does_not_change_what_is_known(cluster: Cluster, tmp_path: Path):
    path = tmp_path / "notes"

    @ca.remote(num_returns=2, max_retries=2)
    def second_time(large: Any) -> Any:
        note(str(path), "run")
        if len(notes(path)) == 1:
            os._exit(3)
        return large[:2].tolist(), large

    first, second = second_time.remote(np.arange(200_000))
    assert ca.get(first, timeout=20) == [0, 1]
    np.testing.assert_array_equal(ca.get(second, timeout=20), np.arange(200_000))
