"""Calls that are stopped in a thread: stopped there, once, and nothing stays behind."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from celery_actors.errors import TaskTimeoutError
from celery_actors.interrupts import _SIGNAL, Interrupts
from celery_actors.messages import CallTag, Message


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = signal.getsignal(_SIGNAL)
    yield Interrupts(lambda _when: None)
    signal.signal(_SIGNAL, before)


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
