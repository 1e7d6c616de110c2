"""The end of a node: it takes nothing new, and each worker ends as its work allows.

Workers of functions, and actors that may restart, end with the call that they run: what waits for
them goes on elsewhere. An actor that cannot restart would be lost with all that waits for it, so it
may be left to serve until the node's patience is over.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Collection

from ..directory import ActorRecord
from .process import WorkerProcess

__all__ = ["Draining"]

#: Seconds between the request to end and the end for what had served until the patience was over.
LAST_SECONDS = 5.0


class Draining:
    """How one node ends.

    Args:
        why: who wants it to, for the causes that callers read.
        seconds: the patience with what runs.
        serves: actors that cannot restart go on until then.
    """

    def __init__(self, why: str, seconds: float, *, serves: bool) -> None:
        self.why = why
        self._seconds = seconds
        self._serves = serves
        self._until = time.monotonic() + seconds
        self._told: dict[str, signal.Signals] = {}

    @property
    def over(self) -> float:
        """Seconds since its patience was used up; below zero: seconds that are left."""
        return time.monotonic() - self._until

    def look(self, workers: Collection[WorkerProcess]) -> None:
        """Tell the workers whose time has come, each once."""
        over = self.over
        for worker in workers:
            number = self._due(worker, over, alone=len(workers) == 1)
            name = worker.assignment.worker_id
            if number is not None and worker.pid and self._told.get(name) != number:
                self._told[name] = number
                worker.signal(number)

    def _due(self, worker: WorkerProcess, over: float, *, alone: bool) -> signal.Signals | None:
        if over >= (LAST_SECONDS if self._serves else 0.0):
            return signal.SIGKILL
        if over >= 0.0 or not self._serves:
            return signal.SIGTERM
        if worker.is_face:  # Celery's tools see the node as long as something runs there
            return signal.SIGTERM if alone else None
        return None if _stays(worker) else signal.SIGTERM

    def has_told(self, worker: WorkerProcess) -> bool:
        """Tell whether a worker ends because the node does."""
        return worker.assignment.worker_id in self._told

    def cause(self, worker: WorkerProcess, host: str) -> str:
        """Return why a worker that was told has ended, for those who called it."""
        what = "drained" if self._serves else "stopped"
        text = f"its node {host} was {what} ({self.why})"
        if self._seconds and self._told[worker.assignment.worker_id] is signal.SIGKILL:
            return f"{text}, and it had not ended after {self._seconds:g} s"
        if self._serves and _stays(worker):
            return (
                f"{text}: it could not move, for it has no restart left (max_restarts), and the "
                f"{self._seconds:g} s for which it might go on are over"
            )
        return text


def _stays(worker: WorkerProcess) -> bool:
    """Tell whether an actor cannot go on elsewhere."""
    mine = worker.assignment
    return bool(mine.actor_id) and not ActorRecord(mine.actor_id, mine.meta).restarts_left
