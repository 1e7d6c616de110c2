"""What both loops of a worker share: fetched calls, answers not committed yet, long calls."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from . import routing
from .directory import dead_letter
from .errors import DeadLetterError, TaskCancelledError, UntrustedPayloadError
from .executor import Callee, Executor, Outcome, Prepared, Retries
from .mailbox import OUSTED, Batch, Mailbox
from .messages import Message, outline
from .runtime import Runtime
from .store import Answer, StoreFullError
from .tokens import Remains, dropping

__all__ = ["NEVER_RUNS", "Host", "Loop", "set_aside"]

logger = logging.getLogger(__name__)

#: Seconds that a finished call's result may wait for others to be committed with.
GROUP_SECONDS = 0.001
#: Seconds after which a running call counts as long: what waits behind it is committed or,
#: on a shared queue, given back to other workers.
LONG_SECONDS = 0.004
#: Why a message is set aside: it cannot be read, or must not be unpickled.
NEVER_RUNS = (DeadLetterError, UntrustedPayloadError)


class Host(Protocol):
    """What a loop needs from the process it runs in."""

    stopping: bool
    awakened: bool  # somebody woke the loop since it cleared its wake-ups
    leaving: str  # why the process ends by its own wish; empty: it does not
    crashed: SystemExit | None  # what a call raised to end the process

    def started(self, position: int) -> None:
        """Note in memory that outlives the process that the call at this position begins."""

    def retried(self, count: int) -> None:
        """Note there that the running call runs again because of what it raised."""

    def load_type(self, digest: str) -> Any:
        """Return a class by its content hash."""

    def wake(self) -> None:
        """Make the loop look around; callable from any thread."""

    def wake_at(self, when: float) -> None:
        """Make the loop look around at a moment (``time.monotonic``)."""

    def awaiting(self) -> AbstractContextManager[None]:
        """Stand around a wait for arguments: the node has the resources meanwhile."""

    def clear_wakeups(self) -> None:
        """Forget wake-ups seen so far."""

    def crash(self, request: SystemExit) -> None:
        """Note that a call asked for the end of the process."""

    def is_revoked(self, call_id: str) -> bool:
        """Tell whether Celery's revoke has named this call."""

    def begin(self, prepared: Prepared, label: str) -> None:
        """A call begins, in this thread or task: for events, `inspect active`, log prefixes."""

    def end(self, prepared: Prepared, outcome: Outcome, seconds: float) -> None:
        """A call ended."""


def set_aside(
    runtime: Runtime, executor: Executor, queue: str, raw: bytes, error: Exception
) -> Outcome:
    """Keep a copy of a message that can never run; return its answer."""
    logger.error("a message on %s was set aside: %s", queue, error)
    with contextlib.suppress(StoreFullError):  # then the log has to do
        runtime.store.run("LPUSH", routing.DEAD_LETTERS, dead_letter(raw, queue, str(error)))
        runtime.store.run("LTRIM", routing.DEAD_LETTERS, 0, 999)
    try:
        message = outline(raw)
    except DeadLetterError:
        return Outcome(Answer("", b""), None, False)
    return executor.refuse(message, error, message.task)


