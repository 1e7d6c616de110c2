"""The loop of an actor whose calls run one at a time: in order, those that must wait set aside."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from . import routing
from .errors import DeadLetterError, FencedError, UntrustedPayloadError
from .executor import Callee, Executor, Outcome, Prepared, seconds_until
from .loop import NEVER_RUNS, Host, Loop
from .mailbox import Mailbox
from .messages import Message
from .methods import TERMINATE
from .runtime import Runtime
from .store import Answer, Durable
from .tokens import Remains, dropping

__all__ = ["ActorLoop", "Aside", "Copies"]

#: Calls fetched ahead of execution.
READ_AHEAD = 128
#: Calls whose ids an actor remembers, to refuse copies of their messages.
SEEN_CALLS = 4096
#: Stands for a caller in the table of calls set aside: it waits for all the others.
_LAST = "\x00last"


class Aside:
    """The calls of one actor that stepped out of line, as the store knows them."""

    def __init__(self, runtime: Runtime, keys: routing.ActorKeys, epoch: str, owner: str) -> None:
        self._runtime = runtime
        self._keys = keys
        self._epoch, self._owner = epoch, owner

    def start(self, position: int) -> None:
        """Note that the call begins, so that a crash knows it may have taken effect."""
        keys, scripts = self._keys, self._runtime.store.scripts
        if not scripts.begin(keys.meta, keys.begun, self._epoch, self._owner, [position]):
            raise FencedError

    def settle(
        self, position: int, answer: Answer, remains: list[Remains], left: Sequence[str | int],
        durable: Durable | None = None,
    ) -> list[Any]:  # fmt: skip
        """Store the call's result and forget the call, in one step.

        ``left``: what it leaves (see ``tokens.dropping``). Returns the replies to what a durable
        actor sends with it.
        """
        keys = self._keys
        settled = self._runtime.store.scripts.settle_aside(
            [keys.queue, keys.meta, keys.parked, keys.begun], self._epoch, self._owner, position,
            self._runtime.result_seconds, answer, left, durable,
        )  # fmt: skip
        if settled is None:
            raise FencedError
        freed, replies = settled
        self._runtime.holdings.clear(remains, freed)
        return replies


class Copies:
    """Refuses messages that somebody put on an actor's queue a second time.

    A call with signed arguments is refused for good where each caller's come in ascending order. A
    plain one carries no secret, anybody with access may write its like; its copy is refused as long
    as its id is remembered, and so is a signed one where calls overlap.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._signed: dict[str, int] = {}  # caller -> its last call with signed arguments
        # Recent calls and their tries, oldest first. Not a plain dict: that finds its first key
        # behind all that were deleted.
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, prepared: Prepared) -> None:
        """Let a first message pass.

        Raises:
            UntrustedPayloadError: it is a copy.
        """
        message = prepared.message
        tag = message.tag
        signed = (
            self._ordered
            and b"__type__" in message.raw
            and tag.sequence <= self._signed.get(tag.caller, 0)
        )
        if tag.caller and (signed or message.retries <= self._seen.get(message.call_id, -1)):
            raise UntrustedPayloadError(
                f"call {tag.sequence} of {tag.caller} to this actor has run already: somebody put "
                "a copy of its message on the queue"
            )

    def note(self, message: Message) -> None:
        """Remember a call that runs."""
        tag = message.tag
        if tag.caller:
            with self._lock:
                self._seen[message.call_id] = message.retries
                if len(self._seen) > SEEN_CALLS:
                    self._seen.popitem(last=False)
            if self._ordered and b"__type__" in message.raw and message.eta is None:
                self._signed[tag.caller] = tag.sequence

    def state(self, call_id: str, runs: bool) -> str:
        """Return what becomes of a call that was cancelled: RUNNING, FINISHED or DROPPED."""
        if runs:
            return "RUNNING"
        return "FINISHED" if call_id in self._seen else "DROPPED"


class _Waiting(NamedTuple):
    """A call out of line, and when it may start at the earliest (``time.monotonic``)."""

    position: int
    prepared: Prepared
    due: float


