"""The channels on which a node hears that it should look at once, and what others ask of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .. import routing
from ..config import Address
from ..errors import ClusterUnreachableError
from ..store import Wire
from ..store.wire import PUSH, pack

__all__ = ["Bells"]


class Bells:
    """One subscription, made again with the next tick where it was lost."""

    def __init__(
        self, address: Address, incarnation: str, on_words: Callable[[set[bytes]], None],
        watch: Callable[[Any, Callable[[], None]], None], unwatch: Callable[[Any], None],
    ) -> None:  # fmt: skip
        self._address = address
        self._channels = (routing.BELL, routing.node_channel(incarnation))
        self._on_words = on_words
        self._watch, self._unwatch = watch, unwatch
        self._wire: Wire | None = None

    def tick(self) -> None:
        """See to it that the node hears; to be called once a second.

        Raises:
            StoreUnreachableError: it cannot be made to.
        """
        if self._wire is not None and not self._is_well(self._wire):
            self._drop(self._wire)
        if self._wire is None:
            wire = self._wire = Wire(self._address)
            wire.send(pack(("SUBSCRIBE", *self._channels)))
            self._watch(wire, lambda: self._hear(wire))

    @staticmethod
    def _is_well(wire: Wire) -> bool:
        """Tell whether a connection still answers, where sentinels may name another primary."""
        if wire.silence is None:
            return True
        try:
            wire.send(pack(("PING",)))  # or nothing might come for long
        except ClusterUnreachableError:
            return False
        return time.monotonic() - wire.heard <= wire.silence

    def _hear(self, wire: Wire) -> None:
        try:
            pushes = wire.receive(0)
        except ClusterUnreachableError:
            self._drop(wire)
            return
        words = {reply[2] for reply in pushes if isinstance(reply, PUSH) and reply[0] == b"message"}
        if words:
            self._on_words(words)

    def _drop(self, wire: Wire) -> None:
        self._unwatch(wire)
        wire.close()
        self._wire = None
