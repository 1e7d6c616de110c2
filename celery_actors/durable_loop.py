"""The loop of a durable actor: a call's state, result, position and messages commit in one step.

After each call the state is taken from the instance, before the next call can change it. What a
call sends is held back until its commit, unless the call waits for it: then it goes at once, behind
what the calls before it have sent.

Where no call has come for ``idle_timeout`` seconds, the actor becomes passive and the process ends.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from .actor_loop import ActorLoop
from .calls import Held
from .durable_state import Kept
from .errors import RayError, SerializationError
from .executor import Callee, Outcome, Prepared, Retries
from .mailbox import Batch
from .messages import Message
from .methods import ActorTraits
from .recording import Recorder
from .store import Durable, Step
from .tokens import Remains, dropping

__all__ = ["DurableLoop"]

logger = logging.getLogger(__name__)

#: Crashes of a call after which its next run waits, in seconds first and at most.
FREE_CRASHES = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0


class DurableLoop(ActorLoop):
    """Runs a durable actor's calls, oldest first."""

    def __init__(
        self, *words: Any, kept: Kept, recorder: Recorder, epoch: int, traits: ActorTraits,
        passivate: Callable[[int], bool], **named: Any,
    ) -> None:  # fmt: skip
        super().__init__(*words, **named)
        self._kept = kept
        self._recorder = recorder
        self._epoch = epoch
        self._runs = 0  # of calls in this process
        self._commit_every = traits.commit_every
        self._rollback_on_error = traits.rollback_on_error
        self._made: tuple[Any, list[Held]] | None = None  # by the call that has just ended
        self._held: list[Held] = []  # what ended calls have sent
        self._over: list[str] = []  # outside steps of calls that have ended
        self._sent: list[Callable[[Any], None] | None] = []  # who takes the last commit's replies
        self._executor.watcher = kept
        self._runtime.calls.before_early = self._before_early
        idle_timeout = traits.idle_timeout
        self._idle_timeout = math.inf if idle_timeout is None else idle_timeout
        self._passivate = passivate
        self._used = time.monotonic()  # when the last call ended
        self._look_at = self._used + self._idle_timeout  # when it may have been idle for so long
        if idle_timeout is not None:
            self._host.wake_at(self._look_at)

    def _run(self, prepared: Prepared, callee: Callee) -> Outcome:
        calls, call_id = self._runtime.calls, prepared.message.call_id
        self._hold_off(prepared.message, callee)
        calls.held = True
        self._runs += 1
        try:
            with self._recorder.call(call_id, (self._epoch, self._runs)):
                outcome = super()._run(prepared, callee)
        except SystemExit:
            if self._host.leaving:
                calls.flush()  # the actor ends well: what it has sent counts
            raise
        self._over += self._recorder.left(call_id)
        if outcome.stopped or (self._rollback_on_error and not outcome.succeeded):
            self._roll_back(callee)
            return outcome
        try:
            self._made = self._kept.make(), calls.collect()
        except SerializationError as error:
            self._roll_back(callee)
            return self._executor.fail(prepared.message, error, callee.label)
        return outcome

    def _hold_off(self, message: Message, callee: Callee) -> None:
        """Wait before a call that has ended several processes: it may do so for ever."""
        crashes = message.retries - FREE_CRASHES
        if crashes <= 0:
            return
        seconds = min(FIRST_PAUSE * 2 ** min(crashes - 1, 30), LONGEST_PAUSE)
        logger.warning(
            "%s has ended this actor's process %d times; it runs again in %g s. Cancel it if it "
            "never can end well", callee.label, message.retries, seconds,
        )  # fmt: skip
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._host.stopping:
                raise SystemExit(0)  # it has not begun: the next process takes it
            if self._executor.is_cancelled(message):
                return
            time.sleep(min(left, 0.05))

    def _retries(self, message: Message, callee: Callee) -> Retries:
        retries = super()._retries(message, callee)

        def before_next(failed: Callee) -> Callee:
            if self._rollback_on_error:
                self._roll_back(failed)
            self._recorder.begin()
            return self._find(message.method) or failed

        retries.before_next = before_next
        return retries

    def _roll_back(self, callee: Callee) -> None:
        with self._lock:
            self._commit_locked()
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
                if self._passivate(self._mailbox.position):
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
            made, held = self._made
            self._made = None
            self._kept.note(made)
            self._held += held

    def _take_batch(self) -> Batch:
        batch = super()._take_batch()
        if not batch.answers:
            return batch
        left, durable = self._durable(self._remains)
        return Batch(batch.answers, left, durable)

    def _durable(self, remains: list[Remains]) -> tuple[Any, Durable]:
        """Return what ended calls leave, and what is committed with them."""
        news, keys = self._kept.news(), self._kept.keys
        steps = [*news.steps]
        if news.added:
            steps.append(self._runtime.holdings.adding(news.added))
        if self._over:
            steps.append(Step("drop_steps", (keys.steps,), self._over))
            self._over = []
        held, self._held = self._held, []
        self._sent = [*(None for _ in steps), *(taker for _, taker in held)]
        left = dropping([*remains, Remains(ties=news.dropped)])
        return left, Durable(keys.state, news.state, [*steps, *(step for step, _ in held)])

    def _clear(self) -> None:
        replies, self._mailbox.replies = self._mailbox.replies, []
        self._take_replies(replies)
        super()._clear()

    def _take_replies(self, replies: list[Any]) -> None:
        sent, self._sent = self._sent, []
        for take, reply in zip(sent, replies, strict=True):
            if take is not None:
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
