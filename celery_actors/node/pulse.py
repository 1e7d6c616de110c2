"""Looks at the processes of a node's actors now and then, and says how they fare.

One small file of ``/proc`` is read per actor; where there is no ``/proc``, nothing is said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from .. import last_error, vitals
from ..assignment import ERROR_OFFSET
from ..store import Store
from .process import WorkerProcess

__all__ = ["Pulse"]

#: Actors whose last error is remembered after their processes have ended.
REMEMBERED = 200
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class Pulse:
    """What one node tells of its actors' processes."""

    def __init__(
        self, store: Store, node_id: str, workers: Callable[[], Iterable[WorkerProcess]]
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._workers = workers
        self._looked = 0.0
        self._told = False
        self._used: dict[int, float] = {}  # pid -> seconds of processor time at the last look
        self._errors: dict[str, vitals.Error] = {}

    def look(self, now: float) -> None:
        """Look and tell, where the last time is long enough ago."""
        since = now - self._looked
        if since < vitals.VITALS_SECONDS:
            return
        self._looked = now
        actors = [worker for worker in self._workers() if worker.assignment.actor_id and worker.pid]
        used: dict[int, float] = {}
        processes: dict[str, vitals.Process] = {}
        for worker in actors:
            self.note(worker)
            if (seen := _seen(worker.pid)) is not None:
                memory, used[worker.pid] = seen
                before = self._used.get(worker.pid, used[worker.pid])
                cpus = round((used[worker.pid] - before) / since, 3)
                process = vitals.Process(worker.pid, memory, cpus)
                processes[worker.assignment.actor_id] = process
        self._used = used
        if processes or self._told:  # a node without actors says so once
            self._told = bool(processes)
            news = vitals.NodeVitals(processes, self._errors)
            vitals.publish(self._store, self._node_id, news)

    def note(self, worker: WorkerProcess) -> None:
        """Take in the last error of a process; also when it has ended."""
        actor_id = worker.assignment.actor_id
        found = last_error.read(worker.progress, ERROR_OFFSET) if actor_id else None
        if found is None:
            return
        self._errors.pop(actor_id, None)
        self._errors[actor_id] = vitals.Error(round(found.when, 3), found.text)
        if len(self._errors) > REMEMBERED + len(self._used):
            del self._errors[next(iter(self._errors))]


def _seen(pid: int) -> tuple[int, float] | None:
    """Return the resident bytes of a process and the seconds of processor time it has used."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:  # it has just ended
        return None
    try:
        # The name of the program, in parentheses, may hold blanks; fields count from behind it.
        fields = os.read(file, 4096).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(file)
    return int(fields[21]) * _PAGE_BYTES, (int(fields[11]) + int(fields[12])) / _TICKS
