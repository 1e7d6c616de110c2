"""The store, the connections to it, and how the product's functions run in single round trips.

A *line* is one connection of one role. What is asked on it waits there until the scheduler lets the
store answer, so between any two round trips anything else may happen, and a line may break before
or after the store has heard. A function of the product that talks to the store is run by
``Port.steps``: from its beginning again after each answer, hearing what it has heard before, until
it returns. So it needs neither a thread nor a change, and it can be dropped anywhere, as
``kill -9`` does.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar
from unittest import mock

import hiredis

from celery_actors import mailbox
from celery_actors.config import Address
from celery_actors.errors import RayError
from celery_actors.store import Scripts, Store, StoreError, StoreUnreachableError, Wire
from celery_actors.store.sources import SOURCES
from celery_actors.store.wire import PUSH, pack

__all__ = ["Clock", "Line", "Network", "Port", "Server", "SteppedStore", "Words", "twin"]

T = TypeVar("T")
Words = tuple[bytes, ...]
#: What a role does: each value that it yields is what it waits for.
Steps = Generator["Line | float | None", None, T]

#: Times that the pooled client asks again after a broken connection: the default of ``Store``.
RETRIES = 3
#: Times that a mailbox tries to connect.
TRIES = 20


class Clock:
    """The time of one schedule, in place of the module ``time``."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Return the seconds since some moment."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Go on at once: what the sleeper then does waits for its turn anyway."""


class Server:
    """A real server; ``sources``: the scripts that it runs in place of the product's."""

    def __init__(self, address: Address, sources: Mapping[str, bytes] = SOURCES) -> None:
        self._wire = Wire(address)
        self.pushed: list[tuple[str, bytes]] = []
        self.names: dict[bytes, str] = {}  # of scripts, by the product's digests
        self._loaded: dict[bytes, bytes] = {}  # digests here, by the product's digests
        for name, source in SOURCES.items():
            digest = hashlib.sha1(source).hexdigest().encode()
            self.names[digest] = name
            self._loaded[digest] = self._wire.call("SCRIPT", "LOAD", sources[name])

    def execute(self, words: Words) -> Any:
        """Return the reply to one command of the product; an error as a value."""
        if words[0] == b"EVALSHA":
            words = (words[0], self._loaded[words[1]], *words[2:])
        return self.call(*words)

    def call(self, *words: Any) -> Any:
        """Return the reply to one command of the simulation's own."""
        self._wire.send(pack(words))
        replies: list[Any] = []
        while not replies:
            for found in self._wire.receive():
                if not isinstance(found, PUSH):
                    replies.append(found)
                elif found[0] == b"pmessage":  # it comes behind the reply that caused it
                    self.pushed.append((found[2].decode(), found[3]))
        return replies[0]

    def subscribe(self, *patterns: str) -> None:
        """Hear what is published on these channels."""
        self._wire.send(pack(("PSUBSCRIBE", *patterns)))
        heard = 0
        while heard < len(patterns):
            heard += len(self._wire.receive())

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()


class Line:
    """One connection of one role."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked: deque[Words] = deque()
        self.answers: deque[Any] = deque()
        self.broken = False
        self.outage = False  # for longer than a pooled client tries
        self.blocked = b""  # the list that it waits on in vain
        self.listener: Port | None = None  # its role waits for an answer, or to be woken

    def cut(self) -> None:
        """Break the connection: what it has asked and not heard is lost."""
        self.broken = True
        self.asked.clear()
        self.blocked = b""

    @property
    def has_news(self) -> bool:
        """Tell whether the role that waits for it can go on without the store."""
        woken = self.listener is not None and self.listener.woken
        return bool(self.answers) or self.broken or woken

    def next(self) -> Any:
        """Return the next answer.

        Raises:
            StoreUnreachableError: it broke before. Pause: there is none yet.
        """
        if self.answers:
            return self.answers.popleft()
        if self.broken:
            raise StoreUnreachableError("the connection broke")
        self.listener = None
        raise Pause(self)


class Pause(BaseException):
    """Raised through a function of the product that waits for an answer."""

    def __init__(self, line: Line) -> None:
        self.line = line


class Network(Protocol):
    """What connects roles with the store."""

    def open(self) -> Line:
        """Return a new line."""

    def execute(self, words: Words) -> Any:
        """Let the store execute a command at once."""


class Port:
    """A role's way to the network: its lines, and what its present function has heard on them."""

    patience = 30.0  # as of an address

    def __init__(self, network: Network) -> None:
        self._network = network
        self._heard: list[tuple[bool, Any]] = []
        self._at = 0
        self.woken = False  # somebody wants the role to look around
        self.store = SteppedStore(self, network.open())

    def steps(self, function: Callable[[], T]) -> Steps[T]:
        """Run a function that uses this port, one round trip at a time."""
        self._heard = []
        while True:
            self._at = 0
            try:
                return function()
            except Pause as pause:
                yield pause.line

    def hear(self, ask: Callable[[], T]) -> T:
        """Return what ``ask`` returns, or returned when the function ran before."""
        if self._at == len(self._heard):
            try:
                self._heard.append((True, ask()))
            except RayError as error:
                self._heard.append((False, error))
        good, found = self._heard[self._at]
        self._at += 1
        if not good:
            raise found
        return found  # type: ignore[no-any-return]

    def connect(self) -> SteppedWire:
        """Return a new connection of the kind that a mailbox reads and writes itself."""
        return SteppedWire(self, self._network, self.hear(self._network.open))


