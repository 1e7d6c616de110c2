"""The two loops of a worker: an actor's calls in order, and calls from a shared queue."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

from . import routing
from .directory import dead_letter
from .errors import DeadLetterError, FencedError, TaskCancelledError, UntrustedPayloadError
from .executor import Executor, Outcome, Prepared
from .mailbox import Mailbox
from .messages import Message, decode_envelope
from .runtime import Runtime
from .store import Answer

__all__ = ["ActorLoop", "Host", "SharedLoop"]

logger = logging.getLogger(__name__)

#: Seconds that a finished call's result may wait for others to be committed with.
GROUP_SECONDS = 0.001
#: Seconds after which a running call counts as long: what waits behind it is committed or,
#: on a shared queue, given back to other workers.
LONG_SECONDS = 0.004
#: Calls fetched ahead of execution.
READ_AHEAD = 128
#: Seconds of work that a shared worker takes at a time; more would starve its idle neighbours.
TAKE_SECONDS = 0.002
#: Calls whose ids an actor remembers, to refuse copies of their messages.
SEEN_CALLS = 4096
#: Why a message is set aside: it cannot be read, or must not be unpickled.
NEVER_RUNS = (DeadLetterError, UntrustedPayloadError)


class Host(Protocol):
    """What a loop needs from the process it runs in."""

    stopping: bool

    def started(self, position: int) -> None:
        """Note in memory that outlives the process that the call at this position begins."""

    def clear_wakeups(self) -> None:
        """Forget wake-ups seen so far."""

    def is_revoked(self, call_id: str) -> bool:
        """Tell whether Celery's revoke has named this call."""

    def begin(self, prepared: Prepared, label: str) -> None:
        """A call begins: for events, `inspect active` and log prefixes."""

    def end(self, prepared: Prepared, outcome: Outcome, seconds: float) -> None:
        """A call ended."""


class _Loop:
    """What both loops share: a window of fetched calls, answers not committed yet."""

    def __init__(self, runtime: Runtime, mailbox: Mailbox, executor: Executor, host: Host) -> None:
        self._runtime = runtime
        self._mailbox = mailbox
        self._executor = executor
        self._host = host
        self._window: deque[bytes] = deque()
        self._answers: list[Answer] = []
        self._garbage: list[str] = []
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
            FencedError: another process took over.
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
        """Commit what is finished and get the next calls; False: nothing came, look around."""
        raise NotImplementedError

    def _one(self, raw: bytes) -> None:
        raise NotImplementedError

    def _execute(self, prepared: Prepared, function: Callable[..., Any], label: str) -> None:
        host, lock = self._host, self._lock
        with lock:
            host.started(self._mailbox.position + len(self._answers) + 1)
            begun = self._since = time.monotonic()
            if self._window or self._answers:
                self._busy.set()
        host.begin(prepared, label)
        try:
            outcome = self._run(prepared, function, label)
        except SystemExit:
            with lock:
                self._commit_locked()
            raise
        finished = time.monotonic()
        host.end(prepared, outcome, finished - begun)
        self._finish(outcome, finished)

    def _finish(self, outcome: Outcome, now: float) -> None:
        with self._lock:
            self._since = 0.0
            self._current = 0
            if not self._answers:
                self._oldest = now
            self._answers.append(outcome.answer)
            self._garbage += outcome.garbage

    def _dead_letter(self, raw: bytes, error: Exception) -> Outcome:
        """Keep a copy of a message that can never run; return its answer."""
        queue = self._mailbox.queue
        logger.error("a message on %s was set aside: %s", queue, error)
        self._runtime.store.run("LPUSH", routing.DEAD_LETTERS, dead_letter(raw, queue, str(error)))
        self._runtime.store.run("LTRIM", routing.DEAD_LETTERS, 0, 999)
        try:
            headers = decode_envelope(raw).headers
        except DeadLetterError:
            return Outcome(Answer("", b""), [], False)
        caller = headers.ca.caller if headers.ca else ""
        return self._executor.refuse(headers.id, caller, error, headers.task)

    def _run(self, prepared: Prepared, function: Callable[..., Any], label: str) -> Outcome:
        """Run a call, unless it was revoked or its arguments cannot be trusted."""
        message = prepared.message
        if self._host.is_revoked(message.call_id):
            error = TaskCancelledError(f"{label} was revoked before it started")
            return self._executor.refuse(message.call_id, message.tag.caller, error, label)
        try:
            return self._executor.run(prepared, function, label)
        except NEVER_RUNS as refusal:
            return self._dead_letter(message.raw, refusal)

    def _commit_locked(self) -> None:
        if self._answers:
            answers, self._answers = self._answers, []
            self._mailbox.commit(answers, 0)
            self._free_garbage()

    def _free_garbage(self) -> None:
        if self._garbage:
            garbage, self._garbage = self._garbage, []
            self._runtime.store.run("UNLINK", *garbage)

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
        except FencedError:
            return  # the main thread meets it too, and ends

    @contextmanager
    def _blocking(self) -> Iterator[None]:
        """Around a wait for other calls inside a call."""
        if threading.current_thread() is threading.main_thread():
            self._relieve()
        yield


