"""Calls whose values are sent one by one while they run: generators."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from . import records, routing
from .errors import FencedError, RayError
from .messages import STREAMING, Message, Meta
from .returns import Fixed, Keeper, Sink, each
from .runtime import Runtime
from .several import GONE, Asked
from .store import Answer, Fence, Scripts
from .store.wire import pack

__all__ = ["Sinks"]

#: Values stored with one script.
BATCH = 64
#: Scripts with values that may be under way; the generator waits for the store then.
UNDER_WAY = 8
#: Seconds after which a generator that waits for its reader asks where that is.
ASK_SECONDS = 2.0
#: Questions in a row that nobody hears after which the reader is gone. A process that has lost its
#: connection tries for ten seconds to get it back.
UNHEARD = 6


class Sinks:
    """Makes the sinks of one process's calls; tells generators how far their readers are."""

    def __init__(self, runtime: Runtime, fence: Fence) -> None:
        self._keeper = Keeper(runtime, fence)
        self._waiting: dict[str, Stream] = {}  # generators that wait for their readers, now or then
        runtime.results.on_taken = self._on_taken

    def sink(self, message: Message, label: str) -> Sink | None:
        """Return the sink of a call; None for one that gives one value."""
        count = message.options.returns
        if count == 1:
            return None
        if count != STREAMING:
            return Fixed(self._keeper, message, label)
        return Stream(self._keeper, self._waiting, message, label)

    def _on_taken(self, meta: Meta) -> None:
        stream = self._waiting.get(meta.task_id)
        if stream is not None:
            stream.on_taken(records.beside(meta).n)


class Stream(Sink):
    """A call whose values are sent one by one while it runs."""

    def __init__(
        self, keeper: Keeper, waiting: dict[str, Stream], message: Message, label: str
    ) -> None:
        self._keeper = keeper
        self._waiting = waiting
        self._message = message
        self._label = label
        caller = message.tag.caller
        self._channel = routing.reply_channel(caller) if caller else ""
        self._limit = message.options.backpressure if caller else 0
        session = keeper.runtime.session
        self._ours = records.Beside(w=session) if self._limit else None
        self._produced = 0  # by this run
        self._sent = 0  # by all runs in this process: what a former one gave is not given again
        self._taken = 0
        self._gone = False
        self._unheard = 0
        self._buffer: list[Answer] = []
        self._under_way = 0
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._wake: Callable[[], Any] = keeper.runtime.mux.wake_followers

    def run(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Stream:
        """Call a generator function and send what it yields.

        Raises:
            ValueError: it did not return anything that can be iterated.
        """
        values = None
        self._begin()
        try:
            values = self._checked(function(*args, **kwargs))
            for value in values:
                self._give(value)
                if self._is_full and not self._pause():
                    break
        finally:
            self._close(values)
        return self

    async def run_async(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Stream:
        """Do the same on an event loop."""
        mux = self._keeper.runtime.mux
        attention = 1 if self._limit else 0  # the reader's words must be heard at once
        mux.attend(attention)
        mux.kick()
        self._begin()
        try:
            values = function(*args, **kwargs)
            if inspect.isawaitable(values):
                values = await values
            async with contextlib.aclosing(each(self._checked(values))) as given:
                async for value in given:
                    self._give(value)
                    if self._is_full and not await self._pause_async():
                        break
        finally:
            self._close(None)
            mux.attend(-attention)
        return self

    def _begin(self) -> None:
        self._produced = 0
        if self._limit:
            self._waiting[self._message.call_id] = self
            if self._message.retries:
                self._ask()  # the reader knows what a process that died has given it

    def _checked(self, values: Any) -> Any:
        if not isinstance(values, Iterable) and not hasattr(values, "__aiter__"):
            raise ValueError(
                f"{self._label} was called as a generator and returned one "
                f"{type(values).__name__}: yield the values, or call it with num_returns=1"
            )
        return values

    def _close(self, values: Any) -> None:
        close = getattr(values, "close", None)
        try:
            if close is not None:
                close()  # a generator's own `finally` blocks run
        finally:
            self._waiting.pop(self._message.call_id, None)
            self._flush()

    def end(self) -> bytes:
        """Wait until the store has every value; return the call's own record."""
        self._keeper.runtime.mux.settle()
        if self._error is not None:
            raise self._error
        return self._keeper.end(self._message, self._sent)

    # -- sending ---------------------------------------------------------------------------

    def _give(self, value: Any) -> None:
        if self._error is not None:
            raise self._error
        self._produced += 1
        if self._produced <= self._sent:
            return
        answer = self._keeper.answer(self._message, self._label, self._produced, value, self._ours)
        self._sent = self._produced
        if answer is None:
            return
        with self._lock:
            self._buffer.append(answer)
            wait = self._under_way and len(self._buffer) < BATCH
        if not wait:
            self._flush()
            if self._under_way > UNDER_WAY:
                mux = self._keeper.runtime.mux
                mux.wait(lambda: self._under_way <= UNDER_WAY // 2, None)

    def _flush(self) -> None:
        """Send what is gathered. Not under the lock: the thread that reads must never wait."""
        with self._lock:
            answers, self._buffer = self._buffer, []
            self._under_way += bool(answers)
        if answers:
            runtime, fence = self._keeper.runtime, self._keeper.fence
            command = Scripts.pack_values(fence, runtime.result_seconds, answers)
            runtime.mux.post(command, self._stored)

    def _stored(self, reply: Any) -> None:
        """Take in the store's answer, and send what was yielded meanwhile."""
        with self._lock:
            self._under_way -= 1
        if isinstance(reply, Exception):
            self._error = RayError(f"the store refused values of {self._label}: {reply}")
        elif reply < 0:
            self._error = FencedError()
        if not self._under_way:
            self._flush()
        self._keeper.runtime.mux.wake_followers()

    # -- waiting for the reader --------------------------------------------------------------

    @property
    def _is_full(self) -> bool:
        return 0 < self._limit <= self._produced - self._taken

    def _waits(self) -> bool:
        return self._is_full and not self._gone

    def _pause(self) -> bool:
        """Wait until the reader has caught up; False: nobody reads any more."""
        runtime = self._keeper.runtime
        with runtime.results.blocking():
            while self._waits():
                self._flush()
                deadline = time.monotonic() + ASK_SECONDS
                if not runtime.mux.wait(lambda: not self._waits(), deadline):
                    self._ask()
        return not self._gone

    async def _pause_async(self) -> bool:
        events, changed = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: events.call_soon_threadsafe(changed.set)
        while self._waits():
            self._flush()
            try:
                await asyncio.wait_for(changed.wait(), ASK_SECONDS)
            except TimeoutError:
                self._ask()
            changed.clear()
        return not self._gone

    def _ask(self) -> None:
        session = self._keeper.runtime.session
        asked = Asked(n=self._taken, w=session)
        word = [{"status": "ASKED", "task_id": self._message.call_id, "ca": asked}]
        command = pack(("PUBLISH", self._channel, msgspec.json.encode(word)))
        self._keeper.runtime.mux.post(command, self._heard)

    def _heard(self, listeners: Any) -> None:
        self._unheard = 0 if listeners else self._unheard + 1
        if self._unheard >= UNHEARD:
            self._gone = True
            self._wake()

    def on_taken(self, count: int) -> None:
        """Take in how many values the reader has taken, in the thread that reads."""
        self._unheard = 0
        if count == GONE:
            self._gone = True
        self._taken = max(self._taken, count)
        self._wake()
