"""How the processes of a node's actors fare: memory, processor time, the last error.

A node writes it every few seconds, as one key that ends with the node; whoever shows it reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from . import routing
from .store import Store
from .unreadable import UNREADABLE

__all__ = ["VITALS_SECONDS", "Error", "NodeVitals", "Process", "publish", "published"]

#: Seconds between two looks of a node at its actors' processes.
VITALS_SECONDS = 5.0
#: Seconds after which the last word of a node is not shown any more.
LASTS_SECONDS = 20


class Process(msgspec.Struct, array_like=True, frozen=True):
    """One process: resident bytes, processors in use (1.0: one whole)."""

    pid: int
    memory: int
    cpus: float


class Error(msgspec.Struct, array_like=True, frozen=True):
    """The last error of an actor: seconds since 1970, type and first line."""

    when: float
    text: str


class NodeVitals(msgspec.Struct, frozen=True):
    """What one node says, by actor."""

    processes: dict[str, Process] = {}
    errors: dict[str, Error] = {}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(NodeVitals).decode
_NOTHING = NodeVitals()


def publish(store: Store, node_id: str, vitals: NodeVitals) -> None:
    """Let others see how a node's actors fare."""
    store.run("SET", routing.vitals_key(node_id), _encode(vitals), "EX", LASTS_SECONDS)


def published(store: Store, node_ids: Sequence[str]) -> list[NodeVitals]:
    """Return what these nodes say; nothing of one that is silent."""
    if not node_ids:
        return []
    return [_read(raw) for raw in store.many(routing.vitals_key(each) for each in node_ids)]


def _read(raw: bytes | None) -> NodeVitals:
    try:
        return _NOTHING if raw is None else _decode(raw)
    except UNREADABLE:
        return _NOTHING