class ActorLoop(_Loop):
    """Runs one actor's calls, oldest first; a call with an unready argument steps aside."""

    def __init__(
        self, runtime: Runtime, mailbox: Mailbox, executor: Executor, host: Host,
        find: Callable[[str], tuple[Callable[..., Any], str] | None],
        start_parked: Callable[[int], None], settle: Callable[[int, Answer], None],
        wake: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(runtime, mailbox, executor, host)
        self._find = find
        self._start_parked = start_parked
        self._settle = settle
        self._wake = wake
        self._parked: dict[str, deque[tuple[int, Prepared]]] = {}  # by caller
        self._signed: dict[str, int] = {}  # caller -> its last call with signed arguments
        self._seen: dict[str, None] = {}  # ids of recent calls, oldest first
        executor.on_accepted = self._accepted

    def _refill(self) -> bool:
        with self._lock:
            answers, self._answers = self._answers, []
            if self._mailbox.backlog:
                self._window.extend(self._mailbox.commit(answers, READ_AHEAD))
                self._free_garbage()
                if self._window:
                    return True
            elif answers:
                self._mailbox.commit_and_peek(answers)
                self._free_garbage()
        calls, woken = self._mailbox.peek()
        self._window.extend(calls)
        if woken:
            self._host.clear_wakeups()
            self._run_unparked()
        return bool(calls)

    def _one(self, raw: bytes) -> None:
        try:
            prepared = self._executor.prepare(raw)
            self._refuse_copies(prepared)
            found = self._find(prepared.message.method)
            if found is None:
                raise DeadLetterError(
                    f"{prepared.message.task} names no method of this actor; check the name"
                )
        except NEVER_RUNS as error:
            self._finish(self._dead_letter(raw, error), time.monotonic())
            return
        caller = prepared.message.tag.caller
        if (caller and caller in self._parked) or not self._ready(prepared):
            self._park(prepared)
            return
        self._execute(prepared, *found)

    def _refuse_copies(self, prepared: Prepared) -> None:
        """Refuse a message that somebody put on the queue a second time.

        A call with signed arguments is refused for good: each caller's come in ascending order.
        A plain one carries no secret, anybody with access may write its like; its copy is refused
        as long as its id is remembered.
        """
        message = prepared.message
        tag = message.tag
        signed = b"__type__" in message.raw and tag.sequence <= self._signed.get(tag.caller, 0)
        if tag.caller and (signed or message.call_id in self._seen):
            raise UntrustedPayloadError(
                f"call {tag.sequence} of {tag.caller} to this actor has run already: somebody put a "
                "copy of its message on the queue"
            )

    def _accepted(self, message: Message) -> None:
        tag = message.tag
        if tag.caller:
            self._seen[message.call_id] = None
            if len(self._seen) > SEEN_CALLS:
                del self._seen[next(iter(self._seen))]
            if b"__type__" in message.raw:
                self._signed[tag.caller] = tag.sequence

    def _ready(self, prepared: Prepared) -> bool:
        """Tell whether every argument is here, after one look into the store."""
        waiting = [ref for ref in prepared.refs if not ref.ready]
        return not waiting or self._runtime.results.wait_stored(waiting)

    def _park(self, prepared: Prepared) -> None:
        with self._lock:
            self._commit_locked()
            position = self._mailbox.position
            self._mailbox.park()
            self._current = 0
        self._parked.setdefault(prepared.message.tag.caller, deque()).append((position, prepared))
        for ref in prepared.refs:
            self._runtime.results.notify(ref, lambda _ref: self._wake())

    def _run_unparked(self) -> None:
        for caller in list(self._parked):
            line = self._parked[caller]
            while line and all(ref.ready for ref in line[0][1].refs):
                position, prepared = line.popleft()
                self._run_one_parked(position, prepared)
                if self._host.stopping:
                    return
            if not line:
                del self._parked[caller]

    def _run_one_parked(self, position: int, prepared: Prepared) -> None:
        function, label = self._find(prepared.message.method) or _gone(prepared)
        self._start_parked(position)
        self._host.begin(prepared, label)
        begun = time.monotonic()
        outcome = self._run(prepared, function, label)
        self._host.end(prepared, outcome, time.monotonic() - begun)
        self._settle(position, outcome.answer)
        if outcome.garbage:
            self._runtime.store.run("UNLINK", *outcome.garbage)


def _gone(prepared: Prepared) -> NoReturn:
    raise DeadLetterError(f"{prepared.message.task} was a method when it was set aside")


class SharedLoop(_Loop):
    """Runs function calls from a shared queue, a little work at a time."""

    def __init__(
        self, runtime: Runtime, mailbox: Mailbox, executor: Executor, host: Host,
        load: Callable[[Prepared], tuple[Callable[..., Any], str]],
        give_back: Callable[[int], None], lend: Callable[[bool], None], resident: bool,
    ) -> None:  # fmt: skip
        super().__init__(runtime, mailbox, executor, host)
        self._load = load
        self._give_back = give_back
        self._lend = lend
        self._resident = resident
        self._typical = TAKE_SECONDS  # smoothed seconds of a call

    def _refill(self) -> bool:
        want = max(1, min(64, int(TAKE_SECONDS / max(self._typical, 1e-6))))
        with self._lock:
            answers, self._answers = self._answers, []
            if self._mailbox.backlog:
                self._window.extend(self._mailbox.commit(answers, want))
                self._free_garbage()
                if self._window:
                    return True
            elif answers:
                self._mailbox.commit_and_peek(answers)
                self._free_garbage()
        calls, woken = self._mailbox.peek()
        self._window.extend(calls)
        if woken:
            self._host.clear_wakeups()
        elif not calls and not self._resident:
            self._host.stopping = True  # nothing came for a while: give the resources back
        return bool(calls)

    def _one(self, raw: bytes) -> None:
        try:
            prepared = self._executor.prepare(raw)
            function, label = self._load(prepared)
        except NEVER_RUNS as error:
            self._finish(self._dead_letter(raw, error), time.monotonic())
            return
        except Exception as error:  # noqa: BLE001 - importing the user's module may raise anything
            self._refuse(raw, error)
            return
        waiting = [ref for ref in prepared.refs if not ref.ready]
        if waiting and not self._runtime.results.wait_stored(waiting):
            with self._blocking():
                self._runtime.results.wait(waiting, len(waiting), None, fail_fast=True)
        begun = time.monotonic()
        self._execute(prepared, function, label)
        self._typical += 0.2 * (time.monotonic() - begun - self._typical)

    def _refuse(self, raw: bytes, error: Exception) -> None:
        headers = decode_envelope(raw).headers
        caller = headers.ca.caller if headers.ca else ""
        self._finish(
            self._executor.refuse(headers.id, caller, error, headers.task), time.monotonic()
        )

    def _relieve(self) -> None:
        try:
            with self._lock:
                if self._mailbox.peeking:
                    return
                self._commit_locked()
                if self._window:
                    self._window.clear()
                    self._give_back(self._current)
                    self._mailbox.backlog = True
        except FencedError:
            return  # the main thread meets it too, and ends

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
