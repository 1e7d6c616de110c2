"""What a durable actor of the simulation keeps: the product's own code, around a list of calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

from celery_actors import routing
from celery_actors.actor_state import ActorState
from celery_actors.config import KeyRing
from celery_actors.durable_journal import KeptJournal
from celery_actors.durable_state import Kept, KeptState
from celery_actors.executor import Callee, Started
from celery_actors.messages import Message
from celery_actors.recording import Recorder, ctx, step
from celery_actors.serialization import Sealer

__all__ = ["SEALER", "Durable", "Memory"]

SEALER = Sealer(KeyRing((b"\x01" * 32,)))
#: How a durable actor keeps its state; '' none does.
Durable = Literal["", "state", "journal"]


class Tally:
    """The actor: it remembers the calls that took effect."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def add(self, call_id: str) -> tuple[int, Any]:
        """Take effect; the second member is another one when the call runs again."""
        self.calls.append(call_id)
        return len(self.calls), step("token", lambda: ctx.token)


class Memory:
    """The instance in one process, and what the product keeps of it.

    Args:
        store: runs commands, one round trip each.
        every: calls after which a journal's state is stored.
    """

    def __init__(
        self, store: Any, keys: routing.ActorKeys, durable: Durable, every: int = 1
    ) -> None:
        self.instance = Tally()
        self._runs = 0
        self._recorder = Recorder(_keep, {}, journaled=durable == "journal")
        # What the product's code needs of the runtime: nothing here refers to anything.
        runtime: Any = SimpleNamespace(
            store=store, sealer=SEALER, calls=SimpleNamespace(settle=lambda: None),
            holdings=SimpleNamespace(own="", ties=lambda *_: [], add=lambda _: None),
        )  # fmt: skip
        words = (runtime, self, ActorState(Tally, keys.actor_id, "the actor", SEALER), keys)
        self.kept: Kept
        if durable == "journal":
            self.kept = KeptJournal(
                *words, find=self._find, recorder=self._recorder, every=every, title="the actor"
            )
        else:
            self.kept = KeptState(*words)

    def _find(self, _method: str) -> Callee:
        return Callee(self.instance.add, "Tally.add")

    def run(self, message: Message) -> int:
        """Let a call take effect on the instance; return the how manieth it is."""
        self.kept.started(message, Started([message.call_id], {}))
        self._runs += 1
        with self._recorder.call(message.call_id, (1, self._runs)):
            given = self.instance.add(message.call_id)
        self.kept.ended(given, raised=False)
        return given[0]

    def note(self) -> None:
        """Keep what the call has done that has just run."""
        self.kept.note(self.kept.make())


def _keep(name: str, _data: bytes) -> None:
    raise AssertionError(f"{name} is no step outside")
