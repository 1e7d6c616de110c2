"""The loop of an actor: its calls in order, those with an unready argument set aside."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from . import routing
from .errors import DeadLetterError, FencedError, UntrustedPayloadError
from .executor import Executor, Prepared
from .loop import NEVER_RUNS, Host, Loop
from .mailbox import Mailbox
from .messages import Message
from .runtime import Runtime
from .store import Answer

__all__ = ["ActorLoop", "Aside"]

#: Calls fetched ahead of execution.
READ_AHEAD = 128
#: Calls whose ids an actor remembers, to refuse copies of their messages.
SEEN_CALLS = 4096


class Aside:
    """The calls of one actor that stepped out of line, as the store knows them."""

    def __init__(self, runtime: Runtime, keys: routing.ActorKeys, epoch: str, owner: str) -> None:
        self._runtime = runtime
        self._keys = keys
        self._epoch, self._owner = epoch, owner

    def start(self, position: int) -> None:
        """Note that the call begins, so that a crash knows it may have taken effect."""
        words: dict[str, bytes | str | int | float] = {"parked_go": position}
        scripts = self._runtime.store.scripts
        if not scripts.mark(self._keys.meta, self._epoch, self._owner, words):
            raise FencedError("another process owns this actor now")

    def settle(self, position: int, answer: Answer) -> None:
        """Store the call's result and forget the call, in one step."""
        if not self._runtime.store.scripts.settle_parked(
            self._keys.meta, self._keys.parked, self._epoch, self._owner, position,
            self._runtime.result_seconds, answer,
        ):  # fmt: skip
            raise FencedError("another process owns this actor now")


class ActorLoop(Loop):
    """Runs one actor's calls, oldest first; a call with an unready argument steps aside."""

    def __init__(
        self,
        runtime: Runtime,
        mailbox: Mailbox,
        executor: Executor,
        host: Host,
        find: Callable[[str], tuple[Callable[..., Any], str] | None],
        aside: Aside,
        wake: Callable[[], None],
    ) -> None:
        super().__init__(runtime, mailbox, executor, host)
        self._find = find
        self._aside = aside
        self._wake = wake
        self._parked: dict[str, deque[tuple[int, Prepared]]] = {}  # by caller
        self._signed: dict[str, int] = {}  # caller -> its last call with signed arguments
        self._seen: dict[str, None] = {}  # ids of recent calls, oldest first
        executor.on_accepted = self._accepted

    def _want(self) -> int:
        return READ_AHEAD

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
                f"call {tag.sequence} of {tag.caller} to this actor has run already: somebody put "
                "a copy of its message on the queue"
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

    def _woken(self) -> None:
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
        self._aside.start(position)
        self._host.begin(prepared, label)
        begun = time.monotonic()
        outcome = self._run(prepared, function, label)
        self._host.end(prepared, outcome, time.monotonic() - begun)
        self._runtime.calls.settle()
        self._aside.settle(position, outcome.answer)
        if outcome.garbage:
            self._runtime.buffers.free(outcome.garbage)


def _gone(prepared: Prepared) -> NoReturn:
    raise DeadLetterError(f"{prepared.message.task} was a method when it was set aside")
