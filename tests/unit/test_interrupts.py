"""Calls that are stopped in a thread: stopped there, once, and nothing stays behind."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from celery_actors.errors import TaskTimeoutError
from celery_actors.interrupts import _SIGNAL, Interrupts
from celery_actors.messages import CallTag, Message


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before, shown = signal.getsignal(_SIGNAL), sys.unraisablehook
    yield Interrupts(lambda _when: None)
    signal.signal(_SIGNAL, before)
    sys.unraisablehook = shown


def message(call_id: str) -> Message:
    return Message(b"", call_id, "Actor.method", CallTag(), 0, [], {})


class Caller(threading.Thread):
    """Runs calls one after the other, as a thread of a threaded actor does."""

    def __init__(self, interrupts: Interrupts, *calls: Any) -> None:
        super().__init__(daemon=True)
        self._interrupts = interrupts
        self._calls = calls
        self.outcomes: list[str] = []
        self.began = threading.Event()

    def run(self) -> None:
        for number, call in enumerate(self._calls):
            try:
                self.outcomes.append(self._call(message(f"call-{number}"), call))
            except KeyboardInterrupt:
                self.outcomes.append("stopped")

    def _call(self, what: Message, call: Any) -> str:
        try:
            try:
                self._interrupts.enter_thread(what, Caller._call.__code__)
                self.began.set()
                return str(call())
            finally:
                self._interrupts.leave_thread(what)
        except BaseException:
            self._interrupts.leave_thread(what)
            raise


def spin() -> None:
    while True:
        pass


def test_a_call_in_a_thread_is_stopped_and_the_next_one_is_not(interrupts: Interrupts) -> None:
    caller = Caller(interrupts, spin, lambda: sum(range(100_000)))
    caller.start()
    assert caller.began.wait(10)

    assert interrupts.cancel("call-0")

    caller.join(10)
    assert caller.outcomes == ["stopped", str(sum(range(100_000)))]
    assert not interrupts.cancel("call-0"), "it runs no more"


def test_a_stop_that_comes_when_calls_end_hits_no_other_call(interrupts: Interrupts) -> None:
    for _ in range(50):
        caller = Caller(interrupts, lambda: sum(range(2_000)), lambda: sum(range(100_000)))
        caller.start()
        assert caller.began.wait(10)
        interrupts.cancel("call-0")
        caller.join(10)
        assert caller.outcomes[-1] == str(sum(range(100_000)))
        interrupts.forget("call-0")


def test_after_a_stop_the_process_can_still_be_traced(interrupts: Interrupts) -> None:
    caller = Caller(interrupts, spin)
    caller.start()
    assert caller.began.wait(10)
    interrupts.cancel("call-0")
    caller.join(10)
    seen: list[str] = []

    def trace(frame: FrameType, event: str, _argument: object) -> None:
        seen.append(frame.f_code.co_name)

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        _ = message("call-1").method  # a property: a function of ours
    finally:
        sys.settrace(before)

    assert "method" in seen


def call_in_the_main_thread(interrupts: Interrupts, what: Message, before: Any) -> str:
    """Run a call as a worker's main thread does; ``before`` happens where nothing is raised."""
    interrupts.enter_main(what, spin.__code__)
    try:
        before()
        spin()
    except KeyboardInterrupt:
        return "cancelled"
    finally:
        interrupts.leave_main(what)
    return "never"


@pytest.mark.timeout(20)
def test_a_stop_that_is_late_for_one_call_does_not_spare_the_next(interrupts: Interrupts) -> None:
    first, second = message("call-0"), message("call-1")
    interrupts.enter_main(first, spin.__code__)
    over = interrupts._running[first.call_id]
    interrupts.leave_main(first)

    def both() -> None:
        assert interrupts.cancel(second.call_id)
        interrupts._stop(over, TaskTimeoutError)  # its time was up when it ended

    assert call_in_the_main_thread(interrupts, second, both) == "cancelled"


class Deaf:
    """Swallows what is raised while it is finalized, as Python does for any object."""

    def __init__(self, finalized: threading.Event, stopped: threading.Event) -> None:
        self._finalized, self._stopped = finalized, stopped

    def __del__(self) -> None:
        self._finalized.set()
        try:
            while True:
                time.sleep(0.001)
        finally:
            self._stopped.set()


@pytest.mark.timeout(20)
def test_a_stop_that_a_finalizer_swallows_comes_again(interrupts: Interrupts) -> None:
    finalized, stopped = threading.Event(), threading.Event()

    def cancel() -> None:
        assert finalized.wait(10)
        assert interrupts.cancel("call-0")

    thread = threading.Thread(target=cancel)
    thread.start()
    interrupts.enter_main(message("call-0"), user_code.__code__)
    with pytest.raises(KeyboardInterrupt):
        user_code(finalized, stopped)
    interrupts.leave_main(message("call-0"))
    thread.join(10)
    assert stopped.is_set()


def test_in_a_thread_too(interrupts: Interrupts) -> None:
    finalized, stopped = threading.Event(), threading.Event()
    caller = Caller(interrupts, lambda: user_code(finalized, stopped), lambda: sum(range(100_000)))
    caller.start()
    assert finalized.wait(10)

    assert interrupts.cancel("call-0")

    caller.join(10)
    assert stopped.is_set()
    assert caller.outcomes == ["stopped", str(sum(range(100_000)))]


def user_code(finalized: threading.Event, stopped: threading.Event) -> None:
    """Finalize what swallows an exception, and go on as if nothing had been."""
    Deaf(finalized, stopped)
    while True:
        time.sleep(0.001)


@pytest.mark.timeout(20)
def test_what_is_said_again_stops_a_call_once(interrupts: Interrupts) -> None:
    first = message("call-0")

    def clean() -> int:
        """Be stopped, and hear the same word while that is cleaned up."""
        try:
            interrupts.cancel("call-0", "word")
            spin()
        except KeyboardInterrupt:
            interrupts.cancel("call-0", "word")
            done = 0
            while done < 50:  # longer than from one knock to the next
                time.sleep(0.002)
                done += 1
            return done
        return 0

    interrupts.enter_main(first, clean.__code__)
    assert clean() == 50
    interrupts.leave_main(first)


@pytest.mark.timeout(20)
def test_another_word_stops_it_again(interrupts: Interrupts) -> None:
    first = message("call-0")

    def deaf() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            interrupts.cancel("call-0", "word")
            spin()
        interrupts.cancel("call-0", "another")
        spin()

    interrupts.enter_main(first, deaf.__code__)
    with pytest.raises(KeyboardInterrupt):
        deaf()
    interrupts.leave_main(first)


class Held:
    """A local of a call."""


def test_a_call_that_was_stopped_holds_nothing(interrupts: Interrupts) -> None:
    inside: list[weakref.ref[Held]] = []

    def call() -> None:
        held = Held()
        inside.append(weakref.ref(held))
        interrupts.cancel("call-0")
        spin()

    gc.collect()
    gc.disable()  # an idle worker's collector may not run for long
    try:
        interrupts.enter_main(message("call-0"), call.__code__)
        with contextlib.suppress(KeyboardInterrupt):
            call()
        interrupts.leave_main(message("call-0"))
        assert inside[0]() is None
    finally:
        gc.enable()
