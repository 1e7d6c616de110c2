"""What makes the actor of this process durable: its kept state and the record of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .actor_state import ActorState
from .assignment import Assignment
from .durable_journal import KeptJournal
from .durable_state import Kept, KeptState, News
from .errors import FencedError
from .executor import Callee
from .methods import ActorTraits
from .recording import Recorder
from .runtime import Runtime
from .tokens import drop

__all__ = ["Durability"]


class Hosted(Protocol):
    """The actor as its process has it."""

    instance: Any

    def find(self, method: str) -> Callee | None:
        """Return what a method's name stands for."""


@dataclass(frozen=True, slots=True)
class Durability:
    """One durable actor's state and steps."""

    runtime: Runtime
    assignment: Assignment
    kept: Kept
    recorder: Recorder

    @classmethod
    def of(
        cls, runtime: Runtime, hosted: Hosted, kind: type, mine: Assignment, traits: ActorTraits,
        title: str,
    ) -> Durability:  # fmt: skip
        """Return what an actor of this class needs."""
        state = ActorState(kind, mine.actor_id, title, runtime.sealer)
        steps = _Steps(runtime, mine)
        journaled = traits.durable == "journal"
        recorder = Recorder(steps.keep, steps.load(), journaled=journaled)
        kept: Kept
        if journaled:
            kept = KeptJournal(
                runtime, hosted, state, mine.keys, find=hosted.find, recorder=recorder,
                every=traits.snapshot_every, title=title,
            )  # fmt: skip
        else:
            kept = KeptState(runtime, hosted, state, mine.keys)
        return cls(runtime, mine, kept, recorder)

    def begin(self, fields: dict[str, Any]) -> bool:
        """Note in the actor's record that it lives, and store its first state; False when fenced.

        Raises:
            SerializationError: the state cannot be pickled.
        """
        return self._store(self.kept.first(), self.assignment.position, fields)

    def close(self, position: int) -> None:
        """Store the state where only calls are: the process ends in order, at this position."""
        news = self.kept.last()
        if news.state:
            self._store(news, position, {"st": "alive"})

    def _store(self, news: News, position: int, fields: dict[str, Any]) -> bool:
        mine, store = self.assignment, self.runtime.store
        keys = (mine.keys.meta, mine.keys.state, mine.keys.journal)
        owned = store.scripts.born(keys, news.state, position, mine.epoch, mine.owner, fields)
        if owned:
            drop(store, news.dropped)  # the state without them is there: late, never early
        return owned


class _Steps:
    """The outside steps of calls that have not committed, in the store."""

    def __init__(self, runtime: Runtime, mine: Assignment) -> None:
        self._runtime = runtime
        self._mine = mine

    def _place(self, name: str) -> tuple[str, ...]:
        return ("step", self._mine.actor_id, name)

    def keep(self, name: str, data: bytes) -> None:
        """Store what a step gave.

        Raises:
            FencedError: another process owns the actor now.
        """
        mine, keys = self._mine, self._mine.keys
        signed = self._runtime.sealer.sign(data, self._place(name))
        words = (keys.meta, keys.steps, mine.epoch, mine.owner, name, signed)
        if not self._runtime.store.scripts.keep_step(*words):
            raise FencedError

    def load(self) -> dict[str, bytes]:
        """Return what is stored.

        Raises:
            UntrustedPayloadError: some of it was not stored by ``keep``.
        """
        stored = self._runtime.store.run("HGETALL", self._mine.keys.steps)
        names = {raw.decode(): signed for raw, signed in stored.items()}
        return {
            name: self._runtime.sealer.verified(signed, self._place(name))
            for name, signed in names.items()
        }
