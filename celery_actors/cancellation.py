"""Cancelling: a call that waits never runs; one that runs is interrupted."""

from __future__ import annotations

import contextlib
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
from .store import Answer
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
#: Seconds after which it is said again that nobody has heard, then twice as many, and so on up to
#: the second figure: a node that has just lost its connection to the store hears nothing until it
#: has another one.
AGAIN_SECONDS, SELDOM_SECONDS = 0.25, 2.0
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
    word: dict[str, Any]
    pause: float = AGAIN_SECONDS
    first: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)


class Canceller:
    """Cancels calls of one process, and passes on what it cannot reach itself."""

    def __init__(self, context: Runtime) -> None:
        self._context = context
        self._unheard: dict[str, _Said] = {}  # by the call's id
        self._lock = threading.RLock()  # a signal's handler may cancel, too
        self._saying = False  # a thread says again what nobody has heard
        context.results.on_word = self._on_word

    def cancel(
        self, ref: ObjectRef[Any], *, force: bool, recursive: bool, patience: float,
        once: str = "",
    ) -> None:  # fmt: skip
        """Cancel a call; wait ``patience`` seconds at most for its worker's word.

        One of several values stands for the call that makes them. A worker that is told the same
        ``once`` again does nothing; by default each cancellation has one of its own.
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
            "once": once or secrets.token_hex(8),
        }  # fmt: skip
        said = self._note(call_id, _Said(ref, target, error, word))
        self._say(said)
        self._keep_saying()
        if patience:

            def over() -> bool:
                return ref.ready or self._unheard.get(call_id) is not said

            context.mux.wait(over, time.monotonic() + patience)

    def _note(self, call_id: str, said: _Said) -> _Said:
        """Keep a cancellation until it is heard; one that was not yet asks for what both ask."""
        with self._lock:
            found = self._unheard.setdefault(call_id, said)
            for how in ("force", "recursive"):
                found.word[how] = found.word[how] or said.word[how]
            return found

    def _say(self, said: _Said) -> None:
        self._context.store.run("PUBLISH", routing.BELL, msgspec.json.encode(said.word))

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

    def _keep_saying(self) -> None:
        with self._lock:
            if not self._saying:
                # Where no thread can be had any more, as at the end of a program, once must do.
                with contextlib.suppress(RuntimeError):
                    threading.Thread(target=self._say_on, name="ca-cancel", daemon=True).start()
                    self._saying = True

    def _say_on(self) -> None:
        """Say again what nobody has heard."""
        while True:
            time.sleep(AGAIN_SECONDS)
            for said in self._overdue():
                if self._context.mux.closed:
                    break
                said.last, said.pause = time.monotonic(), min(2 * said.pause, SELDOM_SECONDS)
                try:
                    self._say_again(said)
                except RayError as error:
                    logger.warning("the cancellation of %s: %s; trying again", said.ref.id, error)
                except Exception:  # the others must be said all the same
                    logger.exception("the cancellation of %s", said.ref.id)
            with self._lock:
                if not self._unheard or self._context.mux.closed:
                    self._saying = False
                    return

    def _overdue(self) -> list[_Said]:
        """Forget what is settled or too old; return what is to be said now."""
        now = time.monotonic()
        with self._lock:
            for call_id, said in list(self._unheard.items()):
                if said.ref.ready:
                    self._over(call_id)
                elif now > said.first + SAY_SECONDS:
                    del self._unheard[call_id]
            return [said for said in self._unheard.values() if now >= said.last + said.pause]

    def _say_again(self, said: _Said) -> None:
        # A shared worker may have given it back to its line before it heard of this, and nobody has
        # it then. No new mark: if it is over, nobody would remove that.
        if self._withdraw(said.target, said.ref.id, said.error, 0):
            self._forget(said.ref.id)
        else:
            self._say(said)

    def _over(self, call_id: str) -> None:
        """Take note that a call has ended by itself: nobody else removes its mark."""
        if self._forget(call_id):
            self._context.mux.post(pack(("UNLINK", routing.cancelled_key(call_id))))

    def _forget(self, call_id: str) -> bool:
        """Say it no more; False where that was settled already."""
        with self._lock:
            return self._unheard.pop(call_id, None) is not None

    def cancel_all(self, refs: Iterable[ObjectRef[Any]], once: str) -> None:
        """Cancel several calls without waiting for their workers' words."""
        for ref in refs:
            self.cancel(ref, force=False, recursive=True, patience=0.0, once=once)

    def answer(self, channel: str, call_id: str, word: str) -> None:
        """Tell the process that asked what became of the call here."""
        self._tell(channel, word, call_id, {})

    def _tell(self, channel: str, word: str, call_id: str, more: dict[str, Any]) -> None:
        meta = msgspec.json.encode([{"status": word, "task_id": call_id, "ca": more}])
        self._context.store.run("PUBLISH", channel, meta)

    def _on_word(self, meta: Meta) -> None:
        """Take in a word about a cancellation, in the thread that reads."""
        if meta.status != "CANCEL":
            self._hear(meta)
            return
        ref = self._context.results.held(meta.task_id)
        if ref is not None:
            how = msgspec.json.decode(meta.ca)
            threading.Thread(target=self._cancel_for_another, args=(ref, how), daemon=True).start()

    def _hear(self, meta: Meta) -> None:
        """Take in what a worker has done: a call runs, has ended, or never will run."""
        call_id, results = meta.task_id, self._context.results
        said = self._unheard.get(call_id)
        if meta.status == "DROPPED":
            if said is None:
                words = "the call was cancelled before it started"
                results.fail([call_id], TaskCancelledError(words))
            elif not said.ref.ready:
                results.complete(said.ref, None, said.error)
        if meta.status == "FINISHED":
            self._over(call_id)
        self._forget(call_id)
        self._context.mux.wake_followers()

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
