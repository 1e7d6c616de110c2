"""Stopping calls that run: cancelled ones, and those that take longer than they may.

A call in the main thread is interrupted there: a signal wakes it even from a blocking system call,
and its handler raises. A call in another thread gets its exception at the next bytecode, a
coroutine through its task. A call beyond its hard limit ends with its whole process, by a watchdog
that needs no interpreter lock.

Each run of a call has a number or function of its own that stops it, so what comes too late hits no
other run. Nothing is raised while the package's own code is at work: it may hold a lock, or be half
way through a message.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import itertools
import math
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType

from .errors import TaskTimeoutError
from .messages import Message
from .store import WAITS

__all__ = ["Interrupts"]

#: No program uses real-time signals by accident.
_SIGNAL = getattr(signal, "SIGRTMIN", signal.SIGUSR1)
_AGAIN_SECONDS = 0.002
#: Cancelled calls whose ids a process remembers: some have ended, and nobody asks for them again.
REMEMBERED = 10_000
_PACKAGE = str(Path(__file__).parent)
#: Parts of the package that run inside actors as any user's class does.
_AS_USER = (f"{_PACKAGE}/util/", f"{_PACKAGE}/testing.py")

Why = type[BaseException]
#: What stops one run of a call: its number in the main thread, or a function.
Stop = int | Callable[[Why], None]


class Interrupts:
    """The running calls of one process, and which of them are to stop."""

    def __init__(self, on_arm: Callable[[float], None]) -> None:
        self._on_arm = on_arm
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._running: dict[str, Stop] = {}
        #: Threads in which an exception may be on its way: which, and what sends another one.
        self._struck: dict[int, tuple[Why, Callable[[Why], None]]] = {}
        self._cancelled: OrderedDict[str, str] = OrderedDict()  # and by which word, oldest first
        self._main = 0  # the run in the main thread; 0: none
        self._why: tuple[int, Why] = (0, KeyboardInterrupt)  # the run to stop there
        self._raised: BaseException | None = None  # there, by this run
        self._boundary: CodeType | None = None
        self._timeouts: dict[str, tuple[float, Stop]] = {}  # when to stop which run
        self._next = math.inf  # when the clock looks again
        self._deadlines: dict[str, float] = {}
        self._changed = threading.Condition(self._lock)
        self._clock: threading.Thread | None = None
        signal.signal(_SIGNAL, self._on_signal)
        self._shows_swallowed = sys.unraisablehook
        sys.unraisablehook = self._on_swallowed

    # -- asked from outside ----------------------------------------------------------------

    def cancel(self, call_id: str, once: str = "") -> bool:
        """Stop a call, or see to it that it never starts; True if it runs now.

        A word ``once`` counts once: what is only said again must not hit the call's own cleaning.
        """
        with self._lock:
            again = bool(once) and self._cancelled.get(call_id) == once
            self._cancelled[call_id] = once
            if len(self._cancelled) > REMEMBERED:
                self._cancelled.popitem(last=False)
            stop = self._running.get(call_id)
        if stop is not None and not again:
            self._stop(stop, KeyboardInterrupt)
        return stop is not None

    def is_cancelled(self, call_id: str) -> bool:
        """Tell whether a call was cancelled."""
        return call_id in self._cancelled

    def is_running(self, call_id: str) -> bool:
        """Tell whether a call runs now."""
        return call_id in self._running

    def forget(self, call_id: str) -> None:
        """Forget that a call was cancelled: it is over."""
        self._cancelled.pop(call_id, None)

    # -- around a call ---------------------------------------------------------------------

    def enter_main(self, message: Message, boundary: CodeType) -> None:
        """Begin a call in the main thread; ``boundary`` is the code that calls the user's.

        Raises:
            KeyboardInterrupt: the call was cancelled meanwhile.
        """
        self._boundary = boundary
        self._main = run = next(self._numbers)
        self._enter(message, run)

    def leave_main(self, message: Message) -> None:
        """End it."""
        self._main = 0
        self._raised = None
        self.leave(message)

    def enter_thread(self, message: Message, boundary: CodeType) -> None:
        """Begin a call in the present thread, likewise."""
        ident, call_id = threading.get_ident(), message.call_id

        def stop(why: Why) -> None:
            words = (ident, call_id, stop, boundary, why)
            threading.Thread(target=self._strike, args=words, daemon=True).start()

        self._enter(message, stop)

    def leave_thread(self, message: Message) -> None:
        """End it; what comes too late must not hit the next call."""
        ident = threading.get_ident()
        with self._lock:
            self._running.pop(message.call_id, None)
            if self._struck.pop(ident, None) is not None:
                _take_back(ident)
        self.leave(message)

    def enter_task(self, message: Message, stop: Callable[[Why], None]) -> None:
        """Begin a call that ``stop`` ends, likewise."""
        self._enter(message, stop)

    def leave(self, message: Message) -> None:
        """End a call."""
        self._running.pop(message.call_id, None)
        hard, soft = message.timelimit
        if soft is None and hard is None:
            return
        with self._lock:
            self._timeouts.pop(message.call_id, None)
            if self._deadlines.pop(message.call_id, None) is not None:
                self._arm()

    def _enter(self, message: Message, stop: Stop) -> None:
        call_id = message.call_id
        self._running[call_id] = stop
        # Whoever cancels notes it first and looks for a running call then: one of us sees both.
        if self._cancelled and call_id in self._cancelled:
            raise KeyboardInterrupt
        hard, soft = message.timelimit
        if soft is None and hard is None:
            return
        now = time.monotonic()
        with self._changed:
            if soft is not None:
                self._timeouts[call_id] = (now + soft, stop)
                if self._clock is None:
                    self._clock = threading.Thread(target=self._watch, name="ca-clock", daemon=True)
                    self._clock.start()
                elif now + soft < self._next:
                    self._changed.notify()
            if hard is not None:
                self._deadlines[call_id] = now + hard
                self._arm()

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
                now = time.monotonic()
                due = {i: stop for i, (when, stop) in self._timeouts.items() if when <= now}
                for call_id in due:
                    del self._timeouts[call_id]
                if not due:
                    self._next = min((w for w, _ in self._timeouts.values()), default=math.inf)
                    self._changed.wait(None if self._next == math.inf else self._next - now)
            for stop in due.values():
                self._stop(stop, TaskTimeoutError)

    # -- raising ---------------------------------------------------------------------------

    def _stop(self, stop: Stop, why: Why) -> None:
        if isinstance(stop, int):
            with self._lock:
                # Two may ask at once. One that comes after its call must not take the place of
                # the other one's word, which is for the next call.
                if stop != self._main:
                    return
                self._why = (stop, why)
            threading.Thread(target=self._knock, args=(stop,), daemon=True).start()
        else:
            stop(why)

    def _knock(self, run: int) -> None:
        """Signal the main thread until the handler could raise, or the run is over."""
        ident = threading.main_thread().ident
        while ident is not None and self._main == run == self._why[0]:
            signal.pthread_kill(ident, _SIGNAL)
            time.sleep(_AGAIN_SECONDS)

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        run, why = self._why
        if not run or run != self._main or not _may_raise(frame, self._boundary):
            return
        self._why = (0, why)
        self._raised = why()  # and in no local of this frame: its traceback would hold itself
        raise self._raised

    def _on_swallowed(self, what: sys.UnraisableHookArgs) -> None:
        """Raise again what came in a finalizer: Python shows that to nobody, and goes on."""
        ident = threading.get_ident()
        struck = self._struck.get(ident)
        if struck is not None and what.exc_type is struck[0]:
            del self._struck[ident]
            struck[1](struck[0])
        elif self._main and self._raised is not None and what.exc_value is self._raised:
            self._stop(self._main, what.exc_type)
        else:
            self._shows_swallowed(what)

    def _strike(
        self, ident: int, call_id: str, stop: Callable[[Why], None], boundary: CodeType, why: Why
    ) -> None:  # fmt: skip
        """Raise in a thread as soon as it is in user code, unless the run is over."""
        while True:
            # A thread that has just slept has the interpreter for itself for a moment, so the
            # other one still is where we see it.
            time.sleep(_AGAIN_SECONDS)
            with self._lock:
                if self._running.get(call_id) != stop:
                    return
                frame = sys._current_frames().get(ident)  # noqa: SLF001 - documented, for this
                if _may_raise(frame, boundary):
                    self._struck[ident] = (why, stop)
                    _raise_in_thread(ident, why)
                    return


def _may_raise(frame: FrameType | None, boundary: CodeType | None) -> bool:
    """Tell whether raising there breaks nothing of ours: in user code, or in a wait for news."""
    waits = frame is not None and frame.f_code in WAITS
    ours = False
    while frame is not None and frame.f_code is not boundary:
        name = frame.f_code.co_filename
        ours = ours or (name.startswith(_PACKAGE) and not name.startswith(_AS_USER))
        frame = frame.f_back
    return frame is not None and (waits or not ours)


class _TakenBack(BaseException):
    """Takes the place of an exception that came too late."""


def _take_back(ident: int) -> None:
    """See to it that no exception is on its way to this thread any more.

    Not by raising nothing: CPython would look for the exception ever after, at every call in the
    process, and with a debugger's or a coverage tool's trace function it would do nothing else.
    """
    with contextlib.suppress(_TakenBack):
        while True:  # it comes at the next turn; again, should a finalizer have swallowed it
            _raise_in_thread(ident, _TakenBack)


def _raise_in_thread(ident: int, why: Why) -> None:
    # The one way CPython offers: takes effect at the thread's next bytecode.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(why))
