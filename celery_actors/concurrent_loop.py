"""The loop of an actor whose calls overlap: async and threaded actors, concurrency groups.

One thread takes calls out of line and settles them; runners execute them (``runners.py``). An async
actor's methods run on one event loop in the main thread, and this loop in a thread beside it; a
threaded actor's methods run in pools, and this loop in the main thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .actor_loop import Copies
from .errors import DeadLetterError, FencedError, TaskCancelledError
from .executor import (
    Callee,
    Executor,
    Outcome,
    Prepared,
    Retries,
    Started,
    seconds_until,
)
from .inflight import InFlight, Taken
from .loop import NEVER_RUNS, Host, set_aside
from .mailbox import Mailbox
from .methods import TERMINATE, ActorTraits
from .runtime import Runtime
from .store import Answer
from .tokens import Remains, dropping

__all__ = ["Call", "ConcurrentLoop", "Runner"]

logger = logging.getLogger(__name__)

#: Calls taken out of line beyond those that may run: the next one then starts without a round trip.
READ_AHEAD = 128
#: … where groups limit each other's calls: one full group must not keep the others' out of sight.
READ_AHEAD_GROUPS = 10_000
#: Seconds between two looks at the calls that wait, while others keep the loop busy.
LOOK_SECONDS = 0.002


@dataclass(slots=True)
class Call:
    """One call from the moment it is taken out of line."""

    taken: Taken
    prepared: Prepared
    callee: Callee
    group: str
    due: float = 0.0
    line: deque[Call] | None = None  # the calls of its caller that wait for each other
    begun: float = field(default=0.0)


class Runner(Protocol):
    """Executes calls, some at the same time. Built by ``runners``."""

    def submit(self, call: Call) -> None:
        """Execute the call as soon as its group has room; callable from the loop's thread only."""