class ActorLoop(Loop):
    """Runs one actor's calls, oldest first; a call that must wait steps aside.

    Behind a call with an unready argument its own caller's later calls wait, too, unless
    ``out_of_order``. A call for later holds nobody back.
    """

    def __init__(
        self,
        runtime: Runtime,
        mailbox: Mailbox,
        executor: Executor,
        host: Host,
        find: Callable[[str], Callee | None],
        aside: Aside,
        *,
        out_of_order: bool,
        inherited: int,
    ) -> None:
        super().__init__(runtime, mailbox, executor, host)
        self._find = find
        self._aside = aside
        self._out_of_order = out_of_order
        self._inherited = inherited  # calls that a former process may have left cancelled
        self._parked: dict[str, deque[_Waiting]] = {}  # by caller, or by call
        self._copies = Copies(ordered=not out_of_order)
        executor.on_accepted = self._copies.note

    def _want(self) -> int:
        return READ_AHEAD

    def _one(self, raw: bytes) -> None:
        try:
            prepared = self._executor.prepare(raw)
            self._copies.check(prepared)
            callee = self._find(prepared.message.method)
            if callee is None:
                raise DeadLetterError(
                    f"{prepared.message.task} names no method of this actor; check the name"
                )
        except NEVER_RUNS as error:
            self._finish(self._dead_letter(raw, error), time.monotonic())
            return
        if self._inherited:
            self._inherited -= 1
            self._executor.recall(prepared.message)
        line, due = self._line_of(prepared)
        if line is None:
            self._execute(prepared, callee)
        else:
            self._park(line, prepared, due)

    def knows(self, call_id: str, runs: bool) -> str:
        """Return what becomes of a call that was cancelled: RUNNING, FINISHED or DROPPED."""
        return self._copies.state(call_id, runs)

    def _line_of(self, prepared: Prepared) -> tuple[str | None, float]:
        """Return the line in which a call must wait, None to run it now, and when it is due."""
        message = prepared.message
        caller = message.tag.caller
        if message.eta is not None and (left := seconds_until(message.eta)) > 0:
            return message.call_id, time.monotonic() + left
        if message.method == TERMINATE and self._parked:
            return _LAST, 0.0
        # A call for later is out of its caller's order, whether or not its moment is over.
        in_order = caller and not self._out_of_order and message.eta is None
        held = in_order and caller in self._parked
        if not held and (self._ready(prepared) or self._executor.is_cancelled(message)):
            return None, 0.0
        return (caller if in_order else message.call_id), 0.0

    def _ready(self, prepared: Prepared) -> bool:
        """Tell whether every argument is here, after one look into the store."""
        waiting = [ref for ref in prepared.refs if not ref.ready]
        return not waiting or self._runtime.results.wait_stored(waiting)

    def _park(self, line: str, prepared: Prepared, due: float) -> None:
        with self._lock:
            self._commit_locked()
            position = self._mailbox.position
            self._mailbox.park()
            self._current = 0
        self._parked.setdefault(line, deque()).append(_Waiting(position, prepared, due))
        for ref in prepared.refs:
            self._runtime.results.notify(ref, lambda _ref: self._host.wake())
        if due:
            self._host.wake_at(due)

    def _woken(self) -> None:
        for line in list(self._parked):
            waiting = self._parked[line]
            while waiting and self._may_start(line, waiting[0]):
                call = waiting.popleft()
                self._run_one_parked(call.position, call.prepared)
                if self._host.stopping:
                    return
            if not waiting:
                del self._parked[line]

    def _may_start(self, line: str, call: _Waiting) -> bool:
        if line == _LAST:
            return len(self._parked) == 1
        if self._executor.is_cancelled(call.prepared.message):
            return True
        if time.monotonic() < call.due:
            return False
        return all(ref.ready for ref in call.prepared.refs)

    def _run_one_parked(self, position: int, prepared: Prepared) -> None:
        callee = self._find(prepared.message.method) or _gone(prepared)
        self._aside.start(position)
        begun = time.monotonic()
        self._host.begin(prepared, callee.label)
        outcome = self._run(prepared, callee)
        self._host.end(prepared, outcome, time.monotonic() - begun)
        self._settle_aside(position, outcome)

    def _settle_aside(self, position: int, outcome: Outcome) -> None:
        self._runtime.calls.settle()
        remains = [outcome.remains] if outcome.remains is not None else []
        self._aside.settle(position, outcome.answer, remains, dropping(remains))


def _gone(prepared: Prepared) -> NoReturn:
    raise DeadLetterError(f"{prepared.message.task} was a method when it was set aside")
