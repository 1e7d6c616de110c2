"""Serves a node's shared memory to other hosts, and keeps it tidy, in a thread of its own.

The supervisor's one thread must never wait for a reader on another host.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import msgspec

from .. import routing
from ..assignment import NodeSettings
from ..errors import RayError
from ..serialization import Sealer
from ..shared_memory import SharedFolder, copy_name
from ..store import Store
from ..transfers import ask_to_free, send
from ..unreadable import UNREADABLE

__all__ = ["BufferServer"]

logger = logging.getLogger(__name__)

#: Transfers that run at once; others wait for one to end.
_TRANSFERS = 4
_LOOK_SECONDS = 1
#: Looks between two rounds through all files.
_SWEEP_EVERY = 10


class _Ask(msgspec.Struct):
    free: list[str] = []
    send: tuple[str, int, str, str] | None = None  # name, bytes, transfer, reader's node run


_decode = msgspec.json.Decoder(_Ask).decode


class BufferServer:
    """Answers what others ask of one node run's shared memory."""

    def __init__(self, settings: NodeSettings, folder: SharedFolder) -> None:
        self._settings = settings
        self._folder = folder
        self._node = settings.node_id
        self._store = Store(settings.address)
        self._sealer = Sealer(settings.ring)
        self._slots = threading.BoundedSemaphore(_TRANSFERS)
        self._running: set[str] = set()
        self._copies: dict[str, set[str]] = {}  # name -> node runs that hold a copy
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="ca-buffers", daemon=True)

    def start(self) -> None:
        """Begin; the supervisor has forked what it forks by now."""
        self._thread.start()

    def stop(self) -> None:
        """End within a look; transfers end with the process."""
        self._stopped.set()

    def _serve(self) -> None:
        looks = 0
        while not self._stopped.is_set():
            try:
                looks += self._look(sweep=looks % _SWEEP_EVERY == _SWEEP_EVERY - 1)
            except RayError as error:
                logger.warning("the shared memory of this node waits for the store: %s", error)
                self._stopped.wait(_LOOK_SECONDS)
            except FileNotFoundError:
                break  # the folder is gone: the node ends
        self._store.close()

    def _look(self, *, sweep: bool) -> bool:
        """Answer one word, or tidy up when none came; tell whether none came."""
        found = self._store.run("BLPOP", routing.asks_key(self._node), _LOOK_SECONDS)
        if found is not None:
            self._answer(found[1])
            return False
        self._folder.trim()
        self._free_copies()
        if sweep:
            self._sweep()
        return True

    def _answer(self, raw: bytes) -> None:
        try:
            ask = _decode(raw)
        except UNREADABLE as error:
            logger.warning(
                "a word to this node's shared memory is not what belongs there: %s", error
            )
            return
        for name in ask.free:
            self._folder.free(name)
        if ask.send is None or ask.send[2] in self._running:
            return  # nothing more, or told twice
        name, _size, transfer, reader = ask.send
        self._running.add(transfer)
        if reader:
            self._copies.setdefault(name, set()).add(reader)
        threading.Thread(target=self._send, args=ask.send[:3], name="ca-send", daemon=True).start()

    def _send(self, name: str, size: int, transfer: str) -> None:
        try:
            with self._slots:
                send(self._store, self._sealer, self._folder, name, size, transfer)
        except RayError as error:
            logger.warning("the transfer of %s ended early: %s", name, error)
        finally:
            self._running.discard(transfer)

    def _free_copies(self) -> None:
        """Tell the nodes that hold a copy of what is freed here."""
        for name in [name for name in self._copies if not self._folder.has(name)]:
            for node in self._copies.pop(name):
                self._store.run(*ask_to_free(node, [copy_name(self._node, name)]))

    def _sweep(self) -> None:
        """Remove what expired, and copies of what dead nodes held."""
        for name in self._folder.names(older_than=self._settings.result_seconds):
            self._folder.free(name)
        owners: dict[str, Any] = {}
        for name in self._folder.names():
            owner, mark, _ = name.rpartition("~")
            if mark and owner not in owners:
                owners[owner] = self._store.run("HEXISTS", routing.NODES, owner)
            if mark and not owners[owner]:
                self._folder.free(name)