class ConcurrentLoop:
    """Takes, hands out and settles the overlapping calls of one actor."""

    def __init__(
        self,
        runtime: Runtime,
        inflight: InFlight,
        bell: Mailbox,
        executor: Executor,
        host: Host,
        find: Callable[[str], Callee | None],
        group_of: Callable[[str], str],
        traits: ActorTraits,
        inherited: int,
    ) -> None:
        self._runtime = runtime
        self._inflight = inflight
        self._bell = bell
        self.executor = executor
        self._host = host
        self._find = find
        self._group_of = group_of
        self._ordered = not traits.out_of_order
        self._inherited = inherited
        self._capacity = traits.max_concurrency + sum(traits.groups.values())
        self._capacity += READ_AHEAD_GROUPS if traits.groups else READ_AHEAD
        self._groups = traits.groups
        self._open = 0  # calls out of line and not settled
        self._done: deque[tuple[Call | Taken, Outcome]] = deque()
        # Marked calls are handed out where they begin at once, so that none is marked that waits.
        self._room = {"": traits.max_concurrency, **traits.groups}
        self._handed = 0  # marked calls that are handed out and not settled
        self._next: dict[str, deque[Call]] = {group: deque() for group in self._room}
        self._waiting: list[Call] = []  # an argument is not ready, or it is for later
        self._lines: dict[tuple[str, str], deque[Call]] = {}
        self._last: Call | None = None  # ends the actor when it is the only one left
        self._looked = 0.0  # when the waiting calls were looked at
        self._asleep = False
        self._copies = Copies(ordered=False)
        self._running = 0
        self._count_lock = threading.Lock()
        self.fenced = False
        executor.on_accepted = self._copies.note

    # -- the loop's own thread -------------------------------------------------------------

    def run(self, runner: Runner) -> None:
        """Serve calls until the host stops, then until those that run have ended.

        Raises:
            FencedError: another process took over.
        """
        self._runner = runner
        while not self._host.stopping or self._busy():
            if self._host.crashed is not None:
                raise self._host.crashed
            if self.fenced:
                raise FencedError
            self._turn()

    def _busy(self) -> bool:
        """Tell whether anything runs that is to end before the process does."""
        begins = self._handed and not self._host.leaving
        return bool(self._running or self._done or begins)

    def _turn(self) -> None:
        if self._waiting and time.monotonic() - self._looked > LOOK_SECONDS:
            self._look_at_waiting()
        settled, remains = self._collect()
        self._begin()
        want = 0
        if not self._host.stopping and self._last is None and self._inflight.backlog:
            want = max(0, self._capacity - self._open + len(settled))
        if settled or want:
            if settled:
                self._runtime.calls.settle()  # what these calls sent is accepted before they end
            for taken in self._inflight.turn(settled, want, dropping(remains)):
                self._open += 1
                self._admit(taken)
            self._begin()
            self._open -= len(settled)
            if remains:
                freed, self._inflight.freed = self._inflight.freed, []
                self._runtime.holdings.clear(remains, freed)
            return
        if self._last is not None and self._open == 1:
            last, self._last = self._last, None
            self._hand_out(last)
            return
        self._sleep()

    def _collect(self) -> tuple[list[tuple[int, Answer]], list[Remains]]:
        settled: list[tuple[int, Answer]] = []
        remains: list[Remains] = []
        while self._done:
            call, outcome = self._done.popleft()
            if isinstance(call, Call):
                if self._inflight.marks:
                    self._room[call.group] += 1
                    self._handed -= 1
                call = call.taken
            settled.append((call.position, outcome.answer))
            if outcome.remains is not None:
                remains.append(outcome.remains)
        return settled, remains

    def _sleep(self) -> None:
        self._asleep = True
        try:
            if self._done or (self._host.stopping and not self._running):
                return
            hears = not self._host.stopping and self._last is None and self._open < self._capacity
            if hears:
                calls, woken = self._bell.peek()
                if calls:
                    self._inflight.backlog = True
            else:
                self._bell.sleep()
                woken = True
        finally:
            self._asleep = False
        if woken:
            self._host.clear_wakeups()
            self._look_at_waiting()

    def _admit(self, taken: Taken) -> None:
        try:
            call = self._read(taken)
        except NEVER_RUNS as error:
            refusal = set_aside(self._runtime, self.executor, self._bell.queue, taken.raw, error)
            self._done.append((taken, refusal))
            return
        message = call.prepared.message
        if self._inherited:
            self._inherited -= 1
            self.executor.recall(message)
        if message.method == TERMINATE:
            self._last = call
        elif message.eta is not None and (left := seconds_until(message.eta)) > 0:
            call.due = time.monotonic() + left
            self._host.wake_at(call.due)
            self._waiting.append(call)
        elif not self._ready(call) or self._line_of(call) in self._lines:
            self._hold(call)
        else:
            self._hand_out(call)

    def _hand_out(self, call: Call) -> None:
        """Let a call begin: at once, or marked, as soon as its group has room."""
        if self._inflight.marks:
            self._next[call.group].append(call)
        else:
            self._runner.submit(call)

    def _begin(self) -> None:
        """Mark and hand out the calls that have room."""
        if self._host.stopping:
            return  # what is not marked goes back in line
        calls: list[Call] = []
        for group, waiting in self._next.items():
            while waiting and self._room[group]:
                self._room[group] -= 1
                calls.append(waiting.popleft())
        if calls:
            self._inflight.begin([call.taken for call in calls])
            self._handed += len(calls)
            for call in calls:
                self._runner.submit(call)

    def _read(self, taken: Taken) -> Call:
        prepared = self.executor.prepare(taken.raw)
        self._copies.check(prepared)
        message = prepared.message
        callee = self._find(message.method)
        if callee is None:
            raise DeadLetterError(f"{message.task} names no method of this actor; check the name")
        group = message.options.group or self._group_of(message.method)
        if group and group not in self._groups:
            raise DeadLetterError(
                f"{message.task} asks for the concurrency group {group!r}, and the actor has "
                f"{sorted(self._groups)}"
            )
        return Call(taken, prepared, callee, group)

    def _line_of(self, call: Call) -> tuple[str, str] | None:
        """Return where a call waits behind its caller's others in the group; None: nowhere."""
        message = call.prepared.message
        in_order = self._ordered and message.tag.caller and message.eta is None
        return (call.group, message.tag.caller) if in_order else None

    def _hold(self, call: Call) -> None:
        """Let a call wait; where order counts, its caller's later ones in the group, too."""
        line = self._line_of(call)
        if line is not None:
            call.line = self._lines.setdefault(line, deque())
            call.line.append(call)
        self._waiting.append(call)

    def _ready(self, call: Call) -> bool:
        missing = [ref for ref in call.prepared.refs if not ref.ready]
        for ref in missing:
            self._runtime.results.notify(ref, lambda _ref: self._host.wake())
        return not missing

    def _look_at_waiting(self) -> None:
        self._looked = time.monotonic()
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            if self._may_start(call):
                if call.line is not None:
                    call.line.popleft()
                self._hand_out(call)
            else:
                self._waiting.append(call)
        for key in [key for key, line in self._lines.items() if not line]:
            del self._lines[key]

    def _may_start(self, call: Call) -> bool:
        if self.executor.is_cancelled(call.prepared.message):
            return call.line is None or call.line[0] is call
        if call.line is not None and call.line[0] is not call:
            return False
        if time.monotonic() < call.due:
            return False
        return all(ref.ready for ref in call.prepared.refs)

    # -- called by runners, in the thread or task of the call --------------------------------

    def start(self, call: Call) -> Started | None:
        """Begin a call: its arguments; None where it ended before it began."""
        try:
            return self._start(call)
        except Exception as error:  # noqa: BLE001 - a runner's thread or task shows it to nobody
            self.broken(error)
            return None

    def broken(self, error: BaseException) -> None:
        """End the process: a call would never end, nor be answered."""
        logger.error("a call could not be executed; this process ends", exc_info=error)
        self._host.crash(SystemExit(1))

    def _start(self, call: Call) -> Started | None:
        message, host = call.prepared.message, self._host
        if host.leaving or (host.stopping and not self._inflight.marks):
            return None  # the process ends; whoever finds the call out of line sees to it
        if host.is_revoked(message.call_id):
            error = TaskCancelledError(f"{call.callee.label} was revoked before it started")
            self._finish(call, self.executor.refuse(message, error, call.callee.label))
            return None
        try:
            started = self.executor.start(call.prepared, call.callee.label)
        except NEVER_RUNS as refusal:
            queue = self._bell.queue
            started = set_aside(self._runtime, self.executor, queue, message.raw, refusal)
        if isinstance(started, Outcome):
            self._finish(call, started)
            return None
        try:
            self._inflight.confirm(call.taken)
        except FencedError:
            self.fenced = True
            host.wake()
            return None
        with self._count_lock:
            self._running += 1
        call.begun = time.monotonic()
        host.begin(call.prepared, call.callee.label)
        return started

    def end(self, call: Call, outcome: Outcome | None) -> None:
        """End a call that had begun; None: its process ends with it."""
        if outcome is not None:
            try:
                self._host.end(call.prepared, outcome, time.monotonic() - call.begun)
            except Exception:  # what others are told of a call must not keep its answer back
                logger.exception("the end of %s could not be reported", call.callee.label)
            # Before it is not counted any more: a loop that stops ends where nothing runs, and an
            # outcome that it has not seen by then is never told.
            self._done.append((call, outcome))
        with self._count_lock:
            self._running -= 1
        if self._host.leaving:
            self._host.stopping = True
        if self._asleep or outcome is None:
            self._host.wake()

    def _finish(self, call: Call, outcome: Outcome) -> None:
        self._done.append((call, outcome))
        if self._asleep:
            self._host.wake()

    def retries(self, call: Call) -> Retries:
        """Return the counter of a call's further runs."""
        message = call.prepared.message
        return Retries(message, call.callee.retry_on, self._host.load_type, lambda _count: None)

    def crash(self, request: SystemExit) -> None:
        """End the process as ``sys.exit`` in a method asks: the main thread raises it."""
        if not self._host.leaving:
            self._host.crash(request)

    def knows(self, call_id: str, runs: bool) -> str:
        """Return what becomes of a call that was cancelled: RUNNING, FINISHED or DROPPED."""
        return self._copies.state(call_id, runs)
