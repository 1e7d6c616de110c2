"""The actors of a chaos run: one behaviour, under each of the promises that an actor can have.

They write down what they run, at once, in files that outlive them. What they compute is not
computed by ``model.py``: that one judges them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celery_actors as ca

from .history import Event, append

__all__ = ["KINDS", "Kind", "runs_file"]


def runs_file(folder: str | Path, slot: str) -> Path:
    """Return where all actors that ever have a slot write what they run."""
    return Path(folder) / f"runs-{slot}.jsonl"


class Account:
    """A counter and a register. Each call says who makes it, and its number among that one's."""

    def __init__(self, folder: str, slot: str) -> None:
        self.file = str(runs_file(folder, slot))
        self.actor = ca.get_runtime_context().get_actor_id() or ""
        self.incarnation = secrets.token_hex(4)  # of the state: a durable one is born once
        self.ordinal = self.total = self.register = 0
        self._note("born", "", 0, self.incarnation)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of an earlier process."""
        self.__dict__.update(state)
        self._note("woke", "", 0, self.incarnation)

    def add(self, caller: str, number: int, amount: int) -> list[Any]:
        """Add to the counter; return its new value."""
        self.total += amount
        return self._ran("add", caller, number, amount, self.total)

    def swap(self, caller: str, number: int, value: int) -> list[Any]:
        """Set the register; return what it was."""
        before, self.register = self.register, value
        return self._ran("swap", caller, number, value, before)

    def read(self, caller: str, number: int, mark: int) -> list[Any]:
        """Return both; the mark is only written down."""
        return self._ran("read", caller, number, mark, [self.total, self.register])

    def _ran(self, method: str, caller: str, number: int, operand: int, result: Any) -> list[Any]:
        self.ordinal += 1
        self._note("run", method, number, [self.incarnation, self.ordinal, caller, operand, result])
        return [self.incarnation, self.ordinal, result]

    def _note(self, kind: str, method: str, number: int, value: Any) -> None:
        event = Event(
            str(os.getpid()), kind, self.actor, method, value, time.monotonic_ns(), number
        )
        append(self.file, event)


class Overlapping(Account):
    """The same, with other calls under way while one waits."""

    async def add(self, caller: str, number: int, amount: int) -> list[Any]:  # type: ignore[override]
        await asyncio.sleep(0.001)
        return super().add(caller, number, amount)

    async def swap(self, caller: str, number: int, value: int) -> list[Any]:  # type: ignore[override]
        await asyncio.sleep(0.001)
        return super().swap(caller, number, value)

    async def read(self, caller: str, number: int, mark: int) -> list[Any]:  # type: ignore[override]
        await asyncio.sleep(0.001)
        return super().read(caller, number, mark)


@dataclass(frozen=True)
class Kind:
    """One promise: how such an actor is made, and what its calls may come to."""

    cls: Any
    options: dict[str, Any]
    restarts: bool  # lives on where its process is killed
    again: bool  # a call that had begun then runs again: none of its calls may fail
    ordered: bool = True
    lasting: bool = False  # its state outlives its process


KINDS = {
    "durable": Kind(
        ca.remote(durable=True)(Account), {}, restarts=True, again=True, lasting=True
    ),
    "journaled": Kind(
        ca.remote(durable="journal", snapshot_every=20)(Account), {},
        restarts=True, again=True, lasting=True,
    ),
    "mortal": Kind(ca.remote(Account), {}, restarts=False, again=False),
    "restarting": Kind(ca.remote(Account), {"max_restarts": -1}, restarts=True, again=False),
    "retried": Kind(
        ca.remote(Account), {"max_restarts": -1, "max_task_retries": -1},
        restarts=True, again=True,
    ),
    "overlapping": Kind(
        ca.remote(Overlapping), {"max_restarts": -1, "max_concurrency": 4},
        restarts=True, again=False, ordered=False,
    ),
}  # fmt: skip
