"""The loop of a shared worker: function calls, a little work at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .executor import Callee, Executor, Prepared
from .loop import NEVER_RUNS, Host, Loop
from .mailbox import OUSTED, Mailbox
from .messages import outline
from .runtime import Runtime

__all__ = ["SharedLoop"]

#: Seconds of work that a shared worker takes at a time; more would starve its idle neighbours.
TAKE_SECONDS = 0.002


class SharedLoop(Loop):
    """Runs function calls from a shared queue, a little work at a time."""

    def __init__(
        self, runtime: Runtime, mailbox: Mailbox, executor: Executor, host: Host,
        load: Callable[[Prepared], Callee], give_back: Callable[[int], None],
        lend: Callable[[bool], None], resident: bool,
        default_calls: int,
    ) -> None:  # fmt: skip
        super().__init__(runtime, mailbox, executor, host)
        self._load = load
        self._give_back = give_back
        self._lend = lend
        self._resident = resident
        self._default_calls = default_calls  # of a message that says nothing of it
        self._served: Counter[str] = Counter()  # calls by the function's content hash
        self._waits = ""  # the call that waits for its arguments
        self._typical = TAKE_SECONDS  # smoothed seconds of a call

    def _want(self) -> int:
        return max(1, min(64, int(TAKE_SECONDS / max(self._typical, 1e-6))))

    def _idle(self) -> None:
        if not self._resident:
            self._host.stopping = True  # give the resources back

    def knows(self, call_id: str, runs: bool) -> str:
        """Return what becomes of a cancelled call: RUNNING, DROPPED, or '' where it is not here."""
        if runs:
            return "RUNNING"
        with self._lock:
            waits = call_id == self._waits or any(
                call_id.encode() in raw for raw in tuple(self._window)
            )
        return "DROPPED" if waits else ""

    def _one(self, raw: bytes) -> None:
        try:
            prepared = self._executor.prepare(raw)
            callee = self._load(prepared)
        except NEVER_RUNS as error:
            self._finish(self._dead_letter(raw, error), time.monotonic())
            return
        except Exception as error:  # noqa: BLE001 - importing the user's module may raise anything
            self._refuse(raw, error)
            return
        waiting = [ref for ref in prepared.refs if not ref.ready]
        if waiting and not self._runtime.results.wait_stored(waiting):
            self._waits = prepared.message.call_id
            with self._blocking() if self._resident else self._awaiting():
                self._runtime.results.wait(
                    waiting, len(waiting), None, fail_fast=True,
                    unless=lambda: self._executor.is_cancelled(prepared.message),
                )  # fmt: skip
            self._waits = ""
        begun = time.monotonic()
        self._execute(prepared, callee)
        self._typical += 0.2 * (time.monotonic() - begun - self._typical)
        tag = prepared.message.tag
        if limit := prepared.message.options.max_calls if tag.code else self._default_calls:
            self._served[tag.code] += 1
            if self._served[tag.code] >= limit:
                self._host.stopping = True  # another process takes the next call

    def _refuse(self, raw: bytes, error: Exception) -> None:
        message = outline(raw)
        self._finish(self._executor.refuse(message, error, message.task), time.monotonic())

    def _relieve(self) -> None:
        try:
            with self._lock:
                if self._mailbox.peeking:
                    return
                self._commit_locked()
                if self._window:
                    self._window.clear()
                    self._give_back(self._current)
                    self._mailbox.release(keep=self._current)
                    self._mailbox.backlog = True
        except OUSTED:
            return  # the main thread meets it too, and ends

    @contextmanager
    def _awaiting(self) -> Iterator[None]:
        """Around a wait for the arguments of a call that has not begun."""
        self._relieve()
        with self._host.awaiting():
            yield

    @contextmanager
    def _blocking(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._relieve()
        self._lend(True)
        try:
            yield
        finally:
            self._lend(False)
