"""The queue's actor, in an event loop of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from celery_actors.util.queue import Empty, Full, QueueActor


def run(body: Callable[[QueueActor], Awaitable[Any]], maxsize: int = 0) -> Any:
    async def main() -> Any:
        return await body(QueueActor(maxsize))

    return asyncio.run(main())


def test_items_come_out_in_the_order_in_which_they_went_in() -> None:
    async def body(queue: QueueActor) -> list[Any]:
        await queue.put("a", None)
        await queue.put_nowait("b")
        await queue.put_nowait_batch(["c", "d"])
        assert await queue.qsize() == 4
        return [await queue.get(None), await queue.get_nowait(), *await queue.get_nowait_batch(2)]

    assert run(body) == ["a", "b", "c", "d"]


def test_empty_and_full_say_what_they_see() -> None:
    async def body(queue: QueueActor) -> None:
        assert (await queue.empty(), await queue.full()) == (True, False)
        await queue.put(1, None)
        assert (await queue.empty(), await queue.full()) == (False, True)

    run(body, maxsize=1)


def test_a_get_waits_for_a_put() -> None:
    async def body(queue: QueueActor) -> Any:
        getting = asyncio.create_task(queue.get(None))
        await asyncio.sleep(0)
        assert not getting.done()
        await queue.put("late", None)
        return await getting

    assert run(body) == "late"


def test_a_put_waits_for_room() -> None:
    async def body(queue: QueueActor) -> Any:
        await queue.put(1, None)
        putting = asyncio.create_task(queue.put(2, None))
        await asyncio.sleep(0)
        assert not putting.done()
        assert await queue.get_nowait() == 1
        await putting
        return await queue.get(None)

    assert run(body, maxsize=1) == 2


@pytest.mark.parametrize("seconds", [0, 0.01])
def test_a_wait_ends_in_time(seconds: float) -> None:
    async def body(queue: QueueActor) -> None:
        with pytest.raises(Empty, match="empty for"):
            await queue.get(seconds)
        await queue.put(1, seconds)
        with pytest.raises(Full, match=r"full \(1\) for"):
            await queue.put(2, seconds)
        assert await queue.get(seconds) == 1
        assert await queue.qsize() == 0

    run(body, maxsize=1)


def test_an_item_that_nobody_waited_for_long_enough_stays() -> None:
    async def body(queue: QueueActor) -> Any:
        with pytest.raises(Empty):
            await queue.get(0)
        await queue.put("kept", None)
        return await queue.get(0)

    assert run(body) == "kept"


def test_a_batch_goes_in_as_a_whole_or_not_at_all() -> None:
    async def body(queue: QueueActor) -> None:
        await queue.put_nowait_batch([1, 2])
        with pytest.raises(Full, match="Cannot add 2 items to queue of size 2 and maxsize 3"):
            await queue.put_nowait_batch([3, 4])
        assert await queue.qsize() == 2
        await queue.put_nowait_batch([])
        await queue.put_nowait_batch([3])
        with pytest.raises(Full):
            await queue.put_nowait(4)

    run(body, maxsize=3)


def test_a_batch_comes_out_as_a_whole_or_not_at_all() -> None:
    async def body(queue: QueueActor) -> None:
        await queue.put_nowait_batch([1, 2])
        with pytest.raises(Empty, match="Cannot get 3 items from queue of size 2"):
            await queue.get_nowait_batch(3)
        assert await queue.get_nowait_batch(0) == []
        assert await queue.get_nowait_batch(2) == [1, 2]
        with pytest.raises(Empty):
            await queue.get_nowait()

    run(body)
