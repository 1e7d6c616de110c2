"""A TLS socket that one thread reads while others write.

OpenSSL forbids two operations on one connection at the same time, and what makes a socket readable
may be a record without data in it. So each operation is short and under a lock, and who has to wait
waits for the socket itself, outside.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from typing import Any

__all__ = ["TlsSocket"]


class TlsSocket:
    """What a wire needs of a socket, of one that speaks TLS."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        sock.settimeout(0)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._sock.fileno()

    def getsockname(self) -> Any:
        """Return the address of this end."""
        return self._sock.getsockname()

    def recv_into(self, buffer: bytearray) -> int:
        """Read one record at most, which ``buffer`` has room for.

        Raises:
            BlockingIOError: none is complete.
        """
        try:
            with self._lock:
                return self._sock.recv_into(buffer)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None

    def send(self, data: memoryview, _flags: int = 0) -> int:
        """Write what there is room for; return its size. One thread writes at a time.

        Raises:
            BlockingIOError: there is no room. The same data must be written next.
        """
        try:
            with self._lock:
                return self._sock.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None

    def sendall(self, data: bytes) -> None:
        """Write everything."""
        left = memoryview(data)
        room = select.poll()
        room.register(self._sock, select.POLLOUT)
        while left:
            try:
                left = left[self.send(left) :]
            except BlockingIOError:
                room.poll()

    def shutdown(self, how: int) -> None:
        """Break the connection; callable from any thread.

        Not as ``SSLSocket`` does it: that forgets its TLS first, and what another thread writes at
        this moment would go out as it is.
        """
        socket.socket.shutdown(self._sock, how)

    def setsockopt(self, level: int, name: int, value: bytes) -> None:
        """Set an option of the socket."""
        self._sock.setsockopt(level, name, value)
