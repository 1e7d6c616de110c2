"""One raw connection to the store: packed commands out, decoded replies in.

redis-py makes the connection (sockets, TLS, authentication); reading and writing happen on the
socket itself, because on the call path its per-command bookkeeping costs more than the call.
"""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import hiredis
import redis
import redis.utils

from ..config import Address
from ..errors import (
    ClusterUnreachableError,
    RayError,
    StoreError,
    StoreFullError,
)
from .connections import SILENCE_SECONDS, close_sentinels, make_pool, silence_of
from .prefix import prefix_of
from .tls import TlsSocket

__all__ = [
    "PUSH",
    "StoreError",
    "StoreFullError",
    "StoreUnreachableError",
    "Wire",
    "connect_error",
    "pack",
    "patiently",
]

T = TypeVar("T")

PUSH = hiredis.PushNotification

#: Seconds that `post` waits for a server that does not read what is written.
POST_SECONDS = 0.1
#: Seconds between two looks for room for what is left of it.
_UNSENT_SECONDS = 1.0
_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)
#: At least a whole TLS record, of 16 KB: what is left of one would not make the socket readable.
_BUFFER = 64 * 1024


def pack(words: tuple[Any, ...]) -> bytes:
    """Return one command in the store's protocol; words are bytes, str, int or float."""
    packed: bytes = hiredis.pack_command(words)
    return packed


class StoreUnreachableError(ClusterUnreachableError):
    """Raised when the connection to the store broke or could not be made."""


def connect_error(address: Address, error: BaseException) -> StoreUnreachableError:
    """Return the error for a store that does not answer, without its password."""
    if isinstance(error, redis.AuthenticationError):
        return StoreUnreachableError(
            f"the store at {address.public} refuses the user or the password of this address, or "
            "asks for one: write redis://user:password@host, or redis://:password@host"
        )
    if isinstance(error, redis.InvalidResponse):
        return StoreUnreachableError(
            f"what answers at {address.public} is no Redis or Valkey ({error}): is the port right, "
            "and is it rediss:// where the server wants TLS?"
        )
    return StoreUnreachableError(
        f"the store at {address.public} does not answer ({type(error).__name__}: {error}). "
        "Is the server running, and is the address right?"
    )


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def remember_library_version() -> None:
    """Look redis-py's version up once in this process.

    It reads its package metadata for every connection, 3 ms each, and a Celery worker makes five.
    """
    redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)


def patiently(
    step: Callable[[], T], seconds: float,
    errors: tuple[type[RayError], ...] = (ClusterUnreachableError,),
) -> T:  # fmt: skip
    """Return what a step returns; try it again for some seconds while the store is away.

    Raises:
        ClusterUnreachableError: it does not come back, or another one of ``errors``.
    """
    give_up = time.monotonic() + seconds
    pause = 0.01
    while True:
        try:
            return step()
        except errors:
            if time.monotonic() >= give_up:
                raise
            time.sleep(pause)
            pause = min(pause * 2, 0.5)


