"""One raw connection to the store: packed commands out, decoded replies in.

redis-py makes the connection (sockets, TLS, authentication); reading and writing happen on the
socket itself, because on the call path its per-command bookkeeping costs more than the call.
"""

from __future__ import annotations

import functools
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

import hiredis
import redis
import redis.utils

from ..config import Address
from ..errors import ClusterUnreachableError, RayError, TaskTimeoutError

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

#: Seconds to wait for a connection; a wrong address must fail within seconds.
CONNECT_TIMEOUT = 3.0
_BUFFER = 64 * 1024


def pack(words: tuple[Any, ...]) -> bytes:
    """Return one command in the store's protocol; words are bytes, str, int or float."""
    return cast("bytes", hiredis.pack_command(words))


class StoreUnreachableError(ClusterUnreachableError):
    """Raised when the connection to the store broke or could not be made."""


class StoreError(RayError):
    """Raised when the store refuses a command."""


class StoreFullError(StoreError):
    """Raised when the store refuses a command for want of memory."""


def connect_error(address: Address, error: BaseException) -> StoreUnreachableError:
    """Return the error for a store that does not answer, without its password."""
    return StoreUnreachableError(
        f"the store at {address.public} does not answer ({type(error).__name__}: {error}). "
        "Is the server running, and is the address right?"
    )


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
        pool = redis.ConnectionPool.from_url(
            address.url,
            protocol=3,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=None,
            driver_info=None,  # spares two round trips
        )
        connection: Any = pool.make_connection()  # redis-py types it as an interface
        self._connection = connection
        try:
            connection.connect()
        except (redis.RedisError, OSError) as error:
            raise connect_error(address, error) from None
        self.address = address
        self.sock: socket.socket = connection._sock  # noqa: SLF001 - see the module's docstring
        self.sock.settimeout(None)
        self._reader = hiredis.Reader()
        self._buffer: Any = bytearray(_BUFFER)  # hiredis reads any buffer; its types say bytes
        self._ready: deque[Any] = deque()
        self._write_lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(self.sock, select.POLLIN)
        self._aborted = False

    def send(self, data: bytes) -> None:
        """Write packed commands.

        Raises:
            StoreUnreachableError: the connection is broken.
        """
        try:
            with self._write_lock:
                self.sock.sendall(data)
        except OSError as error:
            raise connect_error(self.address, error) from None

    def fileno(self) -> int:
        """Return the socket's descriptor, for a poll with others."""
        return self.sock.fileno()

    def receive(self, timeout: float | None = None) -> list[Any]:
        """Return what has arrived: at least one reply, or nothing after ``timeout`` seconds.

        Raises:
            StoreUnreachableError: the connection is broken.
        """
        ready = self._ready
        if ready and not self._aborted:
            self._ready = deque()
            return list(ready)
        replies: list[Any] = []
        while not replies:
            if not self.fill(timeout):
                break
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
        return replies

    def fill(self, timeout: float | None) -> bool:
        """Read what has arrived; False where nothing did within ``timeout`` seconds."""
        try:
            if self._aborted:
                # Replies may still lie in the socket, behind others that were taken and lost.
                raise ConnectionAbortedError("broken by this process")
            if timeout is not None and not self._poll.poll(timeout * 1000):
                return False
            size = self.sock.recv_into(self._buffer)
        except TaskTimeoutError:
            raise  # a call is stopped in its wait; like every TimeoutError this is an OSError
        except OSError as error:
            raise connect_error(self.address, error) from None
        if size == 0:
            raise connect_error(self.address, ConnectionResetError("closed by the server"))
        self._reader.feed(self._buffer, 0, size)
        return True

    def read(self) -> Any:
        """Return the next reply; pushed messages in between are skipped.

        Raises:
            StoreError: the store refused the command. StoreUnreachableError: the connection broke.
        """
        while True:
            if not self._ready:
                self._ready.extend(self.receive())
                continue
            reply = self._ready.popleft()
            if isinstance(reply, PUSH):
                continue
            if isinstance(reply, hiredis.ReplyError):
                raise StoreError(str(reply))
            return reply

    def pending_input(self) -> bool:
        """Tell whether a reply has been received and not yet read."""
        return bool(self._ready)

    def call(self, *command: bytes | str | int | float) -> Any:
        """Send one command and return its reply."""
        self.send(pack(command))
        return self.read()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._connection.disconnect()

    def abort(self) -> None:
        """Break the connection from another thread, so that a blocked reader returns."""
        self._aborted = True
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed already: nothing left to break
