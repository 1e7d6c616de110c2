"""``Queue``: a first-in, first-out queue that any process of the cluster can use."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable, Mapping
from typing import Any

from ..actor import kill
from ..errors import RayTaskError
from ..object_ref import ObjectRef
from ..objects import cancel, get, wait
from ..remote import remote

__all__ = ["Empty", "Full", "Queue"]


class Empty(queue.Empty):
    """Raised when a queue does not hold what was asked for, or not in time."""


class Full(queue.Full):
    """Raised when a queue has no room for what was given, or not in time."""


class Queue:
    """A queue in an actor of its own. Pass it to tasks and actors: all of them share the items.

    Args:
        maxsize: how many items it holds at most; 0: any number.
        actor_options: options of its actor, as for ``.options()``: ``num_cpus``, ``name``, …
    """

    def __init__(self, maxsize: int = 0, actor_options: Mapping[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        self.actor: Any = remote(QueueActor).options(**(actor_options or {})).remote(maxsize)

    # -- what it holds ---------------------------------------------------------------------

    def __len__(self) -> int:
        return self.qsize()

    def size(self) -> int:
        """Return the number of items."""
        return self.qsize()

    def qsize(self) -> int:
        """Return the number of items."""
        return int(get(self._living().qsize.remote()))

    def empty(self) -> bool:
        """Tell whether there is no item."""
        return bool(get(self._living().empty.remote()))

    def full(self) -> bool:
        """Tell whether there is no room for another item."""
        return bool(get(self._living().full.remote()))

    # -- adding ----------------------------------------------------------------------------

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item, waiting for room if ``block``: at most ``timeout`` seconds.

        Raises:
            Full: there is no room, or not in time. ValueError: ``timeout`` is negative.
        """
        _outcome(self._send("put", (item,), block, timeout))

    async def put_async(
        self,
        item: Any,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - Ray's signature
    ) -> None:
        """Add an item as ``put`` does, without holding up the event loop."""
        await _outcome_async(self._send("put", (item,), block, timeout))

    def put_nowait(self, item: Any) -> None:
        """Add an item at once.

        Raises:
            Full: there is no room.
        """
        self.put(item, block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all the items at once, or none of them.

        Raises:
            Full: there is not room for all. TypeError: ``items`` cannot be iterated over.
        """
        if not isinstance(items, Iterable):
            raise TypeError(f"Argument 'items' must be an Iterable, not {type(items).__name__}")
        _outcome(self._living().put_nowait_batch.remote(list(items)))

    # -- taking ----------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item, waiting for one if ``block``: at most ``timeout`` seconds.

        Raises:
            Empty: there is none, or not in time. ValueError: ``timeout`` is negative.
        """
        return _outcome(self._send("get", (), block, timeout))

    async def get_async(
        self,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - Ray's signature
    ) -> Any:
        """Take the oldest item as ``get`` does, without holding up the event loop."""
        return await _outcome_async(self._send("get", (), block, timeout))

    def get_nowait(self) -> Any:
        """Take the oldest item at once.

        Raises:
            Empty: there is none.
        """
        return self.get(block=False)

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take the oldest ``num_items`` at once, or none.

        Raises:
            Empty: there are fewer. TypeError, ValueError: not a number, or a negative one.
        """
        if not isinstance(num_items, int):
            raise TypeError(f"Argument 'num_items' must be an int, not {type(num_items).__name__}")
        if num_items < 0:
            raise ValueError(f"'num_items' must be nonnegative, got {num_items}")
        return list(_outcome(self._living().get_nowait_batch.remote(num_items)))

    # -- the actor -------------------------------------------------------------------------

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the queue's actor; its items are gone.

        Args:
            force: end it at once: calls that wait fail.
            grace_period_s: seconds for earlier calls to finish before it is ended all the same.
        """
        if self.actor is None:
            return
        actor, self.actor = self.actor, None
        if not force:
            ended, _ = wait([actor.__ray_terminate__.remote()], timeout=grace_period_s)
            if ended:
                return
        kill(actor)

    def _living(self) -> Any:
        if self.actor is None:
            raise RuntimeError("this queue was shut down: make another Queue()")
        return self.actor

    def _send(
        self, name: str, args: tuple[Any, ...], block: bool, timeout: float | None
    ) -> ObjectRef[Any]:
        actor = self._living()
        if not block:
            return getattr(actor, f"{name}_nowait").remote(*args)  # type: ignore[no-any-return] # dynamic
        if timeout is not None and timeout < 0:
            raise ValueError(f"'timeout' must be a non-negative number, got {timeout}")
        return getattr(actor, name).remote(*args, timeout)  # type: ignore[no-any-return] # dynamic


def _outcome(ref: ObjectRef[Any]) -> Any:
    try:
        return get(ref)
    except (Empty, Full) as error:
        raise _original(error) from None
    except KeyboardInterrupt:
        cancel(ref)  # or it would take an item later that nobody gets
        raise


async def _outcome_async(ref: ObjectRef[Any]) -> Any:
    try:
        return await ref
    except (Empty, Full) as error:
        raise _original(error) from None
    except asyncio.CancelledError:
        await asyncio.to_thread(cancel, ref)  # as above
        raise


def _original(error: Exception) -> BaseException:
    """Return the error without the traceback of the queue's process: it says nothing of use."""
    return error.cause if isinstance(error, RayTaskError) else error


class QueueActor:
    """The items and those who wait for them. Every method runs in the actor's event loop."""

    def __init__(self, maxsize: int) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        """Return the number of items."""
        return self._items.qsize()

    async def empty(self) -> bool:
        """Tell whether there is no item."""
        return self._items.empty()

    async def full(self) -> bool:
        """Tell whether there is no room for another item."""
        return self._items.full()

    async def put(self, item: Any, seconds: float | None) -> None:
        """Add an item when there is room."""
        try:
            async with asyncio.timeout(seconds):
                await self._items.put(item)
        except TimeoutError:
            raise Full(f"the queue was full ({self._items.maxsize}) for {seconds} s") from None

    async def get(self, seconds: float | None) -> Any:
        """Take the oldest item when there is one."""
        try:
            async with asyncio.timeout(seconds):
                return await self._items.get()
        except TimeoutError:
            raise Empty(f"the queue was empty for {seconds} s") from None

    async def put_nowait(self, item: Any) -> None:
        """Add an item now."""
        self._put_all([item])

    async def put_nowait_batch(self, items: list[Any]) -> None:
        """Add all the items now, or none."""
        self._put_all(items)

    async def get_nowait(self) -> Any:
        """Take the oldest item now."""
        return self._take(1)[0]

    async def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take the oldest items now, or none."""
        return self._take(num_items)

    def _put_all(self, items: list[Any]) -> None:
        held, limit = self._items.qsize(), self._items.maxsize
        if 0 < limit < held + len(items):
            raise Full(
                f"Cannot add {len(items)} items to queue of size {held} and maxsize {limit}."
            )
        for item in items:
            self._items.put_nowait(item)

    def _take(self, count: int) -> list[Any]:
        held = self._items.qsize()
        if count > held:
            raise Empty(f"Cannot get {count} items from queue of size {held}.")
        return [self._items.get_nowait() for _ in range(count)]