class Loop:
    """What both loops share: a window of fetched calls, answers not committed yet."""

    def __init__(self, runtime: Runtime, mailbox: Mailbox, executor: Executor, host: Host) -> None:
        self._runtime = runtime
        self._mailbox = mailbox
        self._executor = executor
        self._host = host
        self._window: deque[bytes] = deque()
        self._answers: list[Answer] = []
        self._remains: list[Remains] = []
        self._lock = threading.Lock()  # mailbox, window and answers: main thread and flusher
        self._oldest = 0.0  # when the oldest answer was finished
        self._since = 0.0  # when the running call began; 0 between calls
        self._current = 0  # 1 while a call is out of the window and not answered
        self._busy = threading.Event()
        self._ended = False
        runtime.results.blocking = self._blocking
        threading.Thread(target=self._flusher, name="ca-flusher", daemon=True).start()

    def run(self) -> None:
        """Serve calls until the host stops.

        Raises:
            FencedError: another process took over. StoreRolledBackError: the store lost writes.
        """
        try:
            while not self._host.stopping:
                self._turn()
        finally:
            self._ended = True
            self._busy.set()

    def finish(self) -> None:
        """Commit what is finished, as far as the connection is free to."""
        with self._lock:
            if not self._mailbox.peeking:
                self._commit_locked()

    def _turn(self) -> None:
        if self._host.awakened and not self._mailbox.peeking:
            # Calls keep coming; what was set aside must not wait for a pause between them.
            with self._lock:
                self._commit_locked()
            self._host.clear_wakeups()
            self._woken()
            if self._host.stopping:
                return  # the wake-up that came with that is forgotten: nothing would end a peek
        if not self._window and not self._refill():
            return
        while self._window and not self._host.stopping:
            with self._lock:
                if not self._window:
                    break
                if self._answers and time.monotonic() - self._oldest > GROUP_SECONDS:
                    self._commit_locked()
                raw = self._window.popleft()
                self._current = 1
            self._one(raw)

    def _refill(self) -> bool:
        """Commit what is finished and get the next calls; False: nothing came."""
        with self._lock:
            batch = self._take_batch()
            if self._mailbox.backlog:
                self._window.extend(self._mailbox.commit(batch, self._want()))
                self._clear()
                if self._window:
                    return True
            elif batch.answers:
                self._mailbox.commit_and_peek(batch)
                self._clear()
        calls, woken = self._mailbox.peek()
        self._window.extend(calls)
        if woken:
            self._host.clear_wakeups()
            self._woken()
        elif not calls:
            self._idle()
        return bool(calls)

    def _want(self) -> int:
        """Return how many calls to fetch ahead of execution."""
        raise NotImplementedError

    def _woken(self) -> None:
        """Look around: something else than a call has come."""

    def _idle(self) -> None:
        """Take note that no call came for as long as a peek lasts."""

    def _one(self, raw: bytes) -> None:
        raise NotImplementedError

    def _execute(self, prepared: Prepared, callee: Callee) -> None:
        host, lock = self._host, self._lock
        with lock:
            host.started(self._mailbox.position + len(self._answers) + 1)
            begun = self._since = time.monotonic()
            if (self._window or self._answers) and not self._busy.is_set():
                self._busy.set()
        host.begin(prepared, callee.label)
        try:
            outcome = self._run(prepared, callee)
        except SystemExit:
            with lock:
                self._commit_locked()
            raise
        finished = time.monotonic()
        host.end(prepared, outcome, finished - begun)
        self._finish(outcome, finished)
        if host.leaving:
            host.stopping = True

    def _finish(self, outcome: Outcome, now: float) -> None:
        with self._lock:
            self._since = 0.0
            self._current = 0
            self._note_finished()
            if not self._answers:
                self._oldest = now
            self._answers.append(outcome.answer)
            if outcome.remains is not None:
                self._remains.append(outcome.remains)

    def _note_finished(self) -> None:
        """Take note that a call has ended, in the same moment in which its answer is kept."""

    def _dead_letter(self, raw: bytes, error: Exception) -> Outcome:
        return set_aside(self._runtime, self._executor, self._mailbox.queue, raw, error)

    def _run(self, prepared: Prepared, callee: Callee) -> Outcome:
        """Run a call, unless it was revoked or its arguments cannot be trusted."""
        message, host = prepared.message, self._host
        if host.is_revoked(message.call_id):
            error = TaskCancelledError(f"{callee.label} was revoked before it started")
            return self._executor.refuse(message, error, callee.label)
        retries = self._retries(message, callee)
        try:
            return self._executor.run(prepared, callee, retries)
        except NEVER_RUNS as refusal:
            return self._dead_letter(message.raw, refusal)

    def _retries(self, message: Message, callee: Callee) -> Retries:
        return Retries(message, callee.retry_on, self._host.load_type, self._host.retried)

    def _take_batch(self) -> Batch:
        """Return what is to be committed.

        The calls that these calls made are accepted first: whoever sees a result sees what came
        before it, and a crash after the commit loses none of them.
        """
        answers, self._answers = self._answers, []
        if answers:
            self._runtime.calls.settle()
        return Batch(answers, dropping(self._remains) if self._remains else ())

    def _commit_locked(self) -> None:
        if self._answers:
            self._mailbox.commit(self._take_batch(), 0)
            self._clear()

    def _clear(self) -> None:
        """Remove the keys that the calls leave whose results are stored now."""
        if self._remains:
            remains, self._remains = self._remains, []
            freed, self._mailbox.freed = self._mailbox.freed, []
            self._runtime.holdings.clear(remains, freed)

    def _flusher(self) -> None:
        """Commit finished calls while a long one runs after them."""
        while not self._ended:
            self._busy.wait()
            self._busy.clear()
            while not self._ended:
                time.sleep(LONG_SECONDS / 2)
                since = self._since
                if since and time.monotonic() - since > LONG_SECONDS:
                    break
                if not since and not self._window:
                    break
            else:
                return
            if self._since:
                self._relieve()

    def _relieve(self) -> None:
        """A long call runs, or blocks: nothing may wait behind it."""
        try:
            with self._lock:
                if not self._mailbox.peeking:
                    self._commit_locked()
        except OUSTED:
            return  # the main thread meets it too, and ends

    @contextmanager
    def _blocking(self) -> Iterator[None]:
        """Around a wait for other calls inside a call."""
        if threading.current_thread() is threading.main_thread():
            self._relieve()
        yield
