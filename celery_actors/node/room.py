"""Room on a node: workers of functions are kept ready where CPUs are free, and end for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from .. import routing
from ..need import UNIT, Need
from ..options import FunctionOptions
from ..placement import Ledger
from .process import WorkerProcess
from .saving import Saving

__all__ = ["RESIDENT", "Room"]

#: Seconds for which more workers than CPUs are kept: the next blocking `get` may need them.
SURPLUS_SECONDS = 1.0
#: Seconds for which a worker of functions may go on where an actor with the same need waits.
TURN_SECONDS = 1.0
#: What a call needs for which workers are kept ready.
RESIDENT = FunctionOptions().need


class Room:
    """The workers of functions on one node, and the room that they leave."""

    def __init__(
        self, ledger: Ledger, saving: Saving, workers: Callable[[], Collection[WorkerProcess]]
    ) -> None:
        self._ledger = ledger
        self._saving = saving
        self._workers = workers
        self._calls_wait = False  # for workers that are kept ready
        self._begun: dict[str, tuple[int, str]] = {}  # worker -> its last call, and of what kind
        self._surplus_since = 0.0
        self._awaited = 0  # CPU units that requests wait for until workers have ended
        self.comes = False  # workers are ending for the request that is looked at

    def look(self, *, calls_wait: bool) -> None:
        """Begin a look; ``calls_wait``: there are calls for workers that are kept ready."""
        self._calls_wait = calls_wait
        self._awaited = 0

    def _resident(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers() if worker.is_resident]

    def makes(self, need: Need, label: str = "") -> bool:
        """Tell whether a need can be met now; else have workers end that are in the way.

        Idle ones, and for a kind that the node saves for also those that take one call after the
        other. As soon as enough of them have ended, the node looks again, and the need is met. The
        ledger does not know resident workers: what is free there they use, a CPU each, and a busy
        one ends with the call that it runs.
        """
        if not self._ledger.fits(need):
            self.retire_for(need, label)
            return False
        if not need.cpus:
            return True
        left = self._ledger.free["CPU"] - need.cpus - self._awaited
        running = [worker for worker in self._resident() if not worker.blocked]
        excess = len(running) - max(0, left) // UNIT
        if excess <= 0:
            return True
        self._awaited += need.cpus
        self.comes = True
        # Where calls wait, a fresh worker takes one first: else each kind would end the other's.
        choice = [
            worker for worker in running
            if worker.retiring or not (self._calls_wait and worker.note()[0] == 0)
        ]  # fmt: skip
        # One that was to end took a call meanwhile, and may run for long: an idle one goes first.
        choice.sort(key=lambda worker: (worker.busy, not worker.retiring, worker.born))
        for worker in choice[:excess]:
            if not worker.retiring:
                worker.retire()
        return False

    def retire_for(self, need: Need, label: str) -> None:
        """Have workers of functions end, if that makes room: busy ones with the call they run.

        None that has run no call yet, or each kind would end the other's; and none of the same
        kind: it is about to take the next call.
        """
        books, chosen = self._ledger.copy(), []
        saved, queue = self._saving.is_for(label), routing.shared_queue(label)
        for worker in sorted(self._workers(), key=lambda each: each.busy):
            grant, mine = worker.grant, worker.assignment
            may_end = worker.note()[0] > 0 and (saved or not worker.busy)
            ours = grant is not None and grant.ledger is self._ledger and not mine.actor_id
            if grant and ours and may_end and mine.queue != queue:
                worker.hand_back(books)
                chosen.append(worker)
                if books.fits(need):
                    self._awaited += need.cpus
                    self.comes = True
                    for one in chosen:
                        one.retire()
                    return

    def end_turn(self, queue: str) -> None:
        """Have a worker of functions end whose turn is over: an actor with the same need waits."""
        mine = [each for each in self._workers() if each.assignment.queue == queue]
        oldest = min(mine, key=lambda worker: worker.born, default=None)
        if oldest is not None and time.monotonic() - oldest.born > TURN_SECONDS:
            oldest.retire()

    def note_progress(self) -> None:
        """Note of which kinds a call has begun: a worker takes one after the other by itself."""
        begun = {
            worker.assignment.worker_id: (worker.note()[0], worker.assignment.need.label)
            for worker in self._workers() if worker.grant and not worker.assignment.actor_id
        }  # fmt: skip
        for worker_id, (position, label) in begun.items():
            if self._begun.get(worker_id, (position,))[0] != position:
                self._saving.served(label)
        self._begun = begun

    def fill(self, start: Callable[[bool], None]) -> None:
        """Keep one worker ready for each free CPU, one more for each that waits in a `get`.

        ``start`` starts one; it is told whether that stands in for one that waits.
        """
        everyone = self._resident()
        resident = [worker for worker in everyone if not worker.retiring]
        blocked = sum(worker.blocked for worker in resident)
        ending = sum(worker.retiring and not worker.blocked for worker in everyone)
        free = self._ledger.free.get("CPU", 0) - self._awaited
        if not self._saving.is_for(RESIDENT.label):
            free -= self._saving.cpus(self._ledger)
        wanted = max(0, free) // UNIT + blocked
        for number in range(len(resident), wanted - ending):
            start(number >= wanted - blocked)
            self._saving.served(RESIDENT.label)
        if self._calls_wait and not wanted and len(resident) == blocked:
            self._saving.passed_over(RESIDENT.label)
            if self._saving.is_for(RESIDENT.label):
                self.retire_for(RESIDENT, RESIDENT.label)
        if len(resident) <= wanted:
            self._surplus_since = 0.0
            return
        now = time.monotonic()
        self._surplus_since = self._surplus_since or now
        if now - self._surplus_since > SURPLUS_SECONDS:
            idle = sorted((w for w in resident if not w.blocked and w.ready), key=lambda w: w.born)
            for worker in idle[wanted - blocked :]:
                worker.retire()

    def without_calls(self) -> Ledger:
        """Return the books as they would be if no function call ran."""
        books = self._ledger.copy()
        for worker in self._workers():
            grant = worker.grant
            if grant and grant.ledger is self._ledger and not worker.assignment.actor_id:
                worker.hand_back(books)
        return books

    def free(self) -> dict[str, int]:
        """Return what is free, less what resident workers use that run a call."""
        free = dict(self._ledger.free)
        busy = sum(worker.busy and not worker.blocked for worker in self._resident())
        if busy:
            free["CPU"] = free.get("CPU", 0) - busy * UNIT
        return free