class Wire:
    """A connection that one reader and any number of writers share."""

    def __init__(self, address: Address) -> None:
        pool = make_pool(address, protocol=3, socket_timeout=SILENCE_SECONDS)
        connection: Any = pool.make_connection()  # redis-py types it as an interface
        self._connection = connection
        self.address = address
        self._prefix = prefix_of(address.prefix)
        try:
            connection.connect()
        except (redis.RedisError, OSError) as error:
            raise connect_error(address, error) from None
        finally:
            close_sentinels(pool)
        self._refuse_replica()
        #: Seconds after which an answer that is due comes no more; None: it may take any time.
        self.silence = silence_of(address)
        self.heard = time.monotonic()  # when something came last, where that is counted
        sock = connection._sock  # noqa: SLF001 - see the module's docstring
        self.sock: socket.socket | TlsSocket
        encrypted = isinstance(sock, ssl.SSLSocket)
        self._polls = encrypted or self.silence is not None  # before each read, or it would block
        if encrypted:
            self.sock = TlsSocket(sock)
        else:
            self.sock = sock
            sock.settimeout(None)
        self._reader = hiredis.Reader()
        self._buffer: Any = bytearray(_BUFFER)  # hiredis reads any buffer; its types say bytes
        self._ready: deque[Any] = deque()
        self._write_lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(self.sock, select.POLLIN)
        self._aborted = False
        self._room = select.poll()
        self._room.register(self.sock, select.POLLOUT)
        self._unsent: deque[memoryview] = deque()  # what `post` could not write yet

    def _refuse_replica(self) -> None:
        """See to it that what is written here counts.

        Raises:
            StoreUnreachableError: the server is a replica: after a failover, or by its address.
        """
        said = self._connection.handshake_metadata or {}
        if said.get(b"role", said.get("role")) in (b"replica", b"slave", "replica", "slave"):
            self._connection.disconnect()
            raise connect_error(self.address, OSError("it is a replica, which accepts no writes"))

    def send(self, data: bytes) -> None:
        """Write packed commands.

        Raises:
            StoreUnreachableError: the connection is broken.
        """
        if self._prefix is not None:
            data = self._prefix.packed(data)
        try:
            with self._write_lock:
                self.sock.sendall(data)
        except OSError as error:
            raise connect_error(self.address, error) from None

    def post(self, data: bytes) -> None:
        """Write packed commands; what a server that stands still does not take goes out later.

        That is when somebody reads here. Not to be mixed with ``send``.

        Raises:
            StoreUnreachableError: the connection is broken.
        """
        if self._prefix is not None:
            data = self._prefix.packed(data)
        try:
            with self._write_lock:
                patience = 0.0 if self._unsent else POST_SECONDS
                self._unsent.append(memoryview(data))
                self._push(patience)
        except OSError as error:
            raise connect_error(self.address, error) from None

    def _push(self, patience: float) -> None:
        """Write what is left, as far as there is room within ``patience`` seconds for each part."""
        while self._unsent:
            head = self._unsent[0]
            try:
                sent = self.sock.send(head, _AT_ONCE)
            except BlockingIOError:
                if not patience or not self._room.poll(patience * 1000):
                    return
                continue
            if sent < len(head):
                self._unsent[0] = head[sent:]
            else:
                self._unsent.popleft()

    def _push_and_poll(self, limit: float) -> bool:
        """Write what is left, as there is room; tell whether something can be read."""
        with self._write_lock:
            self._push(0.0)
        events = select.POLLIN | (select.POLLOUT if self._unsent else 0)
        self._poll.modify(self.sock, events)
        try:
            found = self._poll.poll(limit * 1000)
        finally:
            self._poll.modify(self.sock, select.POLLIN)
        return any(event & ~select.POLLOUT for _, event in found)

    def filter_words(self) -> tuple[str, ...]:
        """Return how `CLIENT KILL` tells this connection from one of another server."""
        place = self.sock.getsockname()
        return ("ADDR", _place(*place[:2])) if isinstance(place, tuple) else ()

    def fileno(self) -> int:
        """Return the socket's descriptor, for a poll with others."""
        return self.sock.fileno()

    def receive(self, timeout: float | None = None) -> list[Any]:
        """Return what has arrived: at least one reply, or nothing after ``timeout`` seconds.

        Raises:
            StoreUnreachableError: the connection is broken.
        """
        replies = [*self._ready]
        self._ready.clear()
        while True:
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
            if (replies and not self._aborted) or not self.fill(timeout):
                return replies if self._prefix is None else self._prefix.heard(replies)

    def fill(self, timeout: float | None) -> bool:
        """Read what has arrived; False where nothing did within ``timeout`` seconds.

        Raises:
            StoreUnreachableError: the connection is broken, or silent for too long.
        """
        try:
            if self._aborted:
                # Replies may still lie in the socket, behind others that were taken and lost.
                raise ConnectionAbortedError("broken by this process")
            while True:
                if (timeout is not None or self._polls) and not self.wait(timeout):
                    return False
                try:
                    size = self.sock.recv_into(self._buffer)
                    break
                except BlockingIOError:
                    continue  # a TLS record that is not complete, or carries no data
        except StoreUnreachableError:
            raise  # an OSError, too
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                raise  # not the kernel's: a call is stopped here, or a signal's handler raised
            raise connect_error(self.address, error) from None
        if self.silence is not None:
            self.heard = time.monotonic()
        if size == 0:
            raise connect_error(self.address, ConnectionResetError("closed by the server"))
        self._reader.feed(self._buffer, 0, size)
        return True

    def wait(self, timeout: float | None) -> bool:
        """Wait until something can be read; False: nothing could within ``timeout`` seconds.

        Raises:
            StoreUnreachableError: it should have been, long ago.
        """
        limit = self.silence if timeout is None else timeout
        if self._unsent:
            return self._push_and_poll(_UNSENT_SECONDS if limit is None else limit)
        ready = self._poll.poll(None if limit is None else limit * 1000)
        if not ready and timeout is None:
            raise self.overdue()
        return bool(ready)

    def overdue(self) -> StoreUnreachableError:
        """Return the error for an answer that has not come in time."""
        return connect_error(self.address, TimeoutError("it has been silent for too long"))

    def read(self) -> Any:
        """Return the next reply; pushed messages in between are skipped.

        Raises:
            StoreError: the store refused the command. StoreUnreachableError: the connection broke.
        """
        while True:
            reply = self._ready.popleft() if self._ready else self._reader.gets()
            if reply is False:
                self.fill(None)
                continue
            if isinstance(reply, PUSH):
                continue
            if isinstance(reply, hiredis.ReplyError):
                kind = StoreFullError if str(reply).startswith("OOM") else StoreError
                raise kind(str(reply))
            return reply

    def pending_input(self) -> bool:
        """Tell whether a reply has been received and not yet read."""
        if not self._ready and (reply := self._reader.gets()) is not False:
            self._ready.append(reply)
        return bool(self._ready)

    def call(self, *command: bytes | str | int | float) -> Any:
        """Send one command and return its reply."""
        self.send(pack(command))
        return self.read()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)  # ours first: see TlsSocket
        self._connection.disconnect()

    def abort(self) -> None:
        """Break the connection from another thread, so that a blocked reader returns."""
        self._aborted = True
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed already: nothing left to break
