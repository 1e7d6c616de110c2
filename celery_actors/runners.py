"""How overlapping calls are executed: on one event loop, or in pools of threads."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .concurrent_loop import Call, ConcurrentLoop
from .errors import AsyncioActorExit, TaskTimeoutError
from .executor import Outcome, Started
from .messages import Message
from .returns import Sink

__all__ = ["AsyncRunner", "ThreadRunner"]


class ThreadRunner:
    """Runs calls in threads that stay, so that ``threading.local`` does: one pool a group."""

    def __init__(self, loop: ConcurrentLoop, limit: int, groups: Mapping[str, int]) -> None:
        self._loop = loop
        self._pools = {
            name: ThreadPoolExecutor(size, thread_name_prefix=f"ca-{name or 'calls'}")
            for name, size in {"": limit, **groups}.items()
        }

    def submit(self, call: Call) -> None:
        """Execute the call as soon as a thread of its group is free."""
        self._pools[call.group].submit(self._run, call)

    def _run(self, call: Call) -> None:
        loop = self._loop
        started = loop.start(call)
        if started is None:
            return
        outcome = None
        try:
            outcome = loop.executor.complete(
                call.prepared, call.callee, loop.retries(call), started, self._call
            )
        except SystemExit as request:
            loop.crash(request)
        except BaseException as error:  # noqa: BLE001 - a pool's thread shows it to nobody
            loop.broken(error)
        finally:
            loop.end(call, outcome)

    def _call(
        self, message: Message, function: Callable[..., Any], started: Started, sink: Sink | None
    ) -> Any:
        interrupts = self._loop.executor.interrupts
        try:
            try:
                if sink is not None:
                    interrupts.enter_thread(message, type(sink).run.__code__)
                    return sink.run(function, started.args, started.kwargs)
                interrupts.enter_thread(message, ThreadRunner._call.__code__)
                return function(*started.args, **started.kwargs)
            finally:
                interrupts.leave_thread(message)
        except BaseException:
            # What stops the call may have come on its way out, in the middle of leaving.
            interrupts.leave_thread(message)
            raise

    def close(self) -> None:
        """Let the threads end."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


class AsyncRunner:
    """Runs calls as tasks of one event loop; a group's limit is a semaphore.

    Methods that are not coroutines run on the loop, too, and block it while they run.
    """

    def __init__(
        self, loop: ConcurrentLoop, events: asyncio.AbstractEventLoop, limit: int,
        groups: Mapping[str, int],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._events = events
        self._room = {name: asyncio.Semaphore(n) for name, n in {"": limit, **groups}.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._fresh: list[Call] = []
        self._lock = threading.Lock()

    def submit(self, call: Call) -> None:
        """Execute the call as soon as its group has room."""
        with self._lock:
            self._fresh.append(call)
            if len(self._fresh) > 1:
                return  # the event loop has been told
        self._events.call_soon_threadsafe(self._spawn)

    def _spawn(self) -> None:
        with self._lock:
            fresh, self._fresh = self._fresh, []
        for call in fresh:
            task = self._events.create_task(self._run(call))
            self._tasks.add(task)  # the event loop itself holds tasks weakly
            task.add_done_callback(self._tasks.discard)

    async def _run(self, call: Call) -> None:
        async with self._room[call.group]:
            started = self._loop.start(call)
            if started is None:
                return
            outcome = None
            try:
                outcome = await self._outcome(call, started)
            except SystemExit as request:
                self._loop.crash(request)
            except BaseException as error:  # noqa: BLE001 - a task shows it to nobody
                self._loop.broken(error)
            finally:
                self._loop.end(call, outcome)

    async def _outcome(self, call: Call, started: Started | Outcome) -> Outcome | None:
        executor, message = self._loop.executor, call.prepared.message
        retries, label = self._loop.retries(call), call.callee.label
        sink = executor.sink(message, label)
        while not isinstance(started, Outcome):
            stop = _Stop(self._events, asyncio.current_task())
            interrupts = executor.interrupts
            try:
                value = await self._value(call, started, stop, sink)
            except SystemExit:
                raise
            except AsyncioActorExit:
                return None
            except BaseException as raised:  # noqa: BLE001 - the user's exception is the result
                error = stop.reason(raised)
                if executor.is_cancelled(message) or not retries.another(error):
                    return executor.fail(message, error, label)
                started = executor.start(call.prepared, label)
            else:
                return executor.finish(message, value, label)
            finally:
                stop.over = True
                interrupts.leave(message)
        return started

    async def _value(self, call: Call, started: Started, stop: _Stop, sink: Sink | None) -> Any:
        """Call the method; return its value, or the sink with what it gave."""
        interrupts, message = self._loop.executor.interrupts, call.prepared.message
        function = call.callee.function
        if sink is not None:
            interrupts.enter_task(message, stop)
            return await sink.run_async(function, started.args, started.kwargs)
        if is_coroutine := _makes_coroutines(function):
            interrupts.enter_task(message, stop)
            value = function(*started.args, **started.kwargs)
        else:
            value = self._call(call, started)
        if is_coroutine or inspect.isawaitable(value):
            if not is_coroutine:
                interrupts.enter_task(message, stop)
            value = await value
        return value

    def _call(self, call: Call, started: Started) -> Any:
        """Call a plain method: the event loop waits for it meanwhile."""
        interrupts, message = self._loop.executor.interrupts, call.prepared.message
        try:
            interrupts.enter_main(message, AsyncRunner._call.__code__)
            return call.callee.function(*started.args, **started.kwargs)
        finally:
            interrupts.leave_main(message)


def _makes_coroutines(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_COROUTINE)


class _Stop:
    """Ends one task from outside, and remembers why."""

    def __init__(self, events: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
        self._events = events
        self._task = task
        self._why: type[BaseException] | None = None
        self.over = False

    def __call__(self, why: type[BaseException]) -> None:
        """Cancel the task; callable from any thread."""
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and every call with it
            self._events.call_soon_threadsafe(self._cancel, why)

    def _cancel(self, why: type[BaseException]) -> None:
        if self._task is not None and not self.over:
            self._why = why
            self._task.cancel()

    def reason(self, raised: BaseException) -> BaseException:
        """Return the error of the call: a cancellation of ours by its reason's name."""
        if self._why is not None and self._task is not None:
            self._task.uncancel()
        if isinstance(raised, asyncio.CancelledError) and self._why is TaskTimeoutError:
            return TaskTimeoutError()
        return raised
