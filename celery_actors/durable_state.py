"""What a durable actor keeps of its calls: the whole state after each (``durable="state"``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from .actor_state import ActorState, Taken
from .executor import Started
from .messages import Message
from .routing import ActorKeys
from .runtime import Runtime
from .store import Step

__all__ = ["Holder", "Kept", "KeptState", "News"]


class Holder(Protocol):
    """What has the instance."""

    instance: Any


class News(NamedTuple):
    """What a commit brings to the store: the state, '' for none; ties to add and to drop; steps."""

    state: bytes = b""
    added: Sequence[str] = ()
    dropped: Sequence[str] = ()
    steps: tuple[Step, ...] = ()


class Ties:
    """What an actor's stored state refers to, as the store knows it (see ``tokens``)."""

    def __init__(self, runtime: Runtime, actor_id: str) -> None:
        self._holdings = runtime.holdings
        self._actor_id = actor_id
        self.known: dict[str, None] = {}

    def of(self, things: Iterable[str]) -> list[str]:
        """Return the ties of things: a handle to oneself keeps nobody alive."""
        others = [thing for thing in things if thing != self._holdings.own]
        return self._holdings.ties(others, "a", self._actor_id)

    def change(self, ties: list[str]) -> tuple[list[str], list[str]]:
        """Take in the ties of a new state; return those to add and those to drop."""
        before, self.known = self.known, dict.fromkeys(ties)
        return [t for t in ties if t not in before], [t for t in before if t not in self.known]


class Kept(ABC):
    """What is common to both ways of keeping a state."""

    def __init__(
        self, runtime: Runtime, holder: Holder, state: ActorState, keys: ActorKeys
    ) -> None:
        self.keys = keys
        self._runtime = runtime
        self._holder = holder
        self._state = state
        self._ties = Ties(runtime, keys.actor_id)

    @abstractmethod
    def started(self, message: Message, args: Started) -> None:
        """Take note that a run of a call begins."""

    @abstractmethod
    def ended(self, value: Any, *, raised: bool) -> None:
        """Take note of what it gave."""

    @abstractmethod
    def load(self, stored: bytes) -> None:
        """Make the instance from a stored state.

        Raises:
            StateRefusedError: its class cannot take it. NonDeterminismError: a call since then
                gave another result.
        """

    @abstractmethod
    def first(self) -> News:
        """Return what is to be stored before the first call; no state: it is there.

        Raises:
            SerializationError: it cannot be pickled.
        """

    def last(self) -> News:
        """Return what is to be stored before the process ends in order; no state: it is there."""
        return News()

    @abstractmethod
    def make(self) -> Any:
        """Return what ``note`` takes of the call that has just ended.

        Raises:
            SerializationError: it cannot be pickled.
        """

    @abstractmethod
    def note(self, made: Any) -> None:
        """Keep what a call has made: its answer is about to be committed."""

    @abstractmethod
    def news(self) -> News:
        """Return what the store does not have yet."""

    def _without_calls(self) -> News:
        """Return the news for a write beside any commit; what they add is in the store by now."""
        news = self.news()
        self._runtime.holdings.add(news.added)
        self._runtime.calls.settle()
        return news

    @abstractmethod
    def roll_back(self) -> None:
        """Give the instance the state that the call before the present one has left.

        What that call and those before it have made is committed.
        """


class KeptState(Kept):
    """The whole state, after each call."""

    _data = b""  # the pickle, as the last call left it
    _things: list[str]
    _stored = b""

    def started(self, message: Message, args: Started) -> None:
        """Nothing: the state will say what the call did."""

    def ended(self, value: Any, *, raised: bool) -> None:
        """Nothing, as before it."""

    def load(self, stored: bytes) -> None:
        """Make the instance from its state."""
        loaded = self._state.load(stored)
        self._holder.instance, self._ties.known = loaded.instance, dict.fromkeys(loaded.ties)

    def first(self) -> News:
        """Return the state that the constructor, or a migration, has made."""
        self.note(self.make())
        return self._without_calls()

    def make(self) -> Taken:
        """Return the state as it is now."""
        return self._state.take(self._holder.instance)

    def note(self, made: Taken) -> None:
        """Keep the state that a call has left."""
        self._data, self._things = made

    def news(self) -> News:
        """Return the state where it has changed."""
        if self._data == self._stored:
            return News()
        self._stored = self._data
        ties = self._ties.of(self._things)
        return News(self._state.sign(self._data, ties), *self._ties.change(ties))

    def roll_back(self) -> None:
        """Read the last state again."""
        self._holder.instance = self._state.restore(self._data)
