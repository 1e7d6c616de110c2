"""What a node takes on: the node's own ledger decides, nobody else's."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Collection

from .. import gpu, routing
from ..assignment import Assignment
from ..options import FunctionOptions
from ..placement import UNIT, Allocation, Ledger, Need
from ..store import Store
from .process import WorkerProcess

__all__ = ["Intake"]

#: Workers that may be starting at once; more would only share the same processors.
STARTING = 4
#: Seconds for which more workers than CPUs are kept: the next blocking `get` may need them.
SURPLUS_SECONDS = 1.0
_RESIDENT = FunctionOptions().need


class Intake:
    """Claims actors and starts shared workers as far as the resources go."""

    def __init__(
        self, store: Store, incarnation: str, ledger: Ledger,
        workers: Callable[[], Collection[WorkerProcess]],
        start: Callable[[Assignment, Allocation | None], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._incarnation = incarnation
        self._ledger = ledger
        self._workers = workers
        self._start = start
        self._surplus_since = 0.0

    def look(self) -> None:
        """Take what waits and fits."""
        self._fill_resident()
        for label, amounts in self._store.hash(routing.NEEDS).items():
            need = Need.of_label(label, json.loads(amounts))
            while self._starting() < STARTING and self._claim_actor(label, need):
                pass
            if label != _RESIDENT.label:
                self._serve_shared(label, need)

    def _starting(self) -> int:
        return sum(not worker.ready for worker in self._workers())

    def _claim_actor(self, label: str, need: Need) -> bool:
        if not need.amounts and self._ledger.total.get("CPU", 0) == 0:
            return False  # Ray: an actor without a stated need is placed on a node that has a CPU
        allocation = self._ledger.acquire(need)
        if allocation is None:
            return False
        owner = f"{self._incarnation}|{secrets.token_hex(4)}"
        claim = self._store.scripts.claim(
            routing.creation_queue(label), routing.owned_key(self._incarnation),
            routing.lease_key(self._incarnation), owner, routing.PREFIX,
        )  # fmt: skip
        if claim is None:
            self._ledger.release(allocation)
            return False
        meta = claim.meta
        name = meta.get("name", "").partition("\x1f")[2] or None
        assignment = Assignment(
            worker_id=f"a-{claim.actor_id}-{owner[-8:]}", queue=claim.queue, epoch=claim.epoch,
            owner=owner, session=self._new_session(), position=int(meta["ap"]),
            actor_id=claim.actor_id, meta=meta,
            label=routing.worker_label(meta["class"], name, claim.actor_id),
            environ=_environment(need, allocation), env=need.env, resources=need.plain,
            devices=tuple(gpu.names(allocation.gpu_ids)),
        )  # fmt: skip
        self._start(assignment, allocation)
        return True

    def _new_session(self) -> str:
        """Return a name for a process; should this node be lost, others end what it holds."""
        session = secrets.token_hex(8)
        self._store.run("SADD", routing.sessions_key(self._incarnation), session)
        return session

    def _fill_resident(self) -> None:
        """Keep one worker ready for each free CPU, one more for each that waits in a `get`."""
        resident = [w for w in self._workers() if w.is_resident and not w.retiring]
        blocked = sum(worker.blocked for worker in resident)
        wanted = max(0, self._ledger.free.get("CPU", 0)) // UNIT + blocked
        for number in range(len(resident), wanted):
            self._start_shared(_RESIDENT, None, lent=number >= wanted - blocked)
        if len(resident) <= wanted:
            self._surplus_since = 0.0
            return
        now = time.monotonic()
        self._surplus_since = self._surplus_since or now
        if now - self._surplus_since > SURPLUS_SECONDS:
            idle = sorted((w for w in resident if not w.blocked and w.ready), key=lambda w: w.born)
            for worker in idle[wanted - blocked :]:
                worker.retiring = True
                worker.signal(signal.SIGTERM)

    def _serve_shared(self, label: str, need: Need) -> None:
        """Start workers for calls of a kind that none are kept ready for."""
        queue = routing.shared_queue(label)
        waiting = int(self._store.run("LLEN", queue))
        serving = sum(w.assignment.queue == queue and not w.ready for w in self._workers())
        while serving < waiting and self._starting() < STARTING:
            allocation = self._ledger.acquire(need)
            if allocation is None:
                return
            self._start_shared(need, allocation)
            serving += 1

    def _start_shared(
        self, need: Need, allocation: Allocation | None, *, lent: bool = False
    ) -> None:
        resident = allocation is None
        worker_id = f"w-{secrets.token_hex(6)}"
        owner = f"{self._incarnation}|{worker_id}"
        queue = routing.shared_queue(need.label)
        words = ("ep", "1", "own", owner, "ap", 0, "go", 0, "source", queue, "st", "alive",
                 "resident", "1" if resident else "0")  # fmt: skip
        self._store.run("SADD", routing.owned_key(self._incarnation), worker_id)
        self._store.run("HSET", routing.worker_keys(worker_id).meta, *words)
        assignment = Assignment(
            worker_id=worker_id, queue=queue, epoch="1", owner=owner,
            session=self._new_session(), resident=resident,
            lent=lent,
            label=f"tasks-{need.label}-{worker_id[-4:]}", meta={"class": "task"},
            environ=_environment(need, allocation), env=need.env, resources=need.plain,
            devices=tuple(gpu.names(allocation.gpu_ids)) if allocation else (),
        )  # fmt: skip
        self._start(assignment, allocation)


def _environment(need: Need, allocation: Allocation | None) -> dict[str, str]:
    """Return the variables of a worker: its devices, and threads for the CPUs it holds."""
    environ = gpu.environment(allocation.gpu_ids) if allocation else {}
    if "OMP_NUM_THREADS" not in os.environ:
        environ["OMP_NUM_THREADS"] = str(max(1, need.cpus // UNIT))
    return environ
