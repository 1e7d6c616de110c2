"""Streaming generators: values come one by one while the call runs."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.gates import Gate
from tests.integration.generators import (
    AsyncSource,
    Reader,
    Source,
    count,
    dying,
    noted,
    notes,
)
from tests.integration.support import (
    Cluster,
    Server,
    node_on,
    running_script,
    wait_empty,
    wait_until,
)

KINDS = ["function", "actor", "threads", "async"]


def call_of(kind: str, name: str) -> Any:
    """Return a remote generator of this kind."""
    if kind == "function":
        return {"count": count, "noted": noted}[name]
    if kind == "async":
        return getattr(AsyncSource.remote(), name)
    options = {"max_concurrency": 2} if kind == "threads" else {}
    return getattr(Source.options(**options).remote(), name)


def values(generator: Any) -> list[Any]:
    """Take and get everything."""
    return [ca.get(ref, timeout=10) for ref in generator]


# -- values and their end ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_gives_references_in_order_and_ends(cluster: Cluster, kind: str):
    generator = call_of(kind, "count").remote(200)
    assert isinstance(generator, ca.ObjectRefGenerator)
    assert values(generator) == list(range(200))
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(generator)
    assert generator.is_finished()
    assert ca.get(generator.completed(), timeout=10) is None


def test_a_sync_generator_of_an_async_actor_streams_too(cluster: Cluster):
    assert values(AsyncSource.remote().count_in_steps.remote(3)) == [0, 1, 2]


def test_a_generator_of_nothing_ends_at_once(cluster: Cluster):
    generator = count.remote(0)
    assert values(generator) == []
    assert generator.is_finished()


@pytest.mark.parametrize("kind", KINDS)
def test_values_come_while_the_generator_still_runs(cluster: Cluster, gate: Gate, kind: str):
    generator = call_of(kind, "count").remote(3, gate.path, 2)
    assert [ca.get(next(generator), timeout=10) for _ in range(2)] == [0, 1]
    gate.wait_reached()
    assert not generator.next_ready()
    assert not generator.is_finished()
    assert ca.wait([generator.completed()], timeout=0) == ([], [generator.completed()])
    gate.open()
    assert values(generator) == [2]


@pytest.mark.parametrize("word", ["streaming", "dynamic"])
def test_streaming_can_be_asked_for_by_name(cluster: Cluster, word: str):
    assert values(count.options(num_returns=word).remote(2)) == [0, 1]


def test_streaming_is_refused_for_what_is_no_generator(cluster: Cluster):
    with pytest.raises(ValueError, match="for generator functions and methods only"):
        Source.remote().plain.options(num_returns="streaming")


def test_an_async_generator_is_no_remote_function():
    async def stream() -> Any:
        yield 1

    with pytest.raises(ValueError, match="async methods"):
        ca.remote(stream)


def test_values_of_every_sort_are_streamed(cluster: Cluster):
    sorts = [None, {"set"}, "x" * 200_000, b"y" * 300_000, ("tuple",), Source]
    found = values(Source.remote().give.remote(*sorts))
    assert found[:-1] == sorts[:-1]
    assert found[-1].__name__ == "Source"


# -- exceptions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["actor", "threads", "async"])
def test_an_exception_is_raised_by_the_last_reference(cluster: Cluster, kind: str):
    generator = call_of(kind, "fail").remote(2)
    assert [ca.get(next(generator), timeout=10) for _ in range(2)] == [0, 1]
    last = next(generator)
    with pytest.raises(ValueError, match="no more") as caught:
        ca.get(last, timeout=10)
    assert isinstance(caught.value, ca.RayTaskError)
    with pytest.raises(StopIteration):
        next(generator)
    assert generator.is_finished()
    with pytest.raises(ValueError, match="no more"):
        ca.get(generator.completed(), timeout=10)


def test_a_yielded_exception_is_a_value(cluster: Cluster):
    found = values(Source.remote().give.remote(KeyError("a value"), 1))
    assert isinstance(found[0], KeyError)
    assert found[1] == 1


def test_a_value_that_cannot_be_pickled_is_the_last(cluster: Cluster):
    generator = Source.remote().unpicklable.remote()
    assert ca.get(next(generator), timeout=10) == 1
    with pytest.raises(ca.SerializationError, match=r"value 2 of Source\.unpicklable"):
        ca.get(next(generator), timeout=10)
    assert values(generator) == []


# -- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["actor", "async"])
def test_async_for_reads_a_generator(cluster: Cluster, kind: str):
    call = call_of(kind, "count")

    async def read(limit: int) -> list[int]:
        return [await ref async for ref in call.remote(limit)]

    async def read_two() -> list[list[int]]:
        return list(await asyncio.gather(read(20), read(30)))

    assert asyncio.run(read_two()) == [list(range(20)), list(range(30))]


def test_a_cancelled_reader_takes_nothing(cluster: Cluster, gate: Gate):
    generator = count.remote(2, gate.path, 0)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(generator), 0.05)

    asyncio.run(give_up())
    gate.open()
    assert values(generator) == [0, 1]


def test_wait_takes_generators_and_references(cluster: Cluster, gate: Gate):
    generator = Source.remote().count.remote(2, gate.path, 1)
    first = next(generator)
    number = ca.put(1)
    gate.wait_reached()
    assert ca.wait([generator, number], num_returns=2, timeout=0.05) == ([number], [generator])
    gate.open()
    assert ca.wait([generator], timeout=10) == ([generator], [])
    assert [ca.get(first), *values(generator)] == [0, 1]
    assert ca.wait([generator], timeout=0) == ([generator], [])


def test_get_returns_a_generator_unchanged(cluster: Cluster):
    generator = count.remote(1)
    assert ca.get(generator) is generator
    assert values(generator) == [0]


def test_a_generator_stays_where_it_was_asked_for(cluster: Cluster):
    generator = count.remote(1)
    with pytest.raises(TypeError, match="Pass the references that it gives"):
        pickle.dumps(generator)
    with pytest.raises(ca.SerializationError, match="ObjectRefGenerator"):
        Reader.remote().value.remote(generator)


def test_references_of_a_generator_are_passed_like_others(cluster: Cluster):
    reader, source = Reader.remote(), Source.remote()
    *given, last = list(source.fail.remote(3))
    assert ca.get([reader.value.remote(ref) for ref in given], timeout=10) == [0, 1, 2]
    assert ca.get(reader.nested.remote(given), timeout=10) == [0, 1, 2]
    for late in (reader.value.remote(last), reader.nested.remote([last])):
        with pytest.raises(ValueError, match="no more"):
            ca.get(late, timeout=10)


def test_threads_share_one_generator(cluster: Cluster):
    generator = count.remote(300)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.extend(values(generator))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == list(range(300))


# -- ends that come from outside -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_a_generator_ends_its_call(cluster: Cluster, gate: Gate, kind: str):
    generator = call_of(kind, "count").remote(3, gate.path, 1)
    assert ca.get(next(generator), timeout=10) == 0
    gate.wait_reached()
    ca.cancel(generator)
    with pytest.raises(ca.TaskCancelledError):
        ca.get(next(generator), timeout=10)
    assert values(generator) == []


def test_a_generator_that_computes_is_cancelled_in_the_middle(cluster: Cluster):
    generator = count.remote(10**9)
    refs = [next(generator) for _ in range(10)]
    ca.cancel(refs[0])
    with pytest.raises(ca.TaskCancelledError):
        ca.get(generator.completed(), timeout=10)


def test_a_waiting_generator_that_is_cancelled_never_runs(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    source, path = Source.remote(), tmp_path / "notes"
    source.wait_and_return.remote(gate.path, 1)
    gate.wait_reached()
    generator = source.noted.remote(1, str(path))
    ca.cancel(generator)
    with pytest.raises(ca.TaskCancelledError):
        ca.get(next(generator), timeout=10)
    gate.open()
    assert ca.get(source.plain.remote(1), timeout=10) == 1
    assert notes(path) == []


def die_after_two(path: str, gate: Gate, generator: Any) -> list[Any]:
    """Take two values, let the process die, return all that came before the error."""
    found = [ca.get(next(generator), timeout=10) for _ in range(2)]
    gate.open()
    return found


def test_the_death_of_an_actor_ends_a_generator_with_its_error(cluster: Cluster, tmp_path: Path):
    path = str(tmp_path / "runs")
    gate = Gate(tmp_path, "runs.gate")
    generator = Source.remote().die.remote(path, 2, 1)
    assert die_after_two(path, gate, generator) == [0, 1]
    with pytest.raises(ca.ActorDiedError):
        ca.get(next(generator), timeout=10)
    assert values(generator) == []


def test_the_death_of_a_worker_ends_a_generator_with_its_error(cluster: Cluster, tmp_path: Path):
    path = str(tmp_path / "runs")
    gate = Gate(tmp_path, "runs.gate")
    generator = dying.options(max_retries=0).remote(path, 2, 1)
    assert die_after_two(path, gate, generator) == [0, 1]
    with pytest.raises(ca.WorkerCrashedError):
        ca.get(next(generator), timeout=10)
    assert values(generator) == []


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("kind", ["function", "actor"])
def test_a_generator_that_runs_again_gives_no_value_twice(
    cluster: Cluster, tmp_path: Path, kind: str, limit: int | None
):
    path = tmp_path / "runs"
    gate = Gate(tmp_path, "runs.gate")
    if kind == "actor":
        call = Source.options(max_restarts=-1, max_task_retries=-1).remote().die
    else:
        call = dying
    options = {} if limit is None else {"_generator_backpressure_num_objects": limit}
    generator = call.options(**options).remote(str(path), 2, 2)
    found = die_after_two(str(path), gate, generator)
    assert found + values(generator) == [0, 1, 2]
    assert notes(path) == ["run"] * 3


def test_a_generator_that_runs_again_for_its_exception_gives_no_value_twice(cluster: Cluster):
    call = Source.remote().second_time.options(max_task_retries=1, retry_exceptions=True)
    assert values(call.remote()) == [1, 2]


def test_a_cut_connection_loses_no_value(cluster: Cluster, gate: Gate):
    generator = Source.remote().count.remote(2000, gate.path, 1000)
    found = [ca.get(next(generator), timeout=10) for _ in range(500)]
    gate.wait_reached()
    with cluster.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        gate.open()
        while len(found) < 2000:
            found.append(ca.get(next(generator), timeout=10))
            if len(found) % 400 == 0:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert found == list(range(2000))
    assert values(generator) == []


# -- back-pressure and gone readers --------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_limited_generator_waits_for_its_reader(cluster: Cluster, tmp_path: Path, kind: str):
    path = tmp_path / "notes"
    call = call_of(kind, "noted").options(_generator_backpressure_num_objects=2)
    generator = call.remote(6, str(path))
    for taken in range(4):
        wait_until(
            lambda taken=taken: len(notes(path)) >= taken + 2,
            f"{taken + 2} values produced while {taken} are taken",
        )
        assert len(notes(path)) == taken + 2
        assert ca.get(next(generator), timeout=10) == taken
    assert values(generator) == [4, 5]
    assert notes(path) == ["0", "1", "2", "3", "4", "5", "closed"]


def test_a_generator_without_a_limit_does_not_wait(cluster: Cluster, tmp_path: Path):
    path = tmp_path / "notes"
    generator = noted.remote(500, str(path))
    wait_until(lambda: len(notes(path)) == 501, "everything is produced")
    assert values(generator) == list(range(500))


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_that_waits_for_a_reader_who_left_is_closed(
    cluster: Cluster, tmp_path: Path, kind: str
):
    path = tmp_path / "notes"
    call = call_of(kind, "noted").options(_generator_backpressure_num_objects=2)
    generator = call.remote(100, str(path))
    next(generator)
    wait_until(lambda: len(notes(path)) == 3, "the generator waits")
    del generator
    wait_until(lambda: notes(path)[-1] == "closed", "the generator is closed")
    assert len(notes(path)) == 4


def test_a_dropped_generator_runs_to_its_end_and_its_values_are_freed(cluster: Cluster, gate: Gate):
    source = Source.remote()
    generator = source.count.remote(50, gate.path, 25)
    kept = next(generator)
    call_id = kept.task_id()
    gate.wait_reached()
    wait_until(generator.next_ready, "more than one value came")
    del generator
    gate.open()
    assert ca.get(source.plain.remote("after"), timeout=10) == "after"
    assert ca.get(kept) == 0

    def stored() -> list[bytes]:
        gc.collect()
        ca.get(source.plain.remote(), timeout=10)
        with cluster.client() as client:
            return client.keys(f"*{call_id}*")

    wait_until(lambda: len(stored()) == 2, "the value and the end are stored, and nothing else")
    del kept
    wait_empty(stored, "nothing of the call is stored")


READER = """
import sys
import celery_actors as ca
from tests.integration.generators import noted
ca.init({address!r}, keys={key!r})
generator = noted.options(_generator_backpressure_num_objects=1).remote(100, {path!r})
print(ca.get(next(generator)))
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_generator_whose_driver_was_killed_is_closed(server: Server, tmp_path: Path):
    path = tmp_path / "notes"
    text = READER.format(address=server.url, key=server.key, path=str(path))
    with (
        node_on(server),
        running_script(tmp_path, text, server.environment()) as driver,
    ):
        assert driver.stdout is not None
        assert driver.stdout.readline() == "0\n"
        wait_until(lambda: len(notes(path)) == 2, "the generator waits")
        os.kill(driver.pid, signal.SIGKILL)
        wait_until(lambda: notes(path)[-1] == "closed", "the generator is closed", 40)
