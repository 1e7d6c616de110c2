"""What a node owns in the store and has no process for: found and settled.

A process may end while the store does not answer, and a step may be done whose reply never came.
Other nodes settle nothing of that: this one lives. Actors that died and were not buried are seen to
by every node.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from .. import directory, routing
from ..assignment import Assignment
from ..errors import ClusterUnreachableError
from ..store import Store, StoreError
from .process import WorkerProcess
from .recovery import Lost, actor_lost, session_lost, shared_lost

__all__ = ["Orphan", "Reconcile", "TwoLooks"]

logger = logging.getLogger(__name__)

#: Ticks between two looks while nothing is wrong.
TICKS = 10
#: Actors that are buried in one tick: each takes a dozen round trips, and the lease is 3 s.
BURIALS = 20
_UNKNOWN = "its process is gone, and how it ended is not known"


class Orphan(NamedTuple):
    """An actor, shared worker or session without a process, and the owner it has in the store.

    A dead actor has its queue in place of an owner.
    """

    name: str
    owner: str


class TwoLooks:
    """Believes only what two looks running have found."""

    def __init__(self) -> None:
        self.suspects: frozenset[Orphan] = frozenset()

    def look(self, found: Iterable[Orphan]) -> frozenset[Orphan]:
        """Return those that the look before had found, too."""
        before, self.suspects = self.suspects, frozenset(found)
        return before & self.suspects


class Reconcile:
    """Settles what the ended processes of one node leave, and what it owns without a process."""

    def __init__(self, store: Store, incarnation: str, host: str, ttl: int) -> None:
        self._store = store
        self._incarnation = incarnation
        self._host = host
        self._ttl = ttl
        self._unsettled: list[tuple[WorkerProcess, Lost]] = []
        self._owned, self._sessions, self._dying = TwoLooks(), TwoLooks(), TwoLooks()
        self._ticks = 0

    def ended(self, worker: WorkerProcess, lost: Lost, present: Iterable[Assignment] = ()) -> None:
        """Settle what an ended worker leaves; with the store away, keep it for the next look.

        An actor that was passive for a moment may have a process again among those ``present``.
        """
        try:
            self._settle(worker, lost, {each.actor_id for each in present})
        except (ClusterUnreachableError, StoreError) as error:
            self._unsettled.append((worker, lost))
            logger.warning(
                "%s; what worker %s left is settled when the store answers again, by another node "
                "if this one ends before", error, worker.assignment.label,
            )  # fmt: skip

    def hasten(self) -> None:
        """Look again with the next tick: the store was away, and nobody knows what it has done."""
        self._ticks = TICKS

    def look(self, present: Collection[Assignment]) -> None:
        """Settle what has no process; ``present`` is what has one. To be called once a tick."""
        self._settle_the_rest(present)
        self._ticks += 1
        if self._ticks >= TICKS or self._owned.suspects or self._sessions.suspects:
            self._ticks = 0
            for orphan in self._owned.look(self._without_process(present)):
                self._give_up(orphan)
            for session in self._sessions.look(self._sessions_left(present)):
                session_lost(self._store, self._incarnation, session.name, self._ttl)

    def bury(self, dying: Mapping[str, str]) -> None:
        """Bury the dead whose burial was left half-way. To be called once a tick.

        ``dying``: their queues. Whoever ended them may have died on the way, and then nobody else
        would answer their calls.
        """
        left = self._dying.look(Orphan(actor_id, queue) for actor_id, queue in dying.items())
        for actor_id, queue in sorted(left)[:BURIALS]:
            logger.warning("actor %s died and was not buried; answering its calls", actor_id)
            directory.reap(self._store, actor_id, queue, self._ttl)

    def _settle_the_rest(self, present: Collection[Assignment]) -> None:
        running = {each.actor_id for each in present}
        for kept in self._unsettled.copy():
            try:
                self._settle(*kept, running)
                self._unsettled.remove(kept)
            except StoreError as error:  # this one only: the store does answer
                logger.warning("%s; worker %s is not settled", error, kept[0].assignment.label)

    def _settle(self, worker: WorkerProcess, lost: Lost, running: Collection[str]) -> None:
        """Settle one worker; ``running``: actors that have a process again, so leave its kill."""
        mine, store = worker.assignment, self._store
        if not mine.actor_id or mine.actor_id not in running:
            worker.forget(store, self._host)
        if mine.actor_id:
            actor_lost(store, mine.actor_id, mine.queue, mine.owner, lost, self._ttl)
            if mine.actor_id not in running:
                store.run("SREM", routing.kill_key(self._incarnation), mine.actor_id)
            self._disown(mine.actor_id, mine.keys.meta)
        else:
            shared_lost(store, mine.worker_id, mine.owner, lost, self._ttl)
        session_lost(store, self._incarnation, mine.session, self._ttl)

    def _without_process(self, present: Collection[Assignment]) -> list[Orphan]:
        """Return what this node run owns and has no process for."""
        unsettled = [worker.assignment for worker, _ in self._unsettled]  # better known than here
        running = {each.actor_id or each.worker_id for each in (*present, *unsettled)}
        owned = self._store.texts("SMEMBERS", routing.owned_key(self._incarnation))
        return [Orphan(name, self._owner_of(name)) for name in owned if name not in running]

    def _owner_of(self, name: str) -> str:
        if name.startswith("w-"):
            return self._store.hash(routing.worker_keys(name).meta).get("own", "")
        record = directory.find(self._store, name)
        return record.meta.get("own", "") if record is not None else ""

    def _give_up(self, orphan: Orphan) -> None:
        """Settle what nobody saw the end of, then own it no more."""
        name, owner = orphan
        logger.warning("%s has no process any more; settling what it left", name)
        lost, meta = Lost(_UNKNOWN), ""
        if name.startswith("w-"):
            shared_lost(self._store, name, owner, lost, self._ttl)
            meta = routing.worker_keys(name).meta
        elif (record := directory.find(self._store, name)) is not None:
            if owner.partition("|")[0] == self._incarnation:
                actor_lost(self._store, name, record.keys.queue, owner, lost, self._ttl)
            meta = record.keys.meta
        self._disown(name, meta)

    def _disown(self, name: str, meta: str) -> None:
        """Own something no more, if its record says so, too.

        A store that was rolled back may name a process of ours that had ended before: the next
        looks find that.
        """
        self._store.scripts.disown(
            routing.owned_key(self._incarnation), meta, name, self._incarnation
        )

    def _sessions_left(self, present: Collection[Assignment]) -> list[Orphan]:
        """Return the sessions of this node run's workers whose processes are gone."""
        running = {each.session for each in present}
        known = self._store.texts("SMEMBERS", routing.sessions_key(self._incarnation))
        return [Orphan(session, "") for session in known if session not in running]