class SteppedStore(Store):
    """The product's pooled client: it asks again, as the real one does, after a break."""

    def __init__(self, port: Port, line: Line) -> None:
        self._port = port
        self._line = line
        self._waits = False
        self.scripts = Scripts(self.run)

    def run(self, *command: Any) -> Any:
        """Execute one command."""
        for attempt in range(RETRIES + 1):
            try:
                reply = self._port.hear(lambda: self._ask(command))
            except StoreUnreachableError:
                if attempt == RETRIES or self._port.hear(self._is_away):
                    raise
                continue
            if isinstance(reply, hiredis.ReplyError):
                raise StoreError(str(reply))
            # The order of a set must not depend on how this interpreter hashes.
            return sorted(reply) if isinstance(reply, set) else reply
        raise AssertionError

    def hash(self, key: str) -> dict[str, str]:
        """Return a hash as text: read once, however often its reader runs again."""
        reply = self.run("HGETALL", key)
        return self._port.hear(lambda: {f.decode(): v.decode() for f, v in reply.items()})

    def _is_away(self) -> bool:
        away, self._line.outage = self._line.outage, False
        return away

    def _ask(self, command: Sequence[Any]) -> Any:
        line = self._line
        if self._waits and not line.has_news:
            raise Pause(line)
        if self._waits:
            self._waits = False
            return line.next()
        line.broken = False  # a new connection of the pool
        line.answers.clear()
        line.asked.append(tuple(w if type(w) is bytes else str(w).encode() for w in command))
        self._waits = True
        raise Pause(line)


class SteppedWire:
    """A ``Wire`` on a line."""

    silence = None

    def __init__(self, port: Port, network: Network, line: Line) -> None:
        self._port = port
        self._network = network
        self.line = line

    def send(self, data: bytes) -> None:
        """Write commands."""
        self._port.hear(lambda: self._send(data))

    def _send(self, data: bytes) -> None:
        if self.line.broken:
            raise StoreUnreachableError("the connection broke")
        for command in _commands(data):
            if command == (b"PING",):  # nothing can go wrong between it and what it stands before
                self.line.answers.append(b"PONG")
            else:
                self.line.asked.append(command)

    def read(self) -> Any:
        """Return the next reply."""
        reply = self._port.hear(self.line.next)
        if isinstance(reply, hiredis.ReplyError):
            raise StoreError(str(reply))
        return reply

    def call(self, *command: bytes | str | int | float) -> Any:
        """Send one command and return its reply."""
        if command[0] == "SCRIPT":  # EXISTS: all are loaded here
            return [1] * (len(command) - 2)
        if command == ("CLIENT", "ID"):
            return self.line.number
        if command[:2] == ("CLIENT", "KILL"):
            return self._port.hear(lambda: self._network.execute(next(_commands(pack(command)))))
        self.send(pack(command))
        return self.read()

    def pending_input(self) -> bool:
        """Tell whether a reply has come; wait for that, or for a wake-up."""
        return self._port.hear(self._look)

    def _look(self) -> bool:
        line = self.line
        if line.answers or line.broken:
            return True
        if self._port.woken:
            return False
        line.listener = self._port
        raise Pause(line)

    def filter_words(self) -> tuple[str, ...]:
        """Return how a server tells this connection from one of another server."""
        return ()

    def fileno(self) -> int:
        """Return a descriptor that never has anything to read."""
        return _PIPE[1]

    def close(self) -> None:
        """Close the connection."""


#: A pipe with something in it: whoever polls its reading end finds that he was woken.
_PIPE = os.pipe()
os.write(_PIPE[1], b"w")
WAKE_FD = _PIPE[0]


def _commands(data: bytes) -> Iterator[Words]:
    reader = hiredis.Reader()
    reader.feed(data)
    while (words := reader.gets()) is not False:
        yield tuple(words)


def twin(thing: T) -> T:
    """Return a copy of an object with copies of the collections in it."""
    copied = object.__new__(type(thing))
    vars(copied).update(
        {
            name: value.copy() if type(value) in _COLLECTIONS else value
            for name, value in vars(thing).items()
        }
    )
    return copied


_COLLECTIONS = frozenset({list, set, dict, deque})


def _patiently(
    step: Callable[[], T], _seconds: float, errors: tuple[type[RayError], ...] = ()
) -> T:  # fmt: skip
    """Return what a step returns, as the product's own; the scheduler is what pauses here."""
    for _ in range(TRIES):
        try:
            return step()
        except errors:
            continue
    return step()


@contextmanager
def simulated(clock: Clock) -> Iterator[None]:
    """Give the product's mailbox the simulation's connections and time."""
    with (
        mock.patch.object(mailbox, "Wire", lambda port: port.connect()),
        mock.patch.object(mailbox, "time", clock),
        mock.patch.object(mailbox, "patiently", _patiently),
    ):
        yield
