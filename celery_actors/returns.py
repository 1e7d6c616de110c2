"""What a call gives where that is not one value: none, a fixed number, or a stream.

Values are stored before the call is committed, fenced like the commit, and never twice: a call that
runs again leaves alone what is there. The commit stores the call's own record, the end marker; that
of a durable actor's call the values, too.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any

from . import records, routing
from .errors import FencedError
from .messages import Message
from .runtime import Runtime
from .store import Answer, Fence, Step
from .store.scripts import flatten

__all__ = ["Fixed", "Keeper", "Sink", "each"]


class Sink:
    """Runs one call and takes what it gives."""

    def run(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Sink:
        """Call a function and take its values.

        Raises:
            ValueError: it gave something else than the call's options promise.
        """
        raise NotImplementedError

    async def run_async(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Sink:
        """Do the same on an event loop; the function may be a coroutine or an async generator."""
        raise NotImplementedError

    def end(self) -> bytes:
        """Return the call's own record, once every value is stored.

        Raises:
            SerializationError: a value cannot be pickled. FencedError: another process took over.
        """
        raise NotImplementedError


class Keeper:
    """Stores the values of the calls of one process."""

    def __init__(self, runtime: Runtime, fence: Fence) -> None:
        self.runtime = runtime
        self.fence = fence

    def answer(
        self, message: Message, label: str, number: int, value: Any,
        ours: records.Beside | None = None,
    ) -> Answer | None:  # fmt: skip
        """Return what stores one value; None where a run that died has stored it.

        Raises:
            SerializationError: it cannot be pickled. ObjectStoreFullError: it has no room.
        """
        runtime = self.runtime
        value_id = f"{message.call_id}.{number}"
        key = routing.result_key(value_id)
        if message.retries and runtime.store.run("EXISTS", key):
            return None
        describe = f"value {number} of {label}"
        record = records.success_record(
            value, value_id, runtime.sealer, describe, runtime.holdings, ours
        )
        caller = message.tag.caller
        return Answer(key, record, routing.reply_channel(caller) if caller else "")

    def store(self, answers: list[Answer]) -> None:
        """Store the values of a call, in a durable actor with its commit.

        Raises:
            FencedError: another process took over.
        """
        runtime, seconds = self.runtime, self.runtime.result_seconds
        if runtime.calls.held:
            words = ("", "", seconds, *flatten(answers))
            runtime.calls.held_steps.append(Step("answer", ("",), words))
        elif not runtime.store.scripts.values(self.fence, seconds, answers):
            raise FencedError

    def end(self, message: Message, count: int) -> bytes:
        """Return the own record of a call that gave so many values."""
        ours = records.Beside(n=count)
        sealer, holdings = self.runtime.sealer, self.runtime.holdings
        return records.success_record(None, message.call_id, sealer, "", holdings, ours)


class Fixed(Sink):
    """A call of ``num_returns=n``; with 0 its values are not kept."""

    def __init__(self, keeper: Keeper, message: Message, label: str) -> None:
        self._keeper = keeper
        self._message = message
        self._label = label
        self._count = message.options.returns
        self._values: list[Any] = []

    def run(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Fixed:
        """Call a function and take its values.

        Raises:
            ValueError: it did not give as many as the call asks for.
        """
        value = function(*args, **kwargs)
        if self._count:
            self._values = list(islice(self._checked(value), self._count + 1))
            self._check_count()
        elif inspect.isgenerator(value):
            for _ in value:  # it runs for what it does
                pass
        return self

    async def run_async(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Fixed:
        """Do the same on an event loop."""
        value = function(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        self._values = []
        if self._count or inspect.isgenerator(value) or inspect.isasyncgen(value):
            async with aclosing(each(self._checked(value))) as values:
                async for one in values:
                    if self._count:
                        self._values.append(one)
                        if len(self._values) > self._count:
                            break
            if self._count:
                self._check_count()
        return self

    def _checked(self, value: Any) -> Any:
        if not isinstance(value, Iterable) and not hasattr(value, "__aiter__"):
            raise ValueError(
                f"{self._label} was called with num_returns={self._count} and returned one "
                f"{type(value).__name__}: return a tuple, a list or another iterable of "
                f"{self._count} values"
            )
        return value

    def _check_count(self) -> None:
        if len(self._values) != self._count:
            found = "more" if len(self._values) > self._count else str(len(self._values))
            raise ValueError(
                f"{self._label} was called with num_returns={self._count} and returned {found} "
                "values"
            )

    def end(self) -> bytes:
        """Store the values; return the call's own record."""
        keeper, message = self._keeper, self._message
        if self._values:
            found = (
                keeper.answer(message, self._label, number, value)
                for number, value in enumerate(self._values, 1)
            )
            keeper.store([answer for answer in found if answer is not None])
        return keeper.end(message, self._count)


async def each(values: Any) -> AsyncGenerator[Any, None]:
    """Give what an iterable or an async one gives; the event loop gets a turn in between."""
    close = None
    try:
        if hasattr(values, "__aiter__"):
            close = getattr(values, "aclose", None)
            async for value in values:
                yield value
            return
        for value in values:
            yield value
            await asyncio.sleep(0)
    finally:
        if close is not None:
            await close()
