"""Cancelling: a call that waits never runs; one that runs is interrupted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from . import records, routing
from .errors import RayError, TaskCancelledError
from .messages import Meta
from .object_ref import ObjectRef
from .store import Answer
from .tokens import discard

if TYPE_CHECKING:
    from .calls import Target
    from .runtime import Runtime

__all__ = ["ACKNOWLEDGE_SECONDS", "Canceller"]

logger = logging.getLogger(__name__)

#: Seconds that `cancel` waits for a worker to say what it did. Workers answer in milliseconds; one
#: whose process computes without ever giving Python a turn may not.
ACKNOWLEDGE_SECONDS = 1.0
#: How often it says so meanwhile, until one answers.
SAY_TIMES = 4
#: Seconds for which the store remembers that a call was cancelled, in case its worker dies.
REMEMBER_SECONDS = 3600


class Canceller:
    """Cancels calls of one process, and passes on what it cannot reach itself."""

    def __init__(self, context: Runtime) -> None:
        self._context = context
        self._heard: dict[str, str] = {}  # by the call's id: what its worker said; '': awaited
        context.results.on_word = self._on_word

    def cancel(self, ref: ObjectRef[Any], *, force: bool, recursive: bool, patience: float) -> None:
        """Cancel a call; wait ``patience`` seconds at most for its worker's word.

        One of several values stands for the call that makes them.
        """
        ref = ref._call or ref
        target = ref._target
        if target is not None and target.actor_id and force:
            raise ValueError(
                "force=True is not supported for actor calls: it would end the whole actor. Use "
                "celery_actors.kill() for that"
            )
        if ref.ready:
            return
        context = self._context
        context.calls.flush()
        call_id = ref.id
        if target is None:
            owner = routing.reply_channel(routing.session_of(call_id))
            self._tell(owner, "CANCEL", call_id, {"force": force, "recursive": recursive})
            return
        error = TaskCancelledError(f"the call to {target.name} was cancelled before it started")
        if self._withdraw(target, call_id, error, REMEMBER_SECONDS):
            return
        word = {
            "queues": _queues(target), "cancel": call_id, "force": force, "recursive": recursive,
            "channel": routing.reply_channel(context.session),
        }  # fmt: skip
        said = msgspec.json.encode(word)
        if patience:
            self._say_until_heard(ref, target, error, said, patience)
        else:
            context.store.run("PUBLISH", routing.BELL, said)

    def _withdraw(
        self, target: Target, call_id: str, error: TaskCancelledError, remember: int
    ) -> bool:
        """Take a call that no worker has fetched out of its line, and answer it.

        Else the store remembers for so many seconds that it was cancelled.
        """
        context = self._context
        answer = Answer(
            routing.result_key(call_id), records.error_record(error, call_id),
            routing.reply_channel(context.session),
        )  # fmt: skip
        meta = routing.ActorKeys(target.queue, target.actor_id).meta if target.actor_id else ""
        for queue in _queues(target):
            cancelled = context.store.scripts.cancel(
                queue, meta, routing.cancelled_key(call_id), call_id, remember,
                context.result_seconds, answer,
            )  # fmt: skip
            if cancelled:
                discard(context.store, [cancelled])
                return True
        return False

    def _say_until_heard(
        self, ref: ObjectRef[Any], target: Target, error: TaskCancelledError, said: bytes,
        patience: float,
    ) -> None:  # fmt: skip
        context, call_id = self._context, ref.id
        self._heard[call_id] = ""

        def over() -> bool:
            return ref.ready or bool(self._heard.get(call_id))

        # More than once: a node that was just connecting to the store has not heard it.
        for _ in range(SAY_TIMES):
            context.store.run("PUBLISH", routing.BELL, said)
            if context.mux.wait(over, time.monotonic() + patience / SAY_TIMES):
                break
            # A shared worker may have given it back to its line before it heard of this, and
            # nobody has it then. No new mark: if it is over, nobody would remove that.
            if self._withdraw(target, call_id, error, 0):
                break
        heard = self._heard.pop(call_id, "")
        if heard == "DROPPED" and not ref.ready:
            context.results.complete(ref, None, error)
        elif heard == "FINISHED":
            context.store.run("UNLINK", routing.cancelled_key(call_id))

    def cancel_all(self, refs: Iterable[ObjectRef[Any]]) -> None:
        """Cancel several calls without waiting for their workers' words."""
        for ref in refs:
            self.cancel(ref, force=False, recursive=True, patience=0.0)

    def answer(self, channel: str, call_id: str, word: str) -> None:
        """Tell the process that asked what became of the call here."""
        self._tell(channel, word, call_id, {})

    def _tell(self, channel: str, word: str, call_id: str, more: dict[str, Any]) -> None:
        meta = msgspec.json.encode([{"status": word, "task_id": call_id, "ca": more}])
        self._context.store.run("PUBLISH", channel, meta)

    def _on_word(self, meta: Meta) -> None:
        """Take in a word about a cancellation, in the thread that reads."""
        if meta.status != "CANCEL":
            if meta.task_id in self._heard:
                self._heard[meta.task_id] = meta.status
                self._context.mux.wake_followers()
            elif meta.status == "DROPPED":
                error = TaskCancelledError("the call was cancelled before it started")
                self._context.results.fail([meta.task_id], error)
            return
        ref = self._context.results.held(meta.task_id)
        if ref is not None:
            how = msgspec.json.decode(meta.ca)
            threading.Thread(target=self._cancel_for_another, args=(ref, how), daemon=True).start()

    def _cancel_for_another(self, ref: ObjectRef[Any], how: dict[str, Any]) -> None:
        """Cancel a call of ours as another process has asked."""
        try:
            self.cancel(ref, **how, patience=ACKNOWLEDGE_SECONDS)
        except (RayError, ValueError) as error:
            logger.warning("another process asked to cancel %s: %s", ref.id, error)


def _queues(target: Target) -> list[str]:
    """Return where a call may be, in the order in which it moves: a node may have passed it on."""
    if target.actor_id or not target.need.may_be_passed_on:
        return [target.queue]
    return [target.queue, routing.shared_queue(target.need.anywhere.label)]
