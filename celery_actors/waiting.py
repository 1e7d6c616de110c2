"""Tells a user whose work has been waiting for resources: for what, and what is free."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import registry, routing
from .capacity import Capacity
from .need import Need, described
from .store import Mux
from .store.wire import pack

__all__ = ["WaitingWork"]

logger = logging.getLogger(__name__)

#: Seconds for which the oldest request of a queue may be the same before its sender is told.
PATIENCE_SECONDS = 10.0
#: Seconds between two looks, and between two warnings about one queue.
LOOK_SECONDS = 2.0
AGAIN_SECONDS = 60.0


@dataclass(slots=True)
class _Queue:
    """One queue that this process has sent to."""

    need: Need
    oldest: bytes | None = None
    since: float = 0.0
    warned: float = -AGAIN_SECONDS


class WaitingWork:
    """Watches the queues that one process sends to, as long as something waits there."""

    mux: Mux  # set once the connection exists

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._queues: dict[str, _Queue] = {}
        self._next = 0.0

    def sent(self, queue: str, need: Need) -> None:
        """Note that work was sent to a queue."""
        if queue not in self._queues:
            self._queues[queue] = _Queue(need, since=time.monotonic())

    def tick(self) -> None:
        """Look at the queues; the answers come later."""
        now = time.monotonic()
        if not self._queues or now < self._next:
            return
        self._next = now + LOOK_SECONDS
        for name in list(self._queues):
            self.mux.post(pack(("LINDEX", name, -1)), self._seen(name))

    def _seen(self, name: str) -> Callable[[Any], None]:
        def take(reply: Any) -> None:
            queue = self._queues.get(name)
            if queue is None or isinstance(reply, Exception):
                return
            now = time.monotonic()
            if reply is None:
                del self._queues[name]
            elif reply != queue.oldest:
                queue.oldest, queue.since = reply, now
            elif now - queue.since >= PATIENCE_SECONDS and now - queue.warned >= AGAIN_SECONDS:
                queue.warned = now
                self._warn(name, queue.need, now - queue.since)

        return take

    def _warn(self, name: str, need: Need, seconds: float) -> None:
        what = "Actors" if name.startswith(routing.creation_queue("")) else "Calls"
        asked = described(need.amounts)
        places = [
            word for word, given in (
                ("in its placement group", need.bundle), ("on the node that was named", need.node),
                ("on a node with the labels asked for", need.selector),
            ) if given
        ]  # fmt: skip
        nodes = self._capacity.nodes()
        free = "; ".join(
            f"{node.node_id}: {described(tuple(_left(node.free.free).items()))}" for node in nodes
        )
        able = any(node.could_hold(need.anywhere) for node in nodes) or bool(need.bundle)
        cure = (
            "It runs when enough is free: end what holds it, ask for less, or add a node"
            if able else "No living node could hold it: it waits for one that can"
        )  # fmt: skip
        logger.warning(
            "%s wait for %s %s: the oldest has for %.0f s (queue %s). Free now: %s. %s",
            what, asked, " and ".join(places) or "on one node", seconds, name,
            free or "there is no node", cure,
        )  # fmt: skip


def _left(amounts: dict[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in registry.shown(amounts).items() if amount > 0}
