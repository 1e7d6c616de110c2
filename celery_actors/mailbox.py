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
from typing import Any, NamedTuple, TypeVar

from .config import Address
from .errors import ClusterUnreachableError, FencedError, StoreRolledBackError
from .routing import ActorKeys
from .store import Answer, Durable, Scripts, StoreError, StoreFullError, Wire
from .store.scripts import flatten
from .store.wire import pack, patiently

T = TypeVar("T")

__all__ = ["OUSTED", "PATIENCE_SECONDS", "Batch", "Mailbox", "check_owned"]

#: Seconds a blocking peek lasts before it is sent again; finds half-open connections.
PEEK_SECONDS = 10
#: Seconds between two looks for a call where the store is full.
FULL_SECONDS = 0.05
#: Seconds between two warnings of a stray consumer.
WARN_SECONDS = 10.0
#: Before a commit with a peek. The server writes first to whom it has put in line last: with an
#: answer due already we stand behind the caller, who is woken a write earlier (3 % of a lone call).
_GREETING = pack(("PING",))
#: How a commit tells that somebody else has taken calls off the queue.
STOLEN = 1
#: Seconds a worker tries to reach a lost store; its node has fenced it long before.
PATIENCE_SECONDS = 30.0
#: A broken connection, or a server that has lost its scripts: both are mended by a new connection.
_TRY_AGAIN = (ClusterUnreachableError, StoreError)
#: What ends a process whose place in the store is not its own any more.
OUSTED = (FencedError, StoreRolledBackError)


class Batch(NamedTuple):
    """What one commit settles: the oldest calls, by their answers.

    ``left`` is what the calls leave (see ``tokens.dropping``); what that frees is in
    ``Mailbox.freed``. ``durable`` is what a durable actor commits with them; the replies of its
    steps are in ``Mailbox.replies``.
    """

    answers: Sequence[Answer] = ()
    left: Sequence[str | int] = ()
    durable: Durable | None = None


