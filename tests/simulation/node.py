"""A node: what ``Supervisor`` does, with the product's own recovery and books."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from celery_actors import routing
from celery_actors.assignment import Assignment
from celery_actors.errors import ClusterUnreachableError
from celery_actors.need import Need
from celery_actors.node.reconcile import Reconcile
from celery_actors.node.recovery import Lost, node_lost
from celery_actors.node.supervisor import (
    LEASE_MS,
    MARGIN_SECONDS,
    TICK_SECONDS,
)
from celery_actors.store import Claim, StoreError

from .network import Steps, twin
from .worker import TTL, Worker
from .world import Role, World

__all__ = ["Node"]

T = TypeVar("T")
#: Processes that a node has room for.
ROOM = 3
#: How long the store keeps a lease by itself. The end of one is the simulation's to draw.
_LONG_MS = 600_000
_TROUBLE = (ClusterUnreachableError, StoreError)


class Node(Role):
    """One run of one node."""

    def __init__(self, world: World, name: str) -> None:
        self.workers: list[Worker] = []
        self.stopping = False
        self.rung = True  # something waits
        self.killing = False  # somebody's process is to be killed
        self._ends: deque[tuple[Worker, Lost]] = deque()
        self._nonces = 0
        self._label = Need().label
        super().__init__(world, name)
        self._reconcile: Any = Reconcile(self.port.store, name, "host", TTL)
        self._trusted = 0.0  # until when its processes count on its lease
        self._renewed = world.clock.now
        self._steady = self._renewed - LEASE_MS / 1000  # it has been here for a while

    # -- what others tell it ------------------------------------------------------------------

    def worker_ended(self, worker: Worker) -> None:
        """Hear of a process's end."""
        self.workers.remove(worker)
        if not self.over:
            lost = Lost(
                "its process was killed", worker.progress, left=bool(worker.left),
                rolled_back=worker.rolled_back, seen=worker.seen, moved=self.stopping,
            )  # fmt: skip
            self._ends.append((worker, lost))
            self.wake()

    def lease_lasts(self) -> bool:
        """Tell a process whether it may count on the lease."""
        return self.world.clock.now < self._trusted

    def renewed(self, asked: float) -> None:
        """Take in that the lease was renewed; it was asked for at that moment."""
        self._renewed = self.world.clock.now
        self._trusted = asked + LEASE_MS / 1000 - MARGIN_SECONDS

    def stop(self) -> None:
        """Let it end in good order."""
        self.stopping = True
        self.wake()

    def ended(self) -> None:
        """End its processes, which cannot outlive it."""
        for worker in self.workers.copy():
            worker.crash()

    # -- its life -----------------------------------------------------------------------------

    def body(self) -> Steps[None]:
        """Serve until it is stopped or has lost its place."""
        alive = yield from self._tick(first=True)
        due = self.world.clock.now + TICK_SECONDS
        while alive and not self.stopping:
            if self._ends:
                yield from self._settle(*self._ends.popleft())
                yield from self._look()
            elif self.killing or self.world.clock.now >= due:
                self.killing = False
                due = self.world.clock.now + TICK_SECONDS
                alive = yield from self._tick()
            elif self.rung:
                yield from self._look()
            else:
                yield due
        yield from self._drain(in_order=alive)

    def _drain(self, *, in_order: bool) -> Steps[None]:
        self.stopping = True
        self.world.say(self.name, "ends" if in_order else "has lost its place and ends")
        for worker in self.workers.copy():
            if in_order:
                worker.drain()
            else:
                worker.crash()
        while self.workers or self._ends:
            if self._ends:
                yield from self._settle(*self._ends.popleft())
            else:
                yield float("inf")
        if in_order:
            store, lease = self.port.store, routing.lease_key(self.name)
            yield from self.patiently(store.run, "UNLINK", lease)
            yield from self.patiently(node_lost, store, self.name, TTL)

    def _books(self, method: Callable[[Any], T]) -> Steps[T]:
        """Use the books. They change while they wait, so each attempt begins with a copy."""
        before = self._reconcile

        def attempt() -> T:
            self._reconcile = books = twin(before)
            for looks in ("_owned", "_sessions", "_dying"):
                setattr(books, looks, twin(getattr(books, looks)))
            return method(books)

        return (yield from self.port.steps(attempt))

    def _settle(self, worker: Worker, lost: Lost) -> Steps[None]:
        present = [other.assignment for other in self.workers]
        yield from self._books(lambda books: books.ended(worker, lost, present))

    def _tick(self, *, first: bool = False) -> Steps[bool]:
        """Tick; False when this node has lost its place."""
        try:
            return (yield from self._try_to_tick(first))
        except _TROUBLE as error:
            self.world.say(self.name, str(error))
            self._reconcile.hasten()
            self._steady = self.world.clock.now
            return self._steady - self._renewed < self.port.patience

    def _try_to_tick(self, first: bool) -> Steps[bool]:
        store, steps, now = self.port.store, self.port.steps, self.world.clock.monotonic
        names = [routing.lease_key(self.name), routing.NODES, routing.kill_key(self.name),
                 routing.SESSIONS, routing.DYING, routing.gone_key(self.name)]  # fmt: skip
        lease, asked = routing.lease_key(""), now()
        heard = yield from steps(
            lambda: store.scripts.tick(names, self.name, _LONG_MS, "{}", first, lease)
        )
        if not heard.alive:
            return False
        if now() - self._renewed > LEASE_MS / 1000:
            self._steady = now()
        self.renewed(asked)
        for actor_id in heard.kills:
            yield from self._kill(actor_id)
        if now() - self._steady >= LEASE_MS / 1000:
            for incarnation in heard.dead:
                self.world.history.counts["nodes lost"] += 1
                yield from steps(lambda name=incarnation: node_lost(store, name, TTL))  # type: ignore[misc]
        if self.rung or self.world.draw.random() < 0.3:  # the product looks each time
            yield from self._look()
        present = [worker.assignment for worker in self.workers]
        yield from self._books(lambda books: (books.bury(heard.dying), books.look(present)))
        return True

    def _kill(self, actor_id: str) -> Steps[None]:
        mine = [worker for worker in self.workers if worker.assignment.actor_id == actor_id]
        for worker in mine:
            worker.crash()
        if not mine:
            key = routing.kill_key(self.name)
            yield from self.port.steps(lambda: self.port.store.run("SREM", key, actor_id))

    def _look(self) -> Steps[None]:
        self.rung = False
        try:
            while len(self.workers) < ROOM:
                claim = yield from self._claim()
                if claim is None:
                    return
        except _TROUBLE as error:
            self.world.say(self.name, str(error))
            self._reconcile.hasten()

    def _claim(self) -> Steps[Claim | None]:
        self._nonces += 1
        owner, scripts = f"{self.name}|{self._nonces}", self.port.store.scripts
        names = [routing.creation_queue(self._label), routing.owned_key(self.name),
                 routing.lease_key(self.name), routing.DEAD_LETTERS]  # fmt: skip
        claim = yield from self.port.steps(lambda: scripts.claim(names, owner, routing.PREFIX))
        if self.name not in self.world.suspects:  # else its lease may have ended meanwhile
            self.world.history.check_claim(owner, claim.actor_id if claim is not None else "")
        if claim is not None:
            assignment = Assignment(
                worker_id=f"a-{owner}", queue=claim.queue, epoch=claim.epoch, owner=owner,
                session=f"s-{owner}", label="counter", position=int(claim.meta["ap"]),
                actor_id=claim.actor_id, meta=claim.meta,
            )  # fmt: skip
            worker = Worker(self, assignment)
            self.workers.append(worker)
            self.world.add(worker)
        return claim
