"""Large buffers from one node's shared memory to another host, streamed through the store.

The reader asks the owning node and says for how many chunks it has room; the node stores that many
and announces each with its signature. So a transfer holds a few chunks in the store, whatever its
size, and one that its reader or sender leaves expires.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any, Protocol

from . import routing
from .errors import ObjectLostError
from .serialization import Blob, Sealer
from .shared_memory import SharedFolder
from .store import Scripts, Store
from .store.client import CHUNK_BYTES

__all__ = ["ask_to_free", "lost", "receive", "send"]

#: Chunks that may lie in the store at once, and after how many the reader makes room for more.
AHEAD = 16
STEP = AHEAD // 2
#: Seconds for which what a transfer has in the store outlives its last sign of life.
EXPIRE_SECONDS = 60
#: Seconds for which a sender waits for its reader, and a reader for a node that lives.
PATIENCE_SECONDS = 30
#: Seconds that one command waits at most: a connection that is silent for longer may be given up.
WAIT_SECONDS = 2
_GONE = b"gone"


class Sink(Protocol):
    """Takes a buffer in parts."""

    def write(self, offset: int, data: memoryview) -> None:
        """Take one part."""


def ask_to_free(node: str, names: list[str]) -> tuple[Any, ...]:
    """Return the command that asks a node run to free buffers of its own."""
    ask = json.dumps({"free": names})
    return Scripts.words("tell", [routing.asks_key(node)], EXPIRE_SECONDS, ask)


def receive(store: Store, sealer: Sealer, blob: Blob, reader: str, sink: Sink) -> None:
    """Fetch a buffer from the node run that holds it.

    Args:
        store: where the chunks pass through.
        sealer: checks their signatures.
        blob: what to fetch.
        reader: the node run that will keep a copy, or "".
        sink: takes the chunks in order.

    Raises:
        ObjectLostError: the node or the buffer is gone, or the node does not answer.
    """
    _check_alive(store, blob)
    transfer = secrets.token_hex(12)
    sent, wanted = routing.sent_key(transfer), routing.wanted_key(transfer)
    try:
        store.scripts.tell(wanted, EXPIRE_SECONDS, AHEAD)
        ask = {"send": [blob.id, blob.size, transfer, reader]}
        store.scripts.tell(routing.asks_key(blob.node), EXPIRE_SECONDS, json.dumps(ask))
        for number, start in enumerate(range(0, blob.size, CHUNK_BYTES)):
            tag = _announced(store, blob, sent, number)
            chunk = store.run("GETDEL", routing.blob_key(transfer, number))
            size = min(CHUNK_BYTES, blob.size - start)
            if chunk is None or len(chunk) != size:
                raise ObjectLostError(
                    f"chunk {number} of the buffer {blob.id} from node {blob.node} was lost on "
                    "its way: the store dropped it, or this process stood still. Get it again"
                )
            data = memoryview(chunk)
            sealer.check_tag(_context(blob.id, transfer, number), data, tag)
            sink.write(start, data)
            if number % STEP == STEP - 1:
                store.scripts.tell(wanted, EXPIRE_SECONDS, STEP)
    finally:
        store.run("UNLINK", sent, wanted)


def _announced(store: Store, blob: Blob, sent: str, number: int) -> str:
    """Wait for a chunk; return its signature."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = store.run("BLPOP", sent, WAIT_SECONDS)
        if found is None:
            _check_alive(store, blob)
            continue
        if found[1] == _GONE:
            raise lost(blob)
        which, _, tag = found[1].decode().partition(" ")
        if int(which) == number:  # else one that the store was told of twice
            return str(tag)
    raise ObjectLostError(
        f"node {blob.node} lives but sent nothing of the buffer {blob.id} for "
        f"{PATIENCE_SECONDS} s. Look into its log; get it again"
    )


def _check_alive(store: Store, blob: Blob) -> None:
    if not store.run("EXISTS", routing.lease_key(blob.node)):
        raise ObjectLostError(
            f"the buffer {blob.id} was in the shared memory of node {blob.node}, and that node is "
            "dead. Run the call that made it again"
        )


def send(
    store: Store, sealer: Sealer, folder: SharedFolder, name: str, size: int, transfer: str
) -> None:
    """Store a buffer chunk by chunk, as its reader has room; give up when that is silent."""
    sent, wanted = routing.sent_key(transfer), routing.wanted_key(transfer)
    try:
        whole = folder.map(name, size)
    except OSError:
        store.scripts.tell(sent, EXPIRE_SECONDS, _GONE)
        return
    room = 0
    for number, start in enumerate(range(0, size, CHUNK_BYTES)):
        if room == 0:
            room = _room(store, wanted)
            if not room:
                return
        room -= 1
        chunk = whole[start : start + CHUNK_BYTES]
        store.put_chunk(transfer, number, chunk, EXPIRE_SECONDS)
        tag = sealer.tag(_context(name, transfer, number), chunk)
        store.scripts.tell(sent, EXPIRE_SECONDS, f"{number} {tag}")


def _room(store: Store, wanted: str) -> int:
    """Wait until the reader has room for more chunks; 0: it says nothing any more."""
    deadline = time.monotonic() + PATIENCE_SECONDS / 2
    while (left := deadline - time.monotonic()) > 0:
        found = store.run("BLPOP", wanted, min(left, WAIT_SECONDS))
        if found is not None:
            return int(found[1])
    return 0


def lost(blob: Blob) -> ObjectLostError:
    """Return the error for a buffer that its node does not have any more."""
    return ObjectLostError(
        f"the buffer {blob.id} of {blob.size} bytes is not in the shared memory of node "
        f"{blob.node} any more: its last holder dropped it, it expired (result_expires), or the "
        "node has ended. Keep a reference, or run the call that made it again"
    )


def _context(name: str, transfer: str, number: int) -> tuple[str, ...]:
    return ("chunk", name, transfer, str(number))