class Mailbox:
    """One actor's queue, or a shared worker's list of taken calls fed from a shared queue."""

    def __init__(
        self, address: Address, keys: ActorKeys, *, source: str, epoch: str, owner: str,
        position: int, ttl: int, wake_fd: int, mark: bool, lease_lasts: Callable[[], bool],
        peek_seconds: float = PEEK_SECONDS, only_rings: bool = False,
        on_thief: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._address = address
        self._keys = keys
        self._source = source
        self._epoch, self._owner = epoch, owner
        self.position = position
        self.freed: list[bytes] = []  # records of values that the commits have freed
        self.replies: list[Any] = []  # to what durable actors have sent with their commits
        self.backlog = True  # until the first fetch says otherwise
        self._ttl = ttl
        self._peeking = False
        self._mark = mark  # tell the store when a peeked call begins: what restarts must know
        self._lease_lasts = lease_lasts  # so that nobody can have taken our place
        self._unsure = False  # of what a shared worker's own list has, after a reconnect
        self._patience = max(PATIENCE_SECONDS, address.patience)
        self._only_rings = only_rings  # peeks tell that calls wait; something else takes them
        self._held: deque[bytes] = deque()  # handed out and not settled, oldest first
        self._on_thief = on_thief  # somebody else takes calls off the queue
        self._warn_at = 0.0
        self._me: tuple[str | int, ...] = ()  # this connection, as the server knows it
        self._wake_fd = wake_fd
        self._peek_seconds = peek_seconds
        if source:
            words = ("BLMOVE", source, keys.queue, "RIGHT", "LEFT", peek_seconds)
        else:
            words = ("BLMOVE", keys.queue, keys.queue, "RIGHT", "RIGHT", peek_seconds)
        self._peek = pack(words)
        self._commit_keys = [keys.queue, keys.meta, source]
        try:
            self._connect(load=False)
        except _TRY_AGAIN:
            self._connect_patiently()

    def _connect(self, *, load: bool) -> None:
        self._wire = Wire(self._address)
        if load:
            Scripts.load(self._wire.call)
        if self._me:  # a peek that is still under way on the connection before must get no call
            with contextlib.suppress(StoreError):
                self._wire.call("CLIENT", "KILL", *self._me)
        number = self._wire.call("CLIENT", "ID")
        self._me = ("ID", number, *self._wire.filter_words())
        # Whoever takes over from us cuts this connection, so that its peek gets no call any more.
        # What was to be marked on the connection before may not have been, and a store that was
        # rolled back may have forgotten that we serve.
        begun = ("go", self.position + len(self._held)) if self._held else ()
        self._fenced_mark("cid", number, "st", "alive", *begun)
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
            found = self._fetch(Batch(), 64, own_only=True)
            self._unsure = False
            if found:
                return found, False
        if not self._peeking:
            self._wire.send(self._peek)
            self._peeking = True
        if self._woken():
            return [], True
        try:
            reply = self._wire.read()
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
        return self._fetch(Batch(), 1, own_only=False), False

    def _mark_begun(self) -> None:
        """Tell the store that the peeked call begins, and wait until it knows.

        Where calls could run again, a mark that never arrived would have this one run twice: this
        node may be cut off from here on. Elsewhere this process may have been replaced, where it
        or its supervisor was paused.
        """
        if self._mark or not self._lease_lasts():
            self._fenced_mark("go", self.position + 1)

    def _fenced_mark(self, *pairs: str | int) -> None:
        words = (self._epoch, self._owner, *pairs)
        self._wire.send(Scripts.pack("mark", [self._keys.meta], *words))
        if self._wire.read() != 0:
            raise FencedError

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

    def commit(self, batch: Batch, want: int) -> list[bytes]:
        """Settle the oldest calls, store their answers, fetch up to ``want`` next ones.

        Raises:
            FencedError: another process owns the actor now; nothing was written.
        """
        return self._persist(len(batch.answers), lambda: self._fetch(batch, want, own_only=False))

    def commit_and_peek(self, batch: Batch) -> None:
        """Settle calls and start to wait for the next one, in one write.

        Raises:
            FencedError: another process owns the actor now; nothing was written.
        """
        try:
            self._send(batch, 0, self._source, before=_GREETING, then=self._peek)
            self._wire.read()
            self._take(self._wire.read(), len(batch.answers))
            self._peeking = True
        except _TRY_AGAIN:
            self._reconnect(len(batch.answers))
            self.commit(batch, 0)

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

    def _fetch(self, batch: Batch, want: int, *, own_only: bool) -> list[bytes]:
        source = "" if own_only and self._source else self._source
        self._send(batch, want, source)
        return self._take(self._wire.read(), len(batch.answers))

    def _send(
        self, batch: Batch, want: int, source: str, *, before: bytes = b"", then: bytes = b""
    ) -> None:
        self._wire.send(before + self._pack(batch, want, source) + then)

    def _pack(self, batch: Batch, want: int, source: str) -> bytes:
        answers, durable = batch.answers, batch.durable
        words = (self._epoch, self._owner, self.position, len(answers), want, self._ttl,
                 *flatten(answers), *batch.left)  # fmt: skip
        keys = [*self._commit_keys[:2], source]
        if durable is None:
            return Scripts.pack("commit", keys, *words)
        return Scripts.pack(
            "commit_state", [*keys, "", durable.key], *durable.words("commit"), *words
        )

    def _take(self, reply: Any, settled: int) -> list[bytes]:
        check_owned(reply, self.position)
        if reply[0] == STOLEN:
            self._warn_of_thief()
        self.position += settled
        self.release(settled)
        self._held += reply[1]
        self.backlog = reply[2] > 0
        if len(reply) > 3:
            self.freed += reply[3]
        if len(reply) > 4:
            self.replies += reply[4]
        return list(reply[1])

    def _warn_of_thief(self) -> None:
        now = time.monotonic()
        if now >= self._warn_at:
            self._warn_at = now + WARN_SECONDS
            self._on_thief()

    def park(self) -> None:
        """Move the oldest call out of line: an argument of it is not ready."""
        keys = self._keys
        names = [keys.queue, keys.meta, keys.parked, keys.begun]
        words = (self._epoch, self._owner, self.position, 1, self._ttl, 0)
        command = Scripts.pack("take", names, *words)

        def step_aside() -> Any:
            self._wire.send(command)
            return self._wire.read()

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
        reply = self._wire.read()
        if reply[0] == 0 and reply[1] in (self.position, self.position + settled):
            held = list(islice(self._held, reply[1] - self.position, None))
            if list(reply[2][: len(held)]) == held:
                return
        check_owned(reply if reply[0] else [-11, reply[1]], self.position)

    def _reconnect(self, settled: int) -> None:
        self._wire.close()
        self._connect_patiently(settled)

    def _connect_patiently(self, settled: int = 0) -> None:
        def connect() -> None:
            self._connect(load=True)
            self._check_held(settled)
            self._unsure = bool(self._source)

        patiently(connect, self._patience, _TRY_AGAIN)

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()


def check_owned(reply: list[Any], position: int) -> None:
    """Take in whether the store still knows us as the owner.

    Raises:
        FencedError: it does not. StoreRolledBackError: it has lost what this process had written.
    """
    if reply[0] == -10:
        raise FencedError
    if reply[0] not in (0, STOLEN):
        raise StoreRolledBackError(
            f"the store has lost writes: its position is {reply[1]} and this process is at "
            f"{position}, or the calls there are not those that run here. A failover to a replica "
            "that was behind, or an older copy of its data, does that"
        )
