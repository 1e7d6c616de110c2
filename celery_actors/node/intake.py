"""What a node takes on: the node's own ledger decides, nobody else's."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from .. import routing
from ..assignment import Assignment
from ..gpu import Devices
from ..need import UNIT, Need
from ..placement import Grant, Ledger, NodeView
from ..registry import shown
from ..store import Store, StoreError, Waiting
from ..unreadable import UNREADABLE
from .process import WorkerProcess
from .reservations import Reservations
from .room import RESIDENT, Room
from .saving import GROUP, Saving
from .stranded import Stranded

__all__ = ["Intake", "sent_by_others"]

logger = logging.getLogger(__name__)

#: Workers that may be starting at once; more would only share the same processors.
STARTING = 4
#: Processes of a node that may wait for arguments without holding what their work needs.
PARTED_MOST = 16
_PREFIXES = (routing.creation_queue(""), routing.shared_queue(""))


def sent_by_others(me: NodeView) -> list[Need]:
    """Return the needs that plain Celery clients may publish to, by ``gpu_queue``: its devices."""
    devices = len(me.total.devices)
    kinds = ["", *sorted(set(filter(None, me.total.kinds.values())))]
    return [
        Need.of(cpus=1, gpus=count, accelerator=kind, custom={})
        for kind in kinds for count in range(1, devices + 1)
    ]  # fmt: skip


def _same_again(worker: WorkerProcess) -> Need:
    """Return the need of a worker that waits for what it parted from."""
    parted = worker.parted
    assert parted is not None  # noqa: S101 - whoever asks has looked
    return replace(parted.allocation.need, gpu_ids=parted.allocation.gpu_ids)


class Intake:
    """Claims actors and starts shared workers as far as the resources go."""

    def __init__(
        self, store: Store, me: NodeView, devices: Devices, reservations: Reservations,
        stranded: Stranded, sent: Sequence[Need], workers: Callable[[], Collection[WorkerProcess]],
        start: Callable[[Assignment, Grant | None], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._me = me
        self._incarnation = me.node_id
        self._ledger = me.free
        self._devices = devices
        self._reservations = reservations
        self._stranded = stranded
        self._workers = workers
        self._start = start
        self._saving = Saving(store, me.node_id, self._without_calls)
        self._room = Room(self._ledger, self._saving, workers)
        self._needs: dict[str, Need] = {}
        self._others = sent
        # What plain Celery clients may send, who register nothing; and what resident workers serve.
        self._sent = [word for need in (RESIDENT, *sent) for word in (need.label, need.encode())]
        self._calls_next: set[str] = set()  # kinds of which an actor was served last

    def look(self) -> None:
        """Take what waits and fits."""
        groups, waiting = self._store.scripts.look(
            routing.NEEDS, routing.GROUPS_WAITING, _PREFIXES, self._sent
        )
        waiting = [each for each in waiting if self._understands(each)]
        self._needs = {each.label: self._needs[each.label] for each in waiting}
        self._room.look(
            calls_wait=any(each.label == RESIDENT.label and each.calls for each in waiting)
        )
        again = self._waiting_again()
        self._calls_next &= self._needs.keys()
        self._reservations.look(groups, self._room.makes, self._may_reserve)
        self._room.note_progress()
        self._saving.look(self._needs, self._reservations.saved)
        if (group := self._saving.group) is not None and not self._ledger.fits(group):
            self._room.retire_for(group, "")
        for label, worker in again.items():
            self._give_again(label, worker)
        for each in self._saving.in_order(waiting):
            self._serve(each, self._needs[each.label])
        self._room.fill(lambda lent: self._start_shared(RESIDENT, None, lent=lent))

    def _waiting_again(self) -> dict[str, WorkerProcess]:
        """Return the workers that wait for what they parted from, by a label of their own."""
        again = {f"again-{worker.assignment.worker_id}": worker for worker in self._workers()
                 if worker.parted is not None and not worker.awaits}  # fmt: skip
        self._needs |= {label: _same_again(worker) for label, worker in again.items()}
        return again

    def resume(self) -> None:
        """Give what is here already what it parted from: all that a node does which ends."""
        for label, worker in self._waiting_again().items():
            self._give_again(label, worker)

    def _understands(self, waiting: Waiting) -> bool:
        """Tell whether a need can be read; one that cannot is forgotten, and stops no node."""
        if waiting.label not in self._needs:
            try:
                self._needs[waiting.label] = Need.decode(waiting.need)
            except UNREADABLE as error:
                logger.warning("the need %s is not what belongs there: %s", waiting.label, error)
                self._store.run("HDEL", routing.NEEDS, waiting.label)
        return waiting.label in self._needs

    def _serve(self, waiting: Waiting, need: Need) -> None:
        label = waiting.label
        ledgers = list(self._ledgers(need))
        if not ledgers:
            self._saving.forget(label)
            self._stranded.see_to(label, need)
            return
        queue = routing.shared_queue(label)
        # Those that start, and those that are about to take their next call or to end.
        coming = sum(w.assignment.queue == queue and w.takes_next for w in self._workers())
        actors = waiting.actors
        calls = 0 if label == RESIDENT.label else max(0, waiting.calls - coming)
        full = self._room.comes = False
        while (actors or calls) and self._starting() < STARTING and not full:
            # They wait in two queues, so they take turns: neither kind keeps the other from
            # starting where more and more of it come.
            if actors and not (calls and label in self._calls_next):
                full = not self._claim_actor(label, need, ledgers)
                actors -= not full
                turn = self._calls_next.add
            else:
                full = not self._start_for_call(label, need, ledgers)
                calls -= not full
                turn = self._calls_next.discard
            if not full:
                turn(label)
        if full and actors and label not in self._calls_next:
            self._room.end_turn(queue)
        if full and need.otherwise == "full" and not self._room.comes:
            self._stranded.pass_on(label, need)

    def _ledgers(self, need: Need) -> Iterator[Ledger]:
        """Return the books that a need could be met from: the node's, or those of its group."""
        if need.bundle:
            yield from self._reservations.ledgers(need)
        elif self._me.could_hold(need):
            yield self._ledger

    def _without_calls(self) -> Ledger:
        return self._room.without_calls()

    def _may_reserve(self, need: Need) -> bool:
        """Tell whether a placement group may have so much now, or would take what is saved."""
        return self._saving.allows(GROUP, need, self._ledger)

    def _starting(self) -> int:
        return sum(worker.is_starting for worker in self._workers())

    def _grant(self, label: str, need: Need, ledgers: list[Ledger]) -> Grant | None:
        """Grant a need for one request, unless it has to wait."""
        for ledger in ledgers:
            ours = ledger is self._ledger
            if ours and not (
                self._saving.allows(label, need, ledger) and self._room.makes(need, label)
            ):
                continue
            allocation = ledger.acquire(need)
            if allocation is not None:
                self._saving.served(label)
                return Grant(ledger, allocation)
        self._saving.passed_over(label)
        return None

    def part(self, worker: WorkerProcess) -> None:
        """Take back what a worker holds that waits for an argument, until that is there.

        Work holds nothing before it can run, as in Ray: what makes its argument may need the very
        same. Its process stays, so only some may; the others keep what they hold.
        """
        if not worker.awaits:
            if worker.parted is None:
                worker.tell({"go": True})
            return
        waiting = sum(each.parted is not None for each in self._workers())
        if worker.grant is not None and waiting < PARTED_MOST:
            worker.grant.release()
            worker.parted, worker.grant = worker.grant, None

    def _give_again(self, label: str, worker: WorkerProcess) -> None:
        """Give a worker what it parted from: the same devices, which its process was told."""
        if worker.parted is None:
            return
        grant = self._grant(label, self._needs[label], [worker.parted.ledger])
        if grant is not None:
            worker.grant, worker.parted = grant, None
            worker.tell({"go": True})

    def _claim_actor(self, label: str, need: Need, ledgers: list[Ledger]) -> bool:
        grant = self._grant(label, need, ledgers)
        if grant is None:
            return False
        try:
            started = self._start_actor(label, need, grant)
        except BaseException:
            grant.release()
            raise
        if not started:
            grant.release()
        return started

    def _start_actor(self, label: str, need: Need, grant: Grant) -> bool:
        session = secrets.token_hex(8)
        owned = routing.owned_key(self._incarnation)
        self._enlist(session, "")
        owner = f"{self._incarnation}|{secrets.token_hex(4)}"
        names = [routing.creation_queue(label), owned,
                 routing.lease_key(self._incarnation), routing.DEAD_LETTERS]  # fmt: skip
        claim = self._store.scripts.claim(names, owner, routing.PREFIX)
        if claim is None:
            return False
        meta = claim.meta
        name = routing.split_name_field(meta.get("name", ""))[1] or None
        assignment = Assignment(
            worker_id=f"a-{claim.actor_id}-{owner[-8:]}", queue=claim.queue, epoch=claim.epoch,
            owner=owner, session=session, position=int(meta["ap"]),
            actor_id=claim.actor_id, meta=meta, need=need,
            label=routing.worker_label(meta["class"], name, claim.actor_id),
            environ=self._environment(need, grant), devices=self._names(grant),
        )  # fmt: skip
        self._start(assignment, grant)
        return True

    def _start_for_call(self, label: str, need: Need, ledgers: list[Ledger]) -> bool:
        grant = self._grant(label, need, ledgers)
        if grant is None:
            return False
        try:
            self._start_shared(need, grant)
        except BaseException:
            grant.release()
            raise
        return True

    # -- what others see -------------------------------------------------------------------

    def free(self) -> dict[str, int]:
        """Return what is free, less what resident workers use that run a call."""
        return self._room.free()

    def shows(self) -> tuple[dict[str, int], dict[str, int], list[str]]:
        """Return what the node has, what is free of it, and the needs that clients may send."""
        return shown(self._me.total.total), shown(self.free()), self._sent

    def open_queues(self) -> tuple[str, ...]:
        """Return the queues of plain needs that could be served now: what Celery's tools show."""
        free = Ledger(self._room.free(), self._ledger.gpus, self._ledger.kinds)
        needs = [Need(), RESIDENT, *self._others]
        labels = [need.label for need in needs if self._me.could_hold(need) and free.fits(need)]
        return tuple(queue for label in labels for queue in (
            routing.shared_queue(label), routing.creation_queue(label)
        ))  # fmt: skip

    def _start_shared(self, need: Need, grant: Grant | None, *, lent: bool = False) -> None:
        resident = grant is None
        worker_id, session = f"w-{secrets.token_hex(6)}", secrets.token_hex(8)
        owner = f"{self._incarnation}|{worker_id}"
        queue = routing.shared_queue(need.label)
        words = ("ep", "1", "own", owner, "ap", 0, "go", 0, "source", queue, "st", "alive",
                 "resident", "1" if resident else "0", "needs", need.encode())  # fmt: skip
        self._enlist(session, routing.worker_keys(worker_id).meta, worker_id, *words)
        assignment = Assignment(
            worker_id=worker_id, queue=queue, epoch="1", owner=owner,
            session=session, resident=resident, lent=lent, need=need,
            label=routing.tasks_label(need.label, worker_id), meta={"class": "task"},
            environ=self._environment(need, grant), devices=self._names(grant),
        )  # fmt: skip
        self._start(assignment, grant)

    def _enlist(self, session: str, meta: str, *words: str | int) -> None:
        """Enter a process in the node's books, before it starts.

        Raises:
            StoreError: this node run is over, and what it starts nobody would settle.
        """
        names = [routing.sessions_key(self._incarnation), routing.owned_key(self._incarnation),
                 meta, routing.gone_key(self._incarnation)]  # fmt: skip
        if not self._store.scripts.enlist(names, session, *words):
            raise StoreError(f"{self._incarnation} was taken for dead: it starts nothing any more")

    # -- devices ---------------------------------------------------------------------------

    def _names(self, grant: Grant | None) -> tuple[int | str, ...]:
        return tuple(self._devices.names(grant.allocation.gpu_ids)) if grant is not None else ()

    def _environment(self, need: Need, grant: Grant | None) -> dict[str, str]:
        """Return the variables of a worker: its devices, and threads for the CPUs it holds."""
        ids = grant.allocation.gpu_ids if grant is not None else ()
        environ = self._devices.environment(ids)
        if "OMP_NUM_THREADS" not in os.environ:
            environ["OMP_NUM_THREADS"] = str(max(1, need.cpus // UNIT))
        return environ
