"""Where the large buffers of one process go: shared memory on its host, else the store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from . import routing, transfers
from .errors import ObjectStoreFullError, RayError
from .serialization import Blob, Sealer, offsets
from .shared_memory import SPARE_SECONDS, NoSpaceError, SharedFolder, copy_name, host_id
from .store import Store, StoreFullError
from .store.client import CHUNK_BYTES, chunk_keys

__all__ = ["Buffers", "free_commands"]


class Buffers:
    """Keeps, fetches and frees the large buffers of values. Thread-safe.

    Args:
        store: the cluster's store.
        sealer: checks what comes from other hosts.
        node_id: the node run that this process belongs to; "": whichever shares this host.
        seconds: how long a buffer stays at most.
    """

    def __init__(self, store: Store, sealer: Sealer, node_id: str, seconds: int) -> None:
        self._store = store
        self._sealer = sealer
        self._node_id = node_id
        self._fixed = bool(node_id)
        self._seconds = seconds
        self._host = host_id()
        self._folders: dict[str, SharedFolder | None] = {}  # by node run; None: another host's
        #: Called before a buffer is stored: frees what nobody holds any more, for its pages.
        self.reclaim: Callable[[], None] = lambda: None

    # -- keeping ---------------------------------------------------------------------------

    def keep(self, blob_id: str, parts: Sequence[memoryview]) -> Blob:
        """Store buffers side by side, in shared memory where this host has a node.

        Raises:
            ObjectStoreFullError: neither has room; says how much is needed and what to do.
        """
        self.reclaim()
        starts, size = offsets(map(len, parts))
        # Unique: a call that runs again must not replace what its first run made.
        name = f"{blob_id}.{secrets.token_hex(4)}"
        home = self._home()
        left = None
        if home is not None:
            node, folder = home
            try:
                with folder.new(name, size) as file:
                    for start, part in zip(starts, parts, strict=True):
                        file.write(start, part)
                return Blob(name, size, node)
            except NoSpaceError as error:
                left = error.free
            except FileNotFoundError:
                self._folders.pop(node, None)  # its node has ended
        return self._keep_in_store(name, size, _chunks(starts, parts), left)

    def _keep_in_store(
        self, name: str, size: int, chunks: Iterator[bytes | memoryview], left: int | None
    ) -> Blob:
        digest = hashlib.sha256()
        try:
            for number, chunk in enumerate(chunks):
                digest.update(chunk)
                self._store.put_chunk(name, number, chunk, self._seconds)
        except BaseException as error:
            with contextlib.suppress(RayError):
                self._store.run("UNLINK", *chunk_keys(name, size))
            if isinstance(error, StoreFullError):
                shared = (
                    "no node's shared memory is on this host"
                    if left is None
                    else f"its shared memory has {left} bytes left"
                )
                raise ObjectStoreFullError(
                    f"there is no room for a value of {size} bytes: {shared}, and the store is at "
                    f"its limit ({error}). Drop references that you need no more, give the node "
                    "more shared memory (/dev/shm; docker run --shm-size), or raise the store's "
                    "maxmemory"
                ) from None
            raise
        return Blob(name, size, digest=digest.hexdigest())

    # -- fetching --------------------------------------------------------------------------

    def fetch(self, blob: Blob) -> memoryview:
        """Return a buffer, read-only; not copied where it lies in this host's shared memory.

        Raises:
            ObjectLostError: it is gone; says why.
        """
        if not blob.node:
            return self._store.need_blob(blob.id, blob.size)
        folder = self._folder(blob.node)
        if folder is None:
            return self._fetch_from_afar(blob)
        try:
            return folder.map(blob.id, blob.size)
        except FileNotFoundError:
            raise transfers.lost(blob) from None

    def _fetch_from_afar(self, blob: Blob) -> memoryview:
        """Stream a buffer through the store, into this host's shared memory if it has one."""
        home = self._home()
        if home is not None:
            node, folder = home
            copy = copy_name(blob.node, blob.id)
            try:
                return folder.map(copy, blob.size)
            except FileNotFoundError:
                pass
            try:
                # Under a name of its own until it is whole: others here may fetch it too.
                part = f"{copy}.{secrets.token_hex(4)}"
                with folder.new(part, blob.size) as file:
                    transfers.receive(self._store, self._sealer, blob, node, file)
                    whole = file.map()
                    folder.rename(part, copy)
                    return whole
            except (NoSpaceError, FileNotFoundError):
                pass  # then into this process's own memory
        own = _Own(blob.size)
        transfers.receive(self._store, self._sealer, blob, "", own)
        return memoryview(own.data).toreadonly()

    # -- freeing ---------------------------------------------------------------------------

    def free(self, blobs: Sequence[Blob], run: Callable[..., Any] | None = None) -> None:
        """Give buffers up; what a process has mapped stays readable there.

        Args:
            blobs: what nobody will ask for again.
            run: sends a command, given as words; None: and waits for the answer.
        """
        elsewhere = []
        for blob in blobs:
            folder = self._folders.get(blob.node)
            if folder is not None:
                folder.free(blob.id)
                continue
            elsewhere.append(blob)
            home = self._folders.get(self._node_id)
            if home is not None and blob.node:
                home.free(copy_name(blob.node, blob.id))
        for command in free_commands(elsewhere):
            (run or self._store.run)(*command)

    def let_go(self, after: float = SPARE_SECONDS) -> None:
        """Let go of memory that was kept for the next buffer for so many seconds."""
        for folder in list(self._folders.values()):
            if folder is not None:
                folder.let_go(after)

    def renew(self, blobs: Iterable[Blob]) -> Iterator[str]:
        """Keep buffers from expiring; return the keys of those in the store, to be renewed there.

        A buffer in the shared memory of another host is left alone: its holders there renew it.
        """
        for blob in blobs:
            folder = self._folders.get(blob.node)
            if folder is not None:
                folder.renew(blob.id)
            elif not blob.node:
                yield from chunk_keys(blob.id, blob.size)

    # -- folders ---------------------------------------------------------------------------

    def _home(self) -> tuple[str, SharedFolder] | None:
        """Return the node run into whose folder this process writes, and the folder."""
        if not self._folders.get(self._node_id) and not self._fixed:
            named = self._store.texts("HKEYS", routing.NODES)
            self._node_id = next((node for node in named if self._folder(node)), "")
        folder = self._folder(self._node_id) if self._node_id else None
        return None if folder is None else (self._node_id, folder)

    def _folder(self, node: str) -> SharedFolder | None:
        """Return the folder of a node run on this host."""
        if node not in self._folders:
            raw = self._store.run("HGET", routing.NODES, node)
            if raw is None:
                return None
            about = json.loads(raw)
            here = about.get("host_id") == self._host and about.get("folder")
            self._folders[node] = SharedFolder.find(about["folder"], node) if here else None
        return self._folders[node]


