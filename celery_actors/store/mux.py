"""The one connection on which a process sends its calls and hears its results.

Leader and followers: the thread that waits for a result reads the socket itself and completes
everybody's results on the way; handing each result from a reader thread to the waiting thread
would cost two context switches per call. A background thread reads only while nobody waits.

Commands are pipelined: ``post`` writes and returns, the reply goes to its handler later. After a
broken connection everything whose reply had not arrived is sent again, in order, so only
repeatable commands may be posted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..config import Address
from ..errors import ClusterUnreachableError
from .scripts import Scripts
from .wire import PUSH, StoreError, Wire, pack

__all__ = ["WAITS", "Mux"]

logger = logging.getLogger(__name__)

Handler = Callable[[Any], None]

#: Seconds between two looks of the background thread while replies are outstanding.
_BUSY_TICK = 0.002
#: … and while nothing is.
_IDLE_TICK = 0.25
#: How a server refuses what a new connection will be able to do: it has lost its scripts, or is not
#: the primary any more.
_ELSEWHERE = ("NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN")
_PING = pack(("PING",))


class Mux:
    """A pipelined connection with server pushes, shared by every thread of a process."""

    def __init__(
        self,
        address: Address,
        channels: list[str],
        on_push: Callable[[bytes, bytes], None],
        on_reconnect: Callable[[], None],
        on_tick: Callable[[], None],
    ) -> None:
        self.address = address
        self._channels = set(channels)
        self._on_push = on_push
        self._on_reconnect = on_reconnect
        self._on_tick = on_tick
        self._lead = threading.Lock()
        self._send_lock = threading.RLock()
        self.followers: deque[threading.Lock] = deque()
        self._waiting = 0
        self.pending: deque[tuple[bytes, Handler | None]] = deque()
        self._posted = self._answered = 0
        self.closed = False
        self._attention = 0  # callbacks and awaits: nobody leads, yet results must be prompt
        self._count_lock = threading.Lock()
        self._kick = threading.Event()
        self._wire = self._connect(load=False)
        self._thread = threading.Thread(target=self._background, name="ca-mux", daemon=True)
        self._thread.start()

    # -- writing ---------------------------------------------------------------------------

    def post(self, command: bytes, handler: Handler | None = None) -> None:
        """Send a repeatable command; ``handler`` gets the reply, from whichever thread reads."""
        with self._send_lock:
            self.pending.append((command, handler))
            self._posted += 1
            self._send_now(command)

    def _send_now(self, command: bytes) -> None:
        try:
            self._wire.post(command)
        except ClusterUnreachableError:
            self._wire.abort()  # the reader notices, reconnects and sends it again

    def settle(self) -> None:
        """Wait until everything posted so far has been answered."""
        if self.pending:
            posted = self._posted
            self.wait(lambda: self._answered >= posted, None)

    def subscribe(self, channel: str) -> None:
        """Hear a channel from now on, also after a reconnect."""
        with self._send_lock:
            self._channels.add(channel)
            self._send_now(pack(("SUBSCRIBE", channel)))

    def unsubscribe(self, channel: str) -> None:
        """Stop hearing a channel."""
        with self._send_lock:
            self._channels.discard(channel)
            self._send_now(pack(("UNSUBSCRIBE", channel)))

    # -- reading ---------------------------------------------------------------------------

    def wait(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Block until ``done()`` or the deadline (``time.monotonic``); return ``done()``.

        Raises:
            ClusterUnreachableError: the store is gone and does not come back.
        """
        mine: threading.Lock | None = None
        while not done():
            if self.closed:
                raise ClusterUnreachableError(
                    "celery_actors was shut down while this call waited for a result"
                )
            remaining = 1.0 if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                return self._glance() and done()
            with self._count_lock:  # a lost update would keep the background thread from reading
                self._waiting += 1
            try:
                if self._lead.acquire(blocking=False):
                    try:
                        self._pump_until(done, deadline)
                    finally:
                        self._lead.release()
                        if self.followers:
                            self._promote()
                else:
                    if mine is None:
                        mine = threading.Lock()
                        mine.acquire()
                    self.followers.append(mine)
                    self.follow(mine, remaining)
            finally:
                with self._count_lock:
                    self._waiting -= 1
        return True

    @staticmethod
    def follow(mine: threading.Lock, remaining: float) -> None:
        """Wait for whoever leads; not for long: that one may have finished between two looks."""
        mine.acquire(timeout=min(remaining, 0.05))

    def attend(self, change: int) -> None:
        """Count who waits without a thread of its own: +1 for a new callback, -1 when done."""
        with self._count_lock:
            self._attention += change

    def _glance(self) -> bool:
        """Take in what has arrived already; True if this thread or another one looked."""
        if self._lead.acquire(blocking=False):
            try:
                while self._pump(0):
                    pass
            finally:
                self._lead.release()
                self._promote()
        return True

    def wake_followers(self) -> None:
        """Let every waiting thread look again: a result that one of them waits for is there."""
        while self.followers:
            self._promote()

    def _promote(self) -> None:
        try:
            follower = self.followers.popleft()
        except IndexError:
            return
        if follower.locked():
            try:
                follower.release()
            except RuntimeError:
                return  # it woke by its timeout in this instant

    def _pump_until(self, done: Callable[[], bool], deadline: float | None) -> None:
        next_tick = time.monotonic() + 1.0
        while not done() and not self.closed:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return
            if now >= next_tick:
                next_tick = now + 1.0
                self._on_tick()
                self._mind_silence()
            limit = 1.0 if deadline is None else min(1.0, deadline - now)
            self._pump(limit)

    def _pump(self, timeout: float) -> bool:
        """Read once and dispatch; only the leader calls this."""
        try:
            replies = self._wire.receive(timeout)
        except ClusterUnreachableError:
            if self.closed:
                return False
            self._reconnect()
            return True
        except BaseException:
            self._wire.abort()  # Ctrl-C, or the call is stopped: half a reply may have been read
            raise
        try:
            return self._dispatch(replies)
        except BaseException:
            # Ctrl-C between two replies: which were handled is not known. A new connection gets
            # every answer again.
            self._wire.abort()
            raise

    def _dispatch(self, replies: list[Any]) -> bool:
        for reply in replies:
            if isinstance(reply, PUSH):
                if reply[0] == b"message":
                    self._on_push(reply[1], reply[2])
                continue
            if not self.pending:
                continue
            if isinstance(reply, Exception) and str(reply).startswith(_ELSEWHERE):
                self._reconnect()  # with its scripts; then everything is sent again
                return True
            _command, handler = self.pending.popleft()
            self._answered += 1
            if handler is not None:
                handler(reply)
            elif isinstance(reply, Exception):
                logger.warning("the store refused a command: %s", reply)
        return bool(replies)

    def kick(self) -> None:
        """Make the background thread look now."""
        self._kick.set()

    def _background(self) -> None:
        while not self.closed:
            busy = bool(self.pending) or self._attention > 0
            if not busy:
                self._kick.wait(_IDLE_TICK)
                self._kick.clear()
            try:
                self._background_turn(busy)
            except ClusterUnreachableError as error:
                if self.closed:
                    return
                logger.warning("%s; trying again", error)
                self._kick.wait(0.5)

    def _background_turn(self, busy: bool) -> None:
        if self._waiting == 0 and self._lead.acquire(blocking=False):
            try:
                if self._attention > 0:
                    # Nobody reads but us: block in the socket, a moment at a time, so that a
                    # thread that starts to wait can take over.
                    self._pump(_BUSY_TICK * 5)
                else:
                    while self._waiting == 0 and self._pump(0):
                        pass
            finally:
                self._lead.release()
                self._promote()
        self._on_tick()
        self._mind_silence()
        if busy and self._attention == 0:
            time.sleep(_BUSY_TICK)

    # -- connection ------------------------------------------------------------------------

    def _mind_silence(self) -> None:
        """Give up a connection that hangs, where sentinels may name another primary."""
        silence = self._wire.silence
        if silence is None:
            return
        quiet = time.monotonic() - self._wire.heard
        if self.pending and quiet > silence:
            self._wire.abort()
        elif not self.pending and quiet > silence / 2:
            self.post(_PING)

    def _connect(self, *, load: bool) -> Wire:
        wire = Wire(self.address)
        if load:
            Scripts.load(wire.call)
        if self._channels:
            wire.send(pack(("SUBSCRIBE", *sorted(self._channels))))
        return wire

    def _reconnect(self) -> None:
        """Connect again and send everything unanswered again; try as long as the address says."""
        self._wire.close()
        give_up = time.monotonic() + self.address.patience
        pause = 0.01
        while True:
            try:
                wire = self._connect(load=True)
                break
            except (ClusterUnreachableError, StoreError):
                if self.closed or time.monotonic() > give_up:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 0.5)
        with self._send_lock:
            self._wire = wire
            for command, _handler in self.pending:
                self._send_now(command)  # broken again: whoever reads notices, and tries anew
        self._on_reconnect()

    def close(self) -> None:
        """Close the connection and end the background thread."""
        self.closed = True
        self._kick.set()
        self._wire.abort()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)
        self._wire.close()
        self.wake_followers()


#: Where a process waits for news: a call that is stopped may be interrupted there.
WAITS = frozenset({Mux.follow.__code__, Wire.fill.__code__, Wire.wait.__code__})
