"""The loop of a durable actor: a call's state, result, position and messages commit in one step.

After each call the state is taken from the instance, before the next call can change it. What a
call sends is held back until its commit, unless the call waits for it: then it goes at once, behind
what the calls before it have sent.

Where no call has come for ``idle_timeout`` seconds, the actor becomes passive and the process ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

from .actor_loop import ActorLoop
from .actor_state import ActorState, Taken
from .calls import Held
from .errors import RayError, SerializationError
from .executor import Callee, Outcome, Prepared, Retries
from .mailbox import Batch
from .messages import Message
from .runtime import Runtime
from .store import Durable
from .tokens import Remains, dropping

__all__ = ["DurableLoop", "Kept"]


class Holder(Protocol):
    """What has the instance."""

    instance: Any


class Kept:
    """The state of the actor in this process: as its last call left it, and as the store has it."""

    def __init__(
        self, runtime: Runtime, holder: Holder, state: ActorState, key: str, actor_id: str
    ) -> None:
        self._runtime = runtime
        self._holder = holder
        self._state = state
        self._actor_id = actor_id
        self.key = key
        self.data = b""  # the pickle, as the last call left it
        self._things: list[str] = []
        self._stored = b""
        self._ties: list[str] = []  # of what the stored state refers to

    def load(self, stored: bytes) -> None:
        """Make the instance from a stored state.

        Raises:
            StateRefusedError: its class cannot take it.
        """
        self._holder.instance, self._ties = self._state.load(stored)

    def take(self) -> Taken:
        """Return the state of the instance as it is now.

        Raises:
            SerializationError: it cannot be pickled.
        """
        return self._state.take(self._holder.instance)

    def first(self) -> bytes:
        """Return the state to store when the actor has just been made or loaded.

        Raises:
            SerializationError: it cannot be pickled.
        """
        self.data, self._things = self.take()
        state, ties, _ = self.news()
        self._runtime.holdings.add(ties)
        self._runtime.calls.settle()
        return state

    def note(self, taken: Taken) -> None:
        """Keep the state that a call has left."""
        self.data, self._things = taken

    def roll_back(self) -> None:
        """Give the instance the state that the last call before the present one has left."""
        self._holder.instance = self._state.restore(self.data)

    def news(self) -> tuple[bytes, list[str], list[str]]:
        """Return what the store does not have yet: the state, ties to add, ties to drop."""
        if self.data == self._stored:
            return b"", [], []
        self._stored = self.data
        holdings = self._runtime.holdings
        things = [thing for thing in self._things if thing != holdings.own]
        before, self._ties = self._ties, holdings.ties(things, "a", self._actor_id)
        added = [tie for tie in self._ties if tie not in before]
        dropped = [tie for tie in before if tie not in self._ties]
        return self._state.sign(self.data, self._ties), added, dropped


class DurableLoop(ActorLoop):
    """Runs a durable actor's calls, oldest first."""

    def __init__(
        self, *words: Any, kept: Kept, commit_every: int, rollback_on_error: bool,
        idle_timeout: float | None, passivate: Callable[[], bool], **named: Any,
    ) -> None:  # fmt: skip
        super().__init__(*words, **named)
        self._kept = kept
        self._commit_every = commit_every
        self._rollback_on_error = rollback_on_error
        self._made: tuple[Taken, list[Held]] | None = None  # by the call that has just ended
        self._held: list[Held] = []  # what ended calls have sent
        self._sent: list[Callable[[Any], None]] = []  # who takes the replies to the last commit
        self._runtime.calls.before_early = self._before_early
        self._idle_timeout = math.inf if idle_timeout is None else idle_timeout
        self._passivate = passivate
        self._used = time.monotonic()  # when the last call ended
        self._look_at = self._used + self._idle_timeout  # when it may have been idle for so long
        if idle_timeout is not None:
            self._host.wake_at(self._look_at)

    def _run(self, prepared: Prepared, callee: Callee) -> Outcome:
        calls = self._runtime.calls
        calls.held = True
        try:
            outcome = super()._run(prepared, callee)
        except SystemExit:
            if self._host.leaving:
                calls.flush()  # the actor ends well: what it has sent counts
            raise
        if outcome.stopped or (self._rollback_on_error and not outcome.succeeded):
            self._roll_back(callee)
            return outcome
        try:
            self._made = self._kept.take(), calls.collect()
        except SerializationError as error:
            self._roll_back(callee)
            return self._executor.fail(prepared.message, error, callee.label)
        return outcome

    def _retries(self, message: Message, callee: Callee) -> Retries:
        retries = super()._retries(message, callee)
        if self._rollback_on_error:

            def renew(failed: Callee) -> Callee:
                self._roll_back(failed)
                return self._find(message.method) or failed

            retries.before_next = renew
        return retries

    def _roll_back(self, callee: Callee) -> None:
        self._kept.roll_back()
        self._runtime.calls.discard(
            RayError(f"{callee.label} was rolled back, and this call of it was never sent")
        )

    def _woken(self) -> None:
        super()._woken()
        if time.monotonic() >= self._look_at and not self._host.stopping:
            self._look_idle(self._idle_timeout)

    def _look_idle(self, timeout: float) -> None:
        """Become passive where no call has come for so long; else look again when that may be."""
        if time.monotonic() >= self._used + timeout:
            if not (self._window or self._parked):
                self._runtime.calls.settle()
                if self._passivate():
                    self._host.stopping = True
                    return
            self._used = time.monotonic()  # a call waits
        self._look_at = self._used + timeout
        self._host.wake_at(self._look_at)

    def _finish(self, outcome: Outcome, now: float) -> None:
        super()._finish(outcome, now)
        self._used = now
        with self._lock:
            if len(self._answers) >= self._commit_every and self._window:
                self._commit_locked()

    def _note_finished(self) -> None:
        if self._made is not None:
            taken, held = self._made
            self._made = None
            self._kept.note(taken)
            self._held += held

    def _take_batch(self) -> Batch:
        batch = super()._take_batch()
        if not batch.answers:
            return batch
        left, durable = self._durable(self._remains)
        return Batch(batch.answers, left, durable)

    def _durable(self, remains: list[Remains]) -> tuple[Any, Durable]:
        """Return what ended calls leave, and what is committed with them."""
        state, added, dropped = self._kept.news()
        held, self._held = self._held, []
        self._sent = [taker for _, taker in held]
        steps = [step for step, _ in held]
        if added:
            steps.insert(0, self._runtime.holdings.adding(added))
            self._sent.insert(0, lambda _reply: None)
        left = dropping([*remains, Remains(ties=dropped)])
        return left, Durable(self._kept.key, state, steps)

    def _clear(self) -> None:
        replies, self._mailbox.replies = self._mailbox.replies, []
        self._take_replies(replies)
        super()._clear()

    def _take_replies(self, replies: list[Any]) -> None:
        sent, self._sent = self._sent, []
        for take, reply in zip(sent, replies, strict=True):
            take(reply)
        if not self._current:
            self._runtime.calls.held = False

    def _settle_aside(self, position: int, outcome: Outcome) -> None:
        self._runtime.calls.settle()
        self._note_finished()
        remains = [outcome.remains] if outcome.remains is not None else []
        left, durable = self._durable(remains)
        replies = self._aside.settle(position, outcome.answer, remains, left, durable)
        self._take_replies(replies)
        self._used = time.monotonic()

    def _before_early(self) -> None:
        """Commit the calls before the running one, and see that this process is still the owner.

        Raises:
            FencedError: it is not.
        """
        with self._lock:
            if not self._mailbox.peeking:
                self._commit_locked()
                self._mailbox.commit(Batch(), 0)
