"""The calls of one actor that are out of line: under way at the same time, settled in any order.

They lie in a hash in the store until their result is there. What a lost process leaves in it goes
back in line, in order, as far as it had not begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .config import Address
from .errors import ClusterUnreachableError, FencedError
from .mailbox import PATIENCE_SECONDS, check_owned
from .routing import ActorKeys
from .runtime import Runtime
from .store import Answer, Scripts, StoreError, Wire
from .store.scripts import flatten
from .store.wire import patiently

__all__ = ["InFlight", "Taken"]


class Taken(NamedTuple):
    """A call out of line: its position and its message."""

    position: int
    raw: bytes


class InFlight:
    """Takes calls out of line and settles them, on a connection of its own."""

    def __init__(
        self, runtime: Runtime, address: Address, keys: ActorKeys, epoch: str, owner: str,
        position: int, *, mark: bool, lease_lasts: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._address = address
        self._epoch, self._owner = epoch, owner
        self._position = position
        self.freed: list[bytes] = []  # records of values that these calls have freed
        self._keys = [keys.queue, keys.meta, keys.parked, keys.begun]
        self.marks = mark  # calls are marked before they begin: what restarts must know
        self._lease_lasts = lease_lasts  # so that nobody can have taken our place
        self.backlog = True  # until the store says otherwise
        self._wire = patiently(lambda: Wire(address), PATIENCE_SECONDS)

    def turn(
        self, settled: Sequence[tuple[int, Answer]], want: int, left: Sequence[str | int]
    ) -> list[Taken]:
        """Store the results of calls and take up to ``want`` others, in one step.

        ``left``: what the calls leave (see ``tokens.dropping``); what that frees is in ``freed``.

        Raises:
            FencedError: another process owns the actor now; nothing was written.
        """
        positions = [position for position, _ in settled]
        words: list[Any] = [self._epoch, self._owner, self._position, want]
        words += [self._runtime.result_seconds, len(settled), *positions]
        words += flatten(answer for _, answer in settled)
        words += left
        reply = self._call(Scripts.pack("take", self._keys, *words))
        check_owned(reply, self._position)
        first = self._position
        self._position += len(reply[1])
        self.backlog = reply[2] > 0
        if len(reply) > 3:
            self.freed += reply[3]
        return [Taken(first + number, raw) for number, raw in enumerate(reply[1])]

    def begin(self, calls: Sequence[Taken]) -> None:
        """Note that calls begin, and wait until the store knows.

        A mark that never arrived would have them run twice: this node may be cut off from here on.

        Raises:
            FencedError: another process owns the actor now: they must not begin here.
        """
        words: list[str | int] = [self._epoch, self._owner, *(call.position for call in calls)]
        if self._call(Scripts.pack("begin", [self._keys[1], self._keys[3]], *words)) != 0:
            raise FencedError

    def confirm(self, call: Taken) -> None:
        """Ask, before an unmarked call begins, whether it is still ours; callable from any thread.

        This process may have been paused and replaced since it took the call.

        Raises:
            FencedError: another process owns the actor now: the call must not begin here.
        """
        if not self.marks and not self._lease_lasts():
            scripts = self._runtime.store.scripts
            words = (self._epoch, self._owner, [call.position])
            if not scripts.begin(self._keys[1], self._keys[3], *words):
                raise FencedError

    def _call(self, command: bytes) -> Any:
        give_up = time.monotonic() + max(PATIENCE_SECONDS, self._address.patience)
        while True:
            try:
                self._wire.send(command)
                return self._wire.read()
            except (ClusterUnreachableError, StoreError):
                if time.monotonic() > give_up:
                    raise
                self._reconnect()

    def _reconnect(self) -> None:
        self._wire.close()
        time.sleep(0.02)
        try:
            self._wire = Wire(self._address)
            Scripts.load(self._wire.call)
        except (ClusterUnreachableError, StoreError):
            return  # the next call meets it again, until patience ends

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()
