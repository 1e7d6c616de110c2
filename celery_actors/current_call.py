"""Which call this thread or asyncio task runs, and what the process around it is."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["CurrentCall", "WorkerFacts", "current_call"]


class CurrentCall(NamedTuple):
    """One call, as code inside it may ask about it."""

    call_id: str
    name: str  # "Counter.add"; a function's own name, or the one that options gave it
    function_name: str


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What stays the same for all calls of one worker process."""

    worker_id: str
    resources: dict[str, float]
    devices: tuple[int | str, ...]
    group: str = ""  # the placement group that it runs in
    actor_id: str = ""
    actor_name: str = ""
    restarts: int = 0


#: Set by the host when a call starts. Each thread of an actor and each asyncio task has its own;
#: threads that user code starts have none.
current_call: ContextVar[CurrentCall | None] = ContextVar("celery_actors_call", default=None)
