"""What one process keeps alive: its handles and shared references, and what it sends with calls.

Ties (see ``tokens``) are gathered and go out with the next calls: additions before them, so that
what a call carries is held before the call is there; drops after them, so that the calls of a
dropped handle are in its actor's queue before the handle is gone.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from . import records, routing
from .buffers import Buffers
from .store import Mux, Scripts, Step
from .store.wire import pack
from .tokens import PREFIXES, REMEMBER_SECONDS, Remains, thing_of

__all__ = ["Hold", "Holdings"]

logger = logging.getLogger(__name__)

_BATCH = 200


class Hold:
    """Keeps one thing alive while this object lives; all handles of a process share it."""

    __slots__ = ("__weakref__", "thing", "tie")

    def __init__(self, thing: str, tie: str) -> None:
        self.thing = thing
        self.tie = tie


class _Watch(weakref.ref[Hold]):
    """Sees the end of a hold.

    Not ``__del__``: that runs while another thread can still get the object from a weak reference.
    """

    __slots__ = ("tie",)

    tie: str


class Holdings:
    """The ties of one process. Thread-safe.

    ``holder`` is whom the calls and values that it makes belong to: they may outlive the process.
    """

    mux: Mux  # set once the connection exists

    def __init__(
        self, session: str, holder: str, lock: threading.RLock, buffers: Buffers, seconds: int
    ) -> None:
        self._buffers = buffers
        self._session = session
        self.holder = holder
        self._lock = lock
        self._seconds = seconds
        self.own = ""  # the actor in this process: a handle to oneself keeps nobody alive
        self._count = 0
        self._holds: dict[str, _Watch] = {}
        self.added: list[str] = []
        self.dropped: deque[str] = deque()
        self._closed = False

    def first(self, thing: str) -> Hold:
        """Return the hold of a thing that is being made; whoever makes it stores the tie."""
        with self._lock:
            self._count += 1
            made = Hold(thing, f"{thing} p:{self._session}:{self._count}")
            watch = self._holds[thing] = _Watch(made, self._ended)
            watch.tie = made.tie
            return made

    def _ended(self, watch: weakref.ref[Hold]) -> None:
        """Note that a hold is gone; may run anywhere in the garbage collector."""
        if isinstance(watch, _Watch):
            self.dropped.append(watch.tie)

    def hold(self, thing: str) -> Hold | None:
        """Keep a thing alive; None where that is this process's own actor."""
        if thing == self.own:
            return None
        with self._lock:
            watch = self._holds.get(thing)
            found = watch() if watch is not None else None
            if found is None:
                found = self.first(thing)
                self.added.append(found.tie)
            return found

    def pin(self, thing: str) -> None:
        """Keep a thing alive as long as this process: a copy went where nobody counts."""
        self.add([f"{thing} p:{self._session}:0"])

    def discard(self, remains: Remains) -> None:
        """Remove what an answered call leaves behind."""
        self.clear([remains], ())
        self.drop(remains.ties)

    def clear(self, left: Sequence[Remains], freed: Iterable[bytes]) -> None:
        """Remove the keys that calls leave, and the buffers of freed values, by their records."""
        keys = [key for remains in left for key in remains.keys]
        blobs = [blob for remains in left for blob in remains.blobs]
        blobs += [blob for record in freed for blob in records.blobs_of_stored(record)]
        if keys:
            self._post("UNLINK", *keys)
        if blobs:
            self._buffers.free(blobs, self._post)

    def carry(self, things: Iterable[str], kind: str, name: str) -> list[str]:
        """Keep things alive for a call, a value, code or an actor; return the ties."""
        ties = self.ties(things, kind, name)
        self.add(ties)
        return ties

    def ties(self, things: Iterable[str], kind: str, name: str) -> list[str]:
        """Return the ties with which things are kept alive for a call, a value, code, an actor."""
        holder = self.holder
        if kind == "o":
            holder = routing.session_of(name) or holder
        return [f"{thing} {kind}:{holder}:{name}" for thing in things]

    def renew(self, hold: Hold) -> None:
        """Add a tie again: the value may have come after it."""
        self.add([hold.tie])

    def tell_again(self) -> None:
        """Add the ties of everything that is held once more: the store may have lost them."""
        with self._lock:
            self.added += [watch.tie for watch in self._holds.values() if watch() is not None]

    def drop(self, ties: Iterable[str]) -> None:
        """Drop ties with the next flush; callable from the garbage collector."""
        self.dropped.extend(ties)

    def add(self, ties: Iterable[str]) -> None:
        """Add ties with the next flush."""
        with self._lock:
            self.added += ties

    def post_added(self) -> None:
        """Send what was added. The caller has the lock."""
        added, self.added = self.added, []
        if self._closed:
            return
        for start in range(0, len(added), _BATCH):
            step = self.adding(added[start : start + _BATCH])
            self.mux.post(Scripts.pack(step.script, step.keys, *step.words))

    def adding(self, ties: Iterable[str]) -> Step:
        """Return the step that adds ties."""
        return Step("hold", (), (*PREFIXES, self._seconds, *ties))

    def post_dropped(self) -> None:
        """Send what was dropped. The caller has the lock and has sent what came before."""
        while self.dropped:
            count = min(len(self.dropped), _BATCH)
            ties = [self.dropped.popleft() for _ in range(count)]
            for tie in ties:
                thing = thing_of(tie)
                watch = self._holds.get(thing)
                if watch is not None and watch.tie == tie:
                    del self._holds[thing]
            if not self._closed:
                command = Scripts.pack("drop", [], *PREFIXES, REMEMBER_SECONDS, *ties)
                self.mux.post(command, self._free)

    def _free(self, freed: Any) -> None:
        if isinstance(freed, Exception):
            logger.warning("the store refused to drop what nobody holds: %s", freed)
            return
        self.clear((), freed)

    def _post(self, *words: Any) -> None:
        self.mux.post(pack(words))

    def close(self) -> None:
        """Say nothing more: the session ends, and everything that it holds with it."""
        self._closed = True
