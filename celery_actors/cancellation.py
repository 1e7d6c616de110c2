"""Cancelling: a call that waits never runs; one that runs is interrupted."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from . import records, routing
from .errors import RayError, TaskCancelledError
from .messages import Meta
from .object_ref import ObjectRef
from .store import Answer, StoreError
from .store.wire import pack
from .tokens import discard

if TYPE_CHECKING:
    from .calls import Target
    from .runtime import Runtime

__all__ = ["ACKNOWLEDGE_SECONDS", "Canceller"]

logger = logging.getLogger(__name__)

#: Seconds that `cancel` waits for a worker to say what it did. Workers answer in milliseconds; one
#: whose process computes without ever giving Python a turn may not.
ACKNOWLEDGE_SECONDS = 1.0
#: Seconds after which it is said again that nobody has heard, then twice as many, and so on: a node
#: that has just lost its connection to the store hears nothing until it has another one.
AGAIN_SECONDS = 0.25
#: Seconds after which it is not said again. A node that hears nothing for that long has lost its
#: lease, and what its workers ran is settled.
SAY_SECONDS = 30.0
#: Seconds for which the store remembers that a call was cancelled, in case its worker dies.
REMEMBER_SECONDS = 3600


@dataclass(eq=False, slots=True)
class _Said:
    """A cancellation of which no worker has said anything yet."""

    ref: ObjectRef[Any]
    target: Target
    error: TaskCancelledError
    word: bytes
    pause: float = AGAIN_SECONDS
    at: float = field(default_factory=time.monotonic)  # when it was said last


class Canceller:
    """Cancels calls of one process, and passes on what it cannot reach itself."""

    def __init__(self, context: Runtime) -> None:
        self._context = context
        self._unheard: dict[str, _Said] = {}  # by the call's id
        self._lock = threading.Lock()
        self._sayer: threading.Thread | None = None
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
            "channel": routing.reply_channel(context.session), "once": secrets.token_hex(8),
        }  # fmt: skip
        said = _Said(ref, target, error, msgspec.json.encode(word))
        with self._lock:
            self._unheard[call_id] = said
            if self._sayer is None:
                self._sayer = threading.Thread(target=self._say_on, name="ca-cancel", daemon=True)
                self._sayer.start()
        context.store.run("PUBLISH", routing.BELL, said.word)
        if patience:

            def over() -> bool:
                return ref.ready or self._unheard.get(call_id) is not said

            context.mux.wait(over, time.monotonic() + patience)

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

    def _say_on(self) -> None:
        """Say again what nobody has heard."""
        while True:
            time.sleep(AGAIN_SECONDS)
            now = time.monotonic()
            with self._lock:
                for call_id, said in list(self._unheard.items()):
                    if said.ref.ready or said.pause > SAY_SECONDS or self._context.mux.closed:
                        del self._unheard[call_id]
                due = [said for said in self._unheard.values() if now >= said.at + said.pause]
                if not self._unheard:
                    self._sayer = None
                    return
            for said in due:
                said.at, said.pause = now, said.pause * 2
                try:
                    self._say_again(said)
                except (RayError, StoreError) as error:
                    logger.warning("the cancellation of %s: %s; trying again", said.ref.id, error)

    def _say_again(self, said: _Said) -> None:
        # A shared worker may have given it back to its line before it heard of this, and nobody has
        # it then. No new mark: if it is over, nobody would remove that.
        if self._withdraw(said.target, said.ref.id, said.error, 0):
            self._is_heard(said.ref.id)
        else:
            self._context.store.run("PUBLISH", routing.BELL, said.word)

    def _is_heard(self, call_id: str) -> _Said | None:
        with self._lock:
            return self._unheard.pop(call_id, None)

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
            said = self._is_heard(meta.task_id)
            if meta.status == "DROPPED":
                words = "the call was cancelled before it started"
                error = said.error if said else TaskCancelledError(words)
                self._context.results.fail([meta.task_id], error)
            elif meta.status == "FINISHED" and said:
                self._context.mux.post(pack(("UNLINK", routing.cancelled_key(meta.task_id))))
            self._context.mux.wake_followers()
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
