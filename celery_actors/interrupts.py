"""Stopping calls that run: cancelled ones, and those that take longer than they may.

A call in the main thread is interrupted there: a signal wakes it even from a blocking system call,
and its handler raises. A call in another thread gets its exception at the next bytecode, a
coroutine through its task. A call beyond its hard limit ends with its whole process, by a watchdog
that needs no interpreter lock.
"""

from __future__ import annotations

import ctypes
import faulthandler
import heapq
import itertools
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from .errors import TaskTimeoutError
from .messages import Message

__all__ = ["Interrupts"]

logger = logging.getLogger(__name__)

#: No program uses real-time signals by accident.
_SIGNAL = getattr(signal, "SIGRTMIN", signal.SIGUSR1)
_AGAIN_SECONDS = 0.002
#: Cancelled calls whose ids a process remembers: some have ended, and nobody asks for them again.
REMEMBERED = 10_000
_PACKAGE = str(Path(__file__).parent)
#: Parts of the package that run inside actors as any user's class does.
_AS_USER = (f"{_PACKAGE}/util/", f"{_PACKAGE}/testing.py")

Stop = Callable[[type[BaseException]], None]


class Interrupts:
    """The running calls of one process, and which of them are to stop."""

    def __init__(self, on_arm: Callable[[float], None]) -> None:
        self._on_arm = on_arm
        self._lock = threading.Lock()
        self._running: dict[str, Stop] = {}
        self._cancelled: dict[str, None] = {}
        self._main = ""  # the call that runs in the main thread
        self._why: type[BaseException] | None = None
        self._boundary: CodeType | None = None
        self._limits: list[tuple[float, int, str]] = []
        self._numbers = itertools.count()
        self._deadlines: dict[str, float] = {}
        self._changed = threading.Condition(self._lock)
        self._clock: threading.Thread | None = None
        signal.signal(_SIGNAL, self._on_signal)

    # -- asked from outside ----------------------------------------------------------------

    def cancel(self, call_id: str) -> bool:
        """Stop a call, or see to it that it never starts; True if it runs now."""
        with self._lock:
            self._cancelled[call_id] = None
            if len(self._cancelled) > REMEMBERED:
                del self._cancelled[next(iter(self._cancelled))]
            stop = self._running.get(call_id)
        if stop is not None:
            stop(KeyboardInterrupt)
        return stop is not None

    def is_cancelled(self, call_id: str) -> bool:
        """Tell whether a call was cancelled."""
        return call_id in self._cancelled

    # -- around a call ---------------------------------------------------------------------

    def enter_main(self, message: Message, boundary: CodeType) -> None:
        """Begin a call in the main thread; ``boundary`` is the code that calls the user's."""
        self._boundary = boundary
        self._why = None
        self._enter(message, self._stop_main)
        self._main = message.call_id

    def leave_main(self, message: Message) -> None:
        """End it."""
        self._main = ""
        self.leave(message)

    def enter_thread(self, message: Message) -> None:
        """Begin a call in the present thread."""
        ident = threading.get_ident()
        self._enter(message, lambda why: _raise_in_thread(ident, why))

    def leave_thread(self, message: Message) -> None:
        """End it; what comes too late must not hit the next call."""
        self.leave(message)
        _raise_in_thread(threading.get_ident(), None)

    def enter_task(self, message: Message, stop: Stop) -> None:
        """Begin a call that ``stop`` ends."""
        self._enter(message, stop)

    def leave(self, message: Message) -> None:
        """End a call."""
        self._running.pop(message.call_id, None)
        if self._deadlines.pop(message.call_id, None) is not None:
            with self._lock:
                self._arm()

    def _enter(self, message: Message, stop: Stop) -> None:
        call_id = message.call_id
        hard, soft = message.timelimit
        self._running[call_id] = stop
        if soft is None and hard is None:
            return
        now = time.monotonic()
        with self._changed:
            if soft is not None:
                heapq.heappush(self._limits, (now + soft, next(self._numbers), call_id))
                if self._clock is None:
                    self._clock = threading.Thread(target=self._watch, name="ca-clock", daemon=True)
                    self._clock.start()
                self._changed.notify()
            if hard is not None:
                self._deadlines[call_id] = now + hard
                self._arm()

    def forget(self, call_id: str) -> None:
        """Forget that a call was cancelled: it is over."""
        self._cancelled.pop(call_id, None)

    def _arm(self) -> None:
        """Set the watchdog to the nearest hard limit."""
        nearest = min(self._deadlines.values(), default=0.0)
        self._on_arm(nearest)
        if nearest:
            left = max(0.001, nearest - time.monotonic())
            faulthandler.dump_traceback_later(left, exit=True)
        else:
            faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        """Stop calls that have run for their ``timeout``."""
        while True:
            with self._changed:
                while not self._limits:
                    self._changed.wait()
                when, _, call_id = self._limits[0]
                left = when - time.monotonic()
                if left > 0 and call_id in self._running:
                    self._changed.wait(left)
                    continue
                heapq.heappop(self._limits)
                stop = self._running.get(call_id)
            if stop is not None:
                stop(TaskTimeoutError)

    # -- the main thread -------------------------------------------------------------------

    def _stop_main(self, why: type[BaseException]) -> None:
        call_id = self._main
        self._why = why
        threading.Thread(target=self._knock, args=(call_id,), daemon=True).start()

    def _knock(self, call_id: str) -> None:
        """Signal the main thread until the handler could raise, or the call is over."""
        ident = threading.main_thread().ident
        while ident is not None and call_id and self._main == call_id and self._why is not None:
            signal.pthread_kill(ident, _SIGNAL)
            time.sleep(_AGAIN_SECONDS)

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        why = self._why
        if why is None or not self._main or not self._in_user_code(frame):
            return
        self._why = None
        raise why("the call ran into its timeout" if why is TaskTimeoutError else "cancelled")

    def _in_user_code(self, frame: FrameType | None) -> bool:
        """Tell whether raising here breaks nothing of ours: user code, or a wait for a result."""
        ours = waits = False
        while frame is not None and frame.f_code is not self._boundary:
            name = frame.f_code.co_filename
            if name.startswith(_PACKAGE) and not name.startswith(_AS_USER):
                ours = True
                waits = waits or frame.f_code.co_name == "wait"
            frame = frame.f_back
        return frame is not None and (waits or not ours)


def _raise_in_thread(ident: int, why: type[BaseException] | None) -> None:
    # The one way CPython offers: takes effect at the thread's next bytecode.
    exception: Any = ctypes.py_object(why) if why is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), exception)