class _Own:
    """Takes a buffer into this process's own memory."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)

    def write(self, offset: int, data: memoryview) -> None:
        self.data[offset : offset + len(data)] = data


def free_commands(blobs: Iterable[Blob]) -> Iterator[tuple[Any, ...]]:
    """Return the commands that free buffers, wherever they are; any process may send them."""
    keys: list[str] = []
    asks: dict[str, list[str]] = {}
    for blob in blobs:
        if blob.node:
            asks.setdefault(blob.node, []).append(blob.id)
        else:
            keys += chunk_keys(blob.id, blob.size)
    if keys:
        yield ("UNLINK", *keys)
    for node, names in asks.items():
        yield transfers.ask_to_free(node, names)


def _chunks(starts: Sequence[int], parts: Sequence[memoryview]) -> Iterator[bytes | memoryview]:
    """Return what lies side by side in pieces of one chunk, copied only where it must be."""
    pieces: list[memoryview] = []
    room, position = CHUNK_BYTES, 0
    for start, part in zip(starts, parts, strict=True):
        for rest in (memoryview(bytes(start - position)), part):
            while rest:
                pieces.append(rest[:room])
                rest = rest[room:]  # noqa: PLW2901 - what is left of it
                room -= len(pieces[-1])
                if room == 0:
                    yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
                    pieces, room = [], CHUNK_BYTES
        position = start + len(part)
    if pieces:
        yield b"".join(pieces)
