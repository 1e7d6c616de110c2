"""What a durable actor keeps of its calls: the calls, and now and then the state (``"journal"``).

A recovery loads the state and runs the calls since then again, in their order, before any new one
begins. Each gives what it gave before, or the actor stands still.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import msgspec

from .actor_state import ActorState
from .contents import collecting
from .current_call import CurrentCall, current_call
from .durable_state import Holder, Kept, News
from .errors import FencedError, NonDeterminismError, SerializationError, StateRefusedError
from .executor import Callee, Started
from .messages import Message
from .pickling import Pickler, dumps
from .recording import Recorder
from .routing import ActorKeys
from .runtime import Runtime
from .serialization import encode_plain
from .store import Step
from .tokens import thing_of

__all__ = ["KeptJournal", "digest"]

logger = logging.getLogger(__name__)


class _Entry(msgspec.Struct, omit_defaults=True):
    """One call: its number, id and method, the digest of what it gave, the sizes of its pickles."""

    h: list[str]  # ties, first and named as in a state's header
    n: int
    i: str
    m: str
    d: str
    s: list[int]


@dataclass(slots=True)
class _Call:
    """A call that runs or has just ended."""

    call_id: str
    method: str
    arguments: bytes  # their pickle
    things: dict[str, None]  # what they and the steps refer to
    given: str = ""
    steps: Sequence[bytes] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Entry).decode


class _Digester(Pickler):
    """Pickles sets in an order of their own: that of strings differs from process to process."""

    def persistent_id(self, value: Any) -> Any:
        if type(value) is set or type(value) is frozenset:
            return type(value).__name__, sorted(digest(member, raised=False) for member in value)
        return None


def digest(value: Any, *, raised: bool) -> str:
    """Return 16 hexadecimal digits that tell one result from another.

    An exception is known by its type and text. What cannot be pickled is known by its type: its
    call failed for that.
    """
    if raised:
        return _hash(f"{type(value).__qualname__}: {value}".encode())
    plain = encode_plain(value)
    if plain is not None:
        return _hash(plain)
    try:
        with io.BytesIO() as file, collecting():
            _Digester(file, protocol=5).dump(value)
            return _hash(file.getvalue())
    except Exception:  # noqa: BLE001 - the user's own __reduce__
        return _hash(type(value).__qualname__.encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


class KeptJournal(Kept):
    """The calls since the last state.

    Args:
        find: returns what a method's name stands for.
        recorder: has the steps of the running call.
        every: calls after which the state is stored.
        title: what messages call the actor.
    """

    def __init__(
        self, runtime: Runtime, holder: Holder, state: ActorState, keys: ActorKeys, *,
        find: Callable[[str], Callee | None], recorder: Recorder, every: int, title: str,
    ) -> None:  # fmt: skip
        super().__init__(runtime, holder, state, keys)
        self._find = find
        self._recorder = recorder
        self._every = every
        self._title = title
        self._calls = 0  # whose effects the instance has
        self._stored_calls = -1  # whose effects the stored state has
        self._next = every  # calls after which the state is taken again
        self._taken: bytes | None = None  # a state that is to be stored
        self._things: dict[str, None] = {}  # what that state and the calls since then refer to
        self._entries: list[bytes] = []  # calls that are to be stored
        self._call: _Call | None = None  # the running one
        self._stale = False  # the stored state is of another version of the class

    # -- a call ----------------------------------------------------------------------------

    def started(self, message: Message, args: Started) -> None:
        """Keep the arguments as they are before the call."""
        with collecting() as things:
            arguments = dumps((args.args, args.kwargs))
        self._call = _Call(message.call_id, message.method, arguments, dict(things))

    def ended(self, value: Any, *, raised: bool) -> None:
        """Keep the digest of what the call gave."""
        if self._call is not None:
            self._call.given = digest(value, raised=raised)

    def make(self) -> _Call | None:
        """Return the call that has just ended, with its steps; None where none had begun."""
        call, self._call = self._call, None
        if call is not None:
            call.steps = self._recorder.steps
            call.things.update(self._recorder.things)
        return call

    def note(self, made: _Call | None) -> None:
        """Keep a call; after so many, the state instead."""
        if made is None:
            return
        self._calls += 1
        self._entries.append(self._sign(made))
        self._things.update(made.things)
        if self._calls >= self._next:
            self._next = self._calls + self._every
            try:
                self._take()
            except SerializationError:
                logger.exception("%s goes on; its journal grows until that is mended", self._title)

    def _sign(self, call: _Call) -> bytes:
        pieces = [call.arguments, *call.steps]
        entry = _Entry(
            self._ties.of(call.things), self._calls, call.call_id, call.method, call.given,
            list(map(len, pieces)),
        )  # fmt: skip
        body = b"%b\n%b" % (_encode(entry), b"".join(pieces))
        return self._runtime.sealer.sign(body, self._place(self._calls))

    def _place(self, number: int) -> tuple[str, ...]:
        return ("journal", self.keys.actor_id, str(number))

    def _take(self) -> None:
        data, things = self._state.take(self._holder.instance)
        self._taken, self._entries = data, []
        self._things = dict.fromkeys(things)
        self._stored_calls = self._calls

    def news(self) -> News:
        """Return the calls that are to be stored, and a state."""
        entries, self._entries = self._entries, []
        added, dropped = self._ties.change(self._ties.of(self._things))
        state = b""
        if self._taken is not None:
            taken, self._taken = self._taken, None
            state = self._state.sign(taken, [*self._ties.known], self._stored_calls)
        elif not entries:
            return News(b"", added, dropped)
        words = ("1" if state else "", *entries)
        return News(state, added, dropped, (Step("journal", (self.keys.journal,), words),))

    # -- the whole -------------------------------------------------------------------------

    def first(self) -> News:
        """Return the state that the constructor, or a migration, has made."""
        if self._stored_calls >= 0 and not self._stale:
            return News()
        return self.last()

    def last(self) -> News:
        """Return the state as it is now; none where the stored one is that."""
        if self._stored_calls == self._calls and not self._stale:
            return News()
        self._stale = False
        self._take()
        return self._without_calls()

    def roll_back(self) -> None:
        """Make the instance again: nothing of it says how it was before the call."""
        self._call = None
        stored = self._runtime.store.get(self.keys.state)
        if stored is None:
            raise FencedError("the state of this actor is gone: the actor has ended")
        self.load(stored)

    def load(self, stored: bytes) -> None:
        """Make the instance from its last state and the calls since then."""
        loaded = self._state.load(stored)
        entries = self._runtime.store.run("LRANGE", self.keys.journal, 0, -1)
        if loaded.migrated and entries:
            raise StateRefusedError(
                f"{self._title} has {len(entries)} calls in its journal that a class of another "
                "__state_version__ has run. They are untouched: start it with that class once "
                "more and end its node in order, which stores the state; then change the class"
            )
        self._holder.instance, self._stale = loaded.instance, loaded.migrated
        self._calls = self._stored_calls = loaded.calls
        self._next = loaded.calls + self._every
        self._ties.known = dict.fromkeys(loaded.ties)
        self._things = dict.fromkeys(thing_of(tie) for tie in loaded.ties)
        for entry in entries:
            self._again(*self._read(entry))

    def _read(self, stored: bytes) -> tuple[_Entry, Any, Sequence[bytes]]:
        """Return an entry of the journal, its arguments and its steps.

        Raises:
            UntrustedPayloadError: it is not signed for this place in this journal.
        """
        body = self._runtime.sealer.verified(stored, self._place(self._calls + 1))
        line, _, data = body.partition(b"\n")
        entry = _decode(line)
        ends = [0, *accumulate(entry.s)]
        pieces = [data[start:end] for start, end in pairwise(ends)]
        self._ties.known.update(dict.fromkeys(entry.h))
        self._things.update(dict.fromkeys(thing_of(tie) for tie in entry.h))
        return entry, pickle.loads(pieces[0]), pieces[1:]  # noqa: S301 - verified above

    def _again(self, entry: _Entry, arguments: Any, steps: Sequence[bytes]) -> None:
        """Run a call once more: its result is known, its effect on the instance is wanted.

        Raises:
            NonDeterminismError: it gave something else than before.
        """
        callee = self._find(entry.m)
        if callee is None:
            raise NonDeterminismError(f"call {entry.n}, {entry.m}, names no method any more")
        args, kwargs = arguments
        current_call.set(CurrentCall(entry.i, callee.label, callee.label))
        try:
            with self._recorder.call(entry.i, (0, entry.n), steps):
                given = digest(callee.function(*args, **kwargs), raised=False)
        except NonDeterminismError as error:
            raise NonDeterminismError(f"call {entry.n}, {callee.label}: {error}") from error
        except Exception as error:  # noqa: BLE001 - perhaps it raised before, too
            given = digest(error, raised=True)
        finally:
            current_call.set(None)
        if given != entry.d:
            raise NonDeterminismError(
                f"call {entry.n}, {callee.label}, gave another result. Methods must take the time, "
                "random numbers and all that is outside from celery_actors.ctx"
            )
        self._calls += 1
