"""The worker's end of a queue: peek, execute, commit. Nothing leaves before its result is stored.

Two flows. Idle: the commit of a lone call travels together with the blocking peek for the next
one. Busy: the commit fetches the next calls in the same script. The script marks how far calls
may have started, so a crash on another node's watch never runs a started call twice.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .config import Address
from .errors import ClusterUnreachableError, FencedError
from .routing import ActorKeys
from .store import Answer, Durable, Scripts, StoreError, Wire
from .store.scripts import flatten
from .store.wire import pack

__all__ = ["PATIENCE_SECONDS", "Batch", "Mailbox", "check_owned"]

#: Seconds a blocking peek lasts before it is sent again; finds half-open connections.
PEEK_SECONDS = 10
#: Seconds a worker tries to reach a lost store; its node has fenced it long before.
PATIENCE_SECONDS = 30.0
#: A broken connection, or a server that has lost its scripts: both are mended by a new connection.
_TRY_AGAIN = (ClusterUnreachableError, StoreError)


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
        peek_seconds: float = PEEK_SECONDS,
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
        self._owed = 0  # replies to such marks that have not been read
        self._wake_fd = wake_fd
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
        # Whoever takes over from us cuts this connection, so that its peek gets no call any more. A
        # store that was rolled back may have forgotten that we serve.
        self._fenced_mark("cid", self._wire.call("CLIENT", "ID"), "st", "alive")
        self._poll = select.poll()
        self._poll.register(self._wire.fileno(), select.POLLIN)
        self._poll.register(self._wake_fd, select.POLLIN)
        self._peeking = False

    def peek(self) -> tuple[list[bytes], bool]:
        """Block until a call waits; return (calls, whether the wake-up descriptor fired).

        Both may be empty: the peek has timed out.
        """
        try:
            if not self._peeking:
                self._wire.send(self._peek)
                self._peeking = True
            self._collect_owed()  # or the poll below would take their replies for a call
            if not self._wire.pending_input():
                events = self._poll.poll()
                if any(fd == self._wake_fd for fd, _ in events) and len(events) == 1:
                    return [], True
            reply = self._read()
            if reply is not None:
                self._mark_begun()
        except _TRY_AGAIN:
            self._reconnect()
            # A call that was on its way to us is in a shared worker's own list now. An actor's is
            # where it was: look again.
            return (self._fetch(Batch(), 64, own_only=True) if self._source else []), False
        self._peeking = False
        return ([] if reply is None else [reply]), False

    def _mark_begun(self) -> None:
        """Tell the store that the peeked call begins."""
        if not self._lease_lasts():
            # This process may have been replaced: it was paused, or its supervisor is.
            self._fenced_mark("go", self.position + 1)
        elif self._mark:
            self._wire.send(pack(("HSET", self._keys.meta, "go", self.position + 1)))
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

    def commit(self, batch: Batch, want: int) -> list[bytes]:
        """Settle the oldest calls, store their answers, fetch up to ``want`` next ones.

        Raises:
            FencedError: another process owns the actor now; nothing was written.
        """
        try:
            return self._fetch(batch, want, own_only=False)
        except _TRY_AGAIN:
            self._reconnect()
            return self._fetch(batch, want, own_only=want == 0)

    def commit_and_peek(self, batch: Batch) -> None:
        """Settle calls and start to wait for the next one, in one write.

        Raises:
            FencedError: another process owns the actor now; nothing was written.
        """
        try:
            self._wire.send(self._pack(batch, 0, self._source) + self._peek)
            self._take(self._read(), len(batch.answers))
            self._peeking = True
        except _TRY_AGAIN:
            self._reconnect()
            self._fetch(batch, 0, own_only=False)

    def _read(self) -> Any:
        self._collect_owed()
        return self._wire.read()

    def _collect_owed(self) -> None:
        while self._owed:
            self._owed -= 1
            self._wire.read()

    def _fetch(self, batch: Batch, want: int, *, own_only: bool) -> list[bytes]:
        source = "" if own_only and self._source else self._source
        self._wire.send(self._pack(batch, want, source))
        return self._take(self._read(), len(batch.answers))

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
        self.position += settled
        self.backlog = reply[2] > 0
        if len(reply) > 3:
            self.freed += reply[3]
        if len(reply) > 4:
            self.replies += reply[4]
        return list(reply[1])

    def park(self) -> None:
        """Move the oldest call out of line: an argument of it is not ready."""
        keys = self._keys
        names = [keys.queue, keys.meta, keys.parked, keys.begun]
        words = (self._epoch, self._owner, self.position, 1, self._ttl, 0)
        self._wire.send(Scripts.pack("take", names, *words))
        check_owned(self._read(), self.position)
        self.position += 1

    def _reconnect(self) -> None:
        self._wire.close()
        give_up = time.monotonic() + PATIENCE_SECONDS
        pause = 0.01
        while True:
            try:
                self._connect(load=True)
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
        FencedError: it does not.
    """
    if reply[0] == -10:
        raise FencedError("another process owns this queue now")
    if reply[0] != 0:
        raise FencedError(
            f"the store's position is {reply[1]}, this process is at {position}: the store was "
            "rolled back"
        )
