"""Queue: items shared by drivers, tasks and actors."""

from __future__ import annotations

import asyncio
import pickle
import queue as standard
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.util import list_named_actors
from celery_actors.util.queue import Empty, Full, Queue
from tests.integration.support import Cluster, wait_until


@pytest.fixture
def queue(cluster: Cluster) -> Iterator[Queue]:
    found = Queue()
    yield found
    found.shutdown(force=True)


@pytest.fixture
def small(cluster: Cluster) -> Iterator[Queue]:
    found = Queue(maxsize=2)
    yield found
    found.shutdown(force=True)


@ca.remote
def put_later(queue: Queue, items: list[Any]) -> int:
    for item in items:
        queue.put(item)
    return len(items)


@ca.remote
def take(queue: Queue, count: int) -> list[Any]:
    return [queue.get(timeout=20) for _ in range(count)]


def test_items_come_out_in_the_order_in_which_they_went_in(queue: Queue):
    for number in range(10):
        queue.put(number)

    assert [queue.get() for _ in range(10)] == list(range(10))


def test_it_says_how_many_items_it_holds(small: Queue):
    assert (small.empty(), small.full(), small.size(), len(small)) == (True, False, 0, 0)
    small.put("a")
    assert (small.empty(), small.full(), small.qsize(), len(small)) == (False, False, 1, 1)
    small.put("b")
    assert (small.empty(), small.full(), small.maxsize) == (False, True, 2)


def test_a_get_waits_for_what_another_process_puts(queue: Queue):
    getting = take.remote(queue, 2)
    queue.put("first")
    queue.put({"second": (2,)})

    assert ca.get(getting, timeout=20) == ["first", {"second": (2,)}]


def test_a_put_waits_for_room(small: Queue):
    putting = put_later.remote(small, [1, 2, 3, 4])
    wait_until(small.full, "the queue is full")
    assert ca.wait([putting], timeout=0) == ([], [putting])

    assert [small.get(timeout=10) for _ in range(4)] == [1, 2, 3, 4]
    assert ca.get(putting, timeout=10) == 4


def test_nothing_there_and_no_room_are_said_at_once(small: Queue):
    for ask in (small.get_nowait, lambda: small.get(block=False), lambda: small.get(timeout=0)):
        with pytest.raises(Empty):
            ask()
    small.put_nowait(1)
    small.put(2, block=False)
    for add in (
        lambda: small.put_nowait(3),
        lambda: small.put(3, block=False),
        lambda: small.put(3, timeout=0),
    ):
        with pytest.raises(Full):
            add()
    assert small.get_nowait() == 1
    assert small.get(timeout=0) == 2


def test_waiting_ends_in_time(small: Queue):
    with pytest.raises(Empty, match=r"empty for 0\.05 s"):
        small.get(timeout=0.05)
    small.put_nowait_batch([1, 2])
    with pytest.raises(Full, match=r"full \(2\) for 0\.05 s"):
        small.put(3, timeout=0.05)
    assert small.get_nowait_batch(2) == [1, 2]


def test_its_errors_are_the_standard_librarys_too(small: Queue):
    with pytest.raises(standard.Empty) as empty:
        small.get_nowait()
    small.put_nowait_batch([1, 2])
    with pytest.raises(standard.Full) as full:
        small.put_nowait(3)
    assert (type(empty.value), type(full.value)) == (Empty, Full)


def test_a_batch_goes_in_or_comes_out_as_a_whole(small: Queue):
    small.put_nowait_batch([1])
    with pytest.raises(Full, match="Cannot add 2 items to queue of size 1 and maxsize 2"):
        small.put_nowait_batch([2, 3])
    with pytest.raises(Empty, match="Cannot get 2 items from queue of size 1"):
        small.get_nowait_batch(2)
    small.put_nowait_batch(number for number in [2])
    assert small.get_nowait_batch(2) == [1, 2]
    assert small.get_nowait_batch(0) == []


