"""The worker's end of a queue: peek, execute, commit. Nothing leaves before its result is stored.

Two flows. Idle: the commit of a lone call travels together with the blocking peek for the next
one. Busy: the commit fetches the next calls in the same script. The script marks how far calls
may have started, so a crash on another node's watch never runs a started call twice.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

from .config import Address
from .errors import ClusterUnreachableError, FencedError, StoreRolledBackError
from .routing import ActorKeys
from .store import Answer, Scripts, StoreError, StoreFullError, Wire
from .store.scripts import flatten
from .store.wire import pack

T = TypeVar("T")

__all__ = ["FRESH_SECONDS", "OUSTED", "PATIENCE_SECONDS", "Mailbox", "check_owned"]

#: Seconds a blocking peek lasts before it is sent again; finds half-open connections.
PEEK_SECONDS = 10
#: Seconds after which the answer to a peek is not taken for fresh. Half of what a node's lease
#: lasts without renewal; in a busy actor answers are microseconds old.
FRESH_SECONDS = 1.0
#: Seconds between two looks for a call where the store is full.
FULL_SECONDS = 0.05
#: Seconds a worker tries to reach a lost store; its node has fenced it long before.
PATIENCE_SECONDS = 30.0
#: A broken connection, or a server that has lost its scripts: both are mended by a new connection.
_TRY_AGAIN = (ClusterUnreachableError, StoreError)
#: What ends a process whose place in the store is not its own any more.
OUSTED = (FencedError, StoreRolledBackError)


class Mailbox:
    """One actor's queue, or a shared worker's list of taken calls fed from a shared queue."""

    def __init__(
        self, address: Address, keys: ActorKeys, *, source: str, epoch: str, owner: str,
        position: int, ttl: int, wake_fd: int, mark: bool, peek_seconds: float = PEEK_SECONDS,
        only_rings: bool = False,
    ) -> None:  # fmt: skip
        self._address = address
        self._keys = keys
        self._source = source
        self._epoch, self._owner = epoch, owner
        self.position = position
        self.freed: list[bytes] = []  # records of values that the commits have freed
        self.backlog = True  # until the first fetch says otherwise
        self._ttl = ttl
        self._peeking = False
        self._mark = mark  # tell the store when a peeked call begins: what restarts must know
        self._asked = 0.0  # when the running peek was sent
        self._owed = 0  # replies to such marks that have not been read
        self._unsure = False  # of what a shared worker's own list has, after a reconnect
        self._patience = max(PATIENCE_SECONDS, address.patience)
        self._only_rings = only_rings  # peeks tell that calls wait; something else takes them
        self._held: deque[bytes] = deque()  # handed out and not settled, oldest first
        self._me: tuple[str | int, ...] = ()  # this connection, as the server knows it
        self._wake_fd = wake_fd
        self._peek_seconds = peek_seconds
        if source:
            words = ("BLMOVE", source, keys.queue, "RIGHT", "LEFT", peek_seconds)
        else:
            words = ("BLMOVE", keys.queue, keys.queue, "RIGHT", "RIGHT", peek_seconds)
        self._peek = pack(words)
        self._commit_keys = [keys.queue, keys.meta, source]
        self._connect(load=False)

    def _connect(self, *, load: bool) -> None:
        self._wire = Wire(self._address)
        self._owed = 0
        if load:
            Scripts.load(self._wire.call)
        if self._me:  # a peek that is still under way on the connection before must get no call
            with contextlib.suppress(StoreError):
                self._wire.call("CLIENT", "KILL", *self._me)
        number = self._wire.call("CLIENT", "ID")
        self._me = ("ID", number, *self._wire.filter_words())
        # Whoever takes over from us cuts this connection, so that its peek gets no call any more.
        # What was to be marked on the connection before may not have been.
        begun = ("go", self.position + len(self._held)) if self._held else ()
        self._fenced_mark("cid", number, *begun)
        self._poll = select.poll()
        self._poll.register(self._wire.fileno(), select.POLLIN)
        self._poll.register(self._wake_fd, select.POLLIN)
        silence = self._wire.silence
        self._patience_ms = None if silence is None else 1000 * (self._peek_seconds + silence)
        self._peeking = False

    def peek(self) -> tuple[list[bytes], bool]:
        """Block until a call waits; return (calls, whether the wake-up descriptor fired).

        Both may be empty: the peek has timed out.
        """
        return self._persist(0, self._peek_once)

    def _peek_once(self) -> tuple[list[bytes], bool]:
        if self._unsure:  # a call may have come with a reply that was lost: before all others
            found = self._fetch([], 64, own_only=True)
            self._unsure = False
            if found:
                return found, False
        if not self._peeking:
            self._wire.send(self._peek)
            self._peeking = True
            self._asked = time.monotonic()
        self._collect_owed()  # or the poll below would take their replies for a call
        if self._woken():
            return [], True
        try:
            reply = self._read()
        except StoreFullError:
            return self._peek_when_full()
        if reply is not None:
            self._mark_begun()
        self._peeking = False
        if reply is None:
            return [], False
        if not self._only_rings:
            self._held.append(reply)
        return [reply], False

    def _woken(self) -> bool:
        """Wait for a call or for the wake-up descriptor; tell whether it was that alone."""
        if self._wire.pending_input():
            return False
        events = self._poll.poll(self._patience_ms)
        if not events:
            raise self._wire.overdue()
        return len(events) == 1 and events[0][0] == self._wake_fd

    def _peek_when_full(self) -> tuple[list[bytes], bool]:
        """Look for a call now and then: a server that is full lets nobody wait for one.

        It must be worked off all the same, or it would stay full.
        """
        self._peeking = False
        waker = select.poll()
        waker.register(self._wake_fd, select.POLLIN)
        if waker.poll(1000 * FULL_SECONDS):
            return [], True
        if self._only_rings:
            return ([b""] if self._wire.call("LLEN", self._keys.queue) else []), False
        return self._fetch([], 1, own_only=False), False

    def _mark_begun(self) -> None:
        """Tell the store that the peeked call begins."""
        if time.monotonic() - self._asked > FRESH_SECONDS:
            # This process may have been paused and replaced while the answer lay in its socket.
            self._fenced_mark("go", self.position + 1)
        elif self._mark:
            words = (self._epoch, self._owner, "go", self.position + 1)
            self._wire.send(Scripts.pack("mark", [self._keys.meta], *words))
            self._owed = 1

    def _fenced_mark(self, *pairs: str | int) -> None:
        words = (self._epoch, self._owner, *pairs)
        self._wire.send(Scripts.pack("mark", [self._keys.meta], *words))
        if self._read() != 0:
            raise FencedError("another process owns this queue now")

    def sleep(self) -> None:
        """Block until the wake-up descriptor fires; calls are not looked at."""
        waker = select.poll()
        waker.register(self._wake_fd, select.POLLIN)
        waker.poll()

    @property
    def queue(self) -> str:
        """The Celery queue that calls come from."""
        return self._source or self._keys.queue

    @property
    def peeking(self) -> bool:
        """True while a blocking peek occupies the connection."""
        return self._peeking

    def commit(
        self, answers: Sequence[Answer], want: int, left: Sequence[str | int] = ()
    ) -> list[bytes]:
        """Settle the oldest calls, store their answers, fetch up to ``want`` next ones.

        ``left``: what the calls leave (see ``tokens.dropping``); what that frees is in ``freed``.

        Raises:
            FencedError: another process owns the actor now; nothing was written.
        """
        return self._persist(
            len(answers), lambda: self._fetch(answers, want, own_only=False, left=left)
        )

    def commit_and_peek(self, answers: Sequence[Answer], left: Sequence[str | int] = ()) -> None:
        """Settle calls and start to wait for the next one, in one write.

        Raises:
            FencedError: another process owns the actor now; nothing was written.
        """
        try:
            self._wire.send(self._pack(answers, 0, self._source, left) + self._peek)
            self._asked = time.monotonic()
            self._take(self._read(), len(answers))
            self._peeking = True
        except _TRY_AGAIN:
            self._reconnect(len(answers))
            self.commit(answers, 0, left)

    def _persist(self, settled: int, step: Callable[[], T]) -> T:
        """Take a step, and again on a new connection where that broke: each may be repeated.

        ``settled``: how many calls it settles.
        """
        give_up = 0.0
        while True:
            try:
                return step()
            except _TRY_AGAIN:
                now = time.monotonic()
                if give_up and now > give_up:
                    raise
                time.sleep(0.02 if give_up else 0.0)
                give_up = give_up or now + self._patience
                self._reconnect(settled)

    def _read(self) -> Any:
        self._collect_owed()
        return self._wire.read()

    def _collect_owed(self) -> None:
        while self._owed:
            self._owed -= 1
            if self._wire.read() != 0:
                raise FencedError("another process owns this queue now")

    def _fetch(
        self, answers: Sequence[Answer], want: int, *, own_only: bool,
        left: Sequence[str | int] = (),
    ) -> list[bytes]:  # fmt: skip
        source = "" if own_only and self._source else self._source
        self._wire.send(self._pack(answers, want, source, left))
        return self._take(self._read(), len(answers))

    def _pack(
        self, answers: Sequence[Answer], want: int, source: str, left: Sequence[str | int]
    ) -> bytes:
        words = (self._epoch, self._owner, self.position, len(answers), want, self._ttl)
        keys = [*self._commit_keys[:2], source]
        return Scripts.pack("commit", keys, *words, *flatten(answers), *left)

    def _take(self, reply: Any, settled: int) -> list[bytes]:
        check_owned(reply, self.position)
        self.position += settled
        self.release(settled)
        self._held += reply[1]
        self.backlog = reply[2] > 0
        if len(reply) > 3:
            self.freed += reply[3]
        return list(reply[1])

    def park(self) -> None:
        """Move the oldest call out of line: an argument of it is not ready."""
        keys = self._keys
        names = [keys.queue, keys.meta, keys.parked, keys.begun]
        words = (self._epoch, self._owner, self.position, 1, self._ttl, 0)
        command = Scripts.pack("take", names, *words)

        def step_aside() -> Any:
            self._wire.send(command)
            return self._read()

        check_owned(self._persist(1, step_aside), self.position)
        self.position += 1
        self.release(1)

    def release(self, oldest: int = 0, *, keep: int | None = None) -> None:
        """Note that calls are not held any more: the ``oldest``, or all but the oldest ``keep``."""
        for _ in range(oldest):
            self._held.popleft()
        while keep is not None and len(self._held) > keep:
            self._held.pop()

    def _check_held(self, settled: int) -> None:
        """See to it that what this process holds is what the store has at the front.

        ``settled`` of it may be gone: the reply to their commit was lost. The position alone does
        not tell: where the store has lost a call that runs here, another may have its place.

        Raises:
            StoreRolledBackError: the store has lost writes.
        """
        if self._only_rings:
            return
        words = (self._epoch, self._owner, len(self._held))
        self._wire.send(Scripts.pack("held", self._commit_keys[:2], *words))
        reply = self._read()
        if reply[0] == 0 and reply[1] in (self.position, self.position + settled):
            held = list(islice(self._held, reply[1] - self.position, None))
            if list(reply[2][: len(held)]) == held:
                return
        check_owned(reply if reply[0] else [-11, reply[1]], self.position)

    def _reconnect(self, settled: int) -> None:
        self._wire.close()
        give_up = time.monotonic() + self._patience
        pause = 0.01
        while True:
            try:
                self._connect(load=True)
                self._check_held(settled)
                self._unsure = bool(self._source)
                return
            except (ClusterUnreachableError, StoreError):
                if time.monotonic() > give_up:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 0.5)

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()


def check_owned(reply: list[Any], position: int) -> None:
    """Take in whether the store still knows us as the owner.

    Raises:
        FencedError: it does not. StoreRolledBackError: it has lost what this process had written.
    """
    if reply[0] == -10:
        raise FencedError("another process owns this queue now")
    if reply[0] != 0:
        raise StoreRolledBackError(
            f"the store has lost writes: its position is {reply[1]} and this process is at "
            f"{position}, or the calls there are not those that run here. A failover to a replica "
            "that was behind, or an older copy of its data, does that"
        )
