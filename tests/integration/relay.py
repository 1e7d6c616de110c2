"""Stands between a node and its store, and drops what the test does not want to arrive."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["Relay", "relay"]


class Relay:
    """Passes bytes on between a Unix socket of its own and the store's."""

    def __init__(self, path: Path, store_url: str) -> None:
        store = urlsplit(store_url)
        self.url = f"unix://{store.netloc}{path}"  # the same user
        self._store = store.path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._mark = b""
        self.is_mute = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._serve, name="relay")
        self._thread.start()

    def mute_from(self, mark: bytes) -> None:
        """Let nothing more through to the store from the first word on that contains ``mark``."""
        self._mark = mark

    def close(self) -> None:
        """Break every connection."""
        self._over = True
        self._thread.join()
        for each in (*self._peers, self._listener):
            each.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._store)
        self._clients.add(client)
        self._peers |= {client: server, server: client}
        for each in (client, server):
            self._selector.register(each, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        peer = self._peers[source]
        with contextlib.suppress(OSError):
            if data := source.recv(1 << 20):
                if source in self._clients and self._mark and self._mark in data:
                    self.is_mute.set()
                if source not in self._clients or not self.is_mute.is_set():
                    peer.sendall(data)
                return
        for each in (source, peer):
            self._selector.unregister(each)
            del self._peers[each]
            each.close()


@contextlib.contextmanager
def relay(path: Path, store_url: str) -> Iterator[Relay]:
    """Run a relay to a store on a Unix socket."""
    found = Relay(path, store_url)
    try:
        yield found
    finally:
        found.close()