def test_arguments_that_cannot_work_are_refused_here(queue: Queue):
    with pytest.raises(ValueError, match="non-negative"):
        queue.put(1, timeout=-1)
    with pytest.raises(ValueError, match="non-negative"):
        queue.get(timeout=-1)
    with pytest.raises(TypeError, match="'items' must be an Iterable, not int"):
        queue.put_nowait_batch(1)
    with pytest.raises(TypeError, match="'num_items' must be an int, not str"):
        queue.get_nowait_batch("1")
    with pytest.raises(ValueError, match="'num_items' must be nonnegative"):
        queue.get_nowait_batch(-1)


def test_a_driver_with_an_event_loop_waits_without_blocking_it(small: Queue):
    async def main() -> list[Any]:
        getting = [asyncio.create_task(small.get_async()) for _ in range(5)]
        await asyncio.gather(*(small.put_async(number) for number in range(5)))
        found = await asyncio.gather(*getting)
        with pytest.raises(Empty):
            await small.get_async(block=False)
        with pytest.raises(Empty):
            await small.get_async(timeout=0.01)
        await small.put_async("a", block=False)
        await small.put_async("b", timeout=5)
        with pytest.raises(Full):
            await small.put_async("c", timeout=0.01)
        with pytest.raises(Full):
            await small.put_async("c", block=False)
        return found

    assert sorted(asyncio.run(main())) == [0, 1, 2, 3, 4]


def test_a_get_that_was_cancelled_takes_nothing(queue: Queue):
    async def main() -> Any:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get_async(), 0.05)
        queue.put("kept")
        return await queue.get_async(timeout=5)

    assert asyncio.run(main()) == "kept"


def test_a_get_that_was_interrupted_takes_nothing(queue: Queue):
    main_thread = threading.get_ident()

    def is_waiting() -> bool:
        frame = sys._current_frames()[main_thread]
        while frame is not None and frame.f_code.co_name != "_outcome":
            frame = frame.f_back
        return frame is not None

    def press() -> None:
        wait_until(is_waiting, "the main thread waits for an item")
        signal.pthread_kill(main_thread, signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        queue.get(timeout=30)
    pressing.join()

    queue.put("kept")
    assert queue.get(timeout=5) == "kept"


def test_an_actor_uses_it_too(queue: Queue):
    @ca.remote
    class Consumer:
        def __init__(self, source: Queue) -> None:
            self.source = source

        async def total(self, count: int) -> int:
            return sum([await self.source.get_async() for _ in range(count)])

    consumer = Consumer.remote(queue)
    total = consumer.total.remote(3)
    queue.put_nowait_batch([1, 2, 3])

    assert ca.get(total, timeout=20) == 6


def test_many_producers_and_consumers_lose_nothing(small: Queue):
    producers = [put_later.remote(small, list(range(n, n + 10))) for n in (0, 10)]
    found = ca.get(take.remote(small, 20), timeout=40)

    assert sorted(found) == list(range(20))
    assert ca.get(producers, timeout=10) == [10, 10]


def test_a_copy_is_the_same_queue(queue: Queue):
    copy = pickle.loads(pickle.dumps(queue))
    queue.put("here")

    assert copy.get(timeout=10) == "here"


def test_options_reach_its_actor(cluster: Cluster):
    found = Queue(actor_options={"name": "named queue", "num_cpus": 1})
    found.put(1)
    assert "named queue" in list_named_actors()
    found.shutdown()
    wait_until(lambda: "named queue" not in list_named_actors(), "the name is free")


@pytest.mark.parametrize("force", [True, False])
def test_a_queue_that_was_shut_down_is_gone(cluster: Cluster, force: bool):
    found = Queue()
    found.put(1)
    copy = pickle.loads(pickle.dumps(found))

    found.shutdown(force=force)
    found.shutdown(force=force)

    with pytest.raises(RuntimeError, match="was shut down"):
        found.get()
    with pytest.raises(ca.RayActorError):
        copy.get(timeout=5)


def test_a_shutdown_does_not_wait_longer_than_its_grace(cluster: Cluster):
    found = Queue()
    found.put(1)
    found.get()
    copy = pickle.loads(pickle.dumps(found))
    waiting = copy.actor.get.remote(None)

    found.shutdown(grace_period_s=0.2)

    with pytest.raises(ca.RayActorError):
        ca.get(waiting, timeout=10)
