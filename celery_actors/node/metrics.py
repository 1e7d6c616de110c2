"""A node's metrics for Prometheus, and whether it is healthy.

Everything is gathered when somebody asks: no call pays for it. A scrape costs the store three
commands, and one more for each thousand workers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import psutil

from .. import installation, routing
from ..assignment import NodeSettings
from ..errors import ClusterUnreachableError
from ..need import UNIT
from ..store import Store, StoreError
from .facts import Facts, Tally, Window, WorkerFacts

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "metrics need prometheus_client: pip install 'celery-actors[metrics]'", name=error.name
    ) from error

__all__ = ["LOOK_SECONDS", "Metrics"]

#: Seconds that the supervisor, or the store, has for an answer.
LOOK_SECONDS = 2.0
#: Mailboxes in one script.
_BATCH = 1_000
_PREFIX = "celery_actors"
_ACTOR = ("actor_class", "actor", "actor_id")


class Metrics(Collector):
    """Gathers one node's metrics. One at a time, however many ask."""

    def __init__(
        self, settings: NodeSettings, window: Window, tally: Tally, lease_seconds: float
    ) -> None:
        self._settings = settings
        self._window = window
        self._tally = tally
        self._lease_seconds = lease_seconds
        self._store = Store(settings.address, retries=0, patience=LOOK_SECONDS)
        self._queues: set[str] = set()  # needs under which something has waited
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        with self._lock:
            return generate_latest(self._registry)

    def trouble(self) -> str:
        """Return what is wrong with the node in words; '' where it is healthy."""
        facts = self._window.look(LOOK_SECONDS)
        if facts is None:
            return f"the supervisor has not answered within {LOOK_SECONDS:g} s"
        age = time.monotonic() - facts.renewed
        if age > self._lease_seconds:
            return f"the lease was renewed {age:.1f} s ago and lasts {self._lease_seconds:g} s"
        try:
            self._store.run("PING")
        except (ClusterUnreachableError, StoreError) as error:
            return f"the store does not answer: {error}"
        return ""

    def close(self) -> None:
        """Close the connection to the store."""
        self._store.close()

    def collect(self) -> Iterator[Metric]:
        """Give every metric; without those that cannot be had at the moment."""
        facts = self._window.look(LOOK_SECONDS)
        age = None if facts is None else time.monotonic() - facts.renewed
        up = age is not None and age <= self._lease_seconds
        yield self._gauge("node_up", "1 while the node holds its lease.", up)
        about = {"node_id": self._settings.node_id, "version": installation.version()}
        yield self._gauge("node_info", "The run of the node, and its version.", 1, about)
        if facts is None or age is None:
            return
        yield self._gauge("lease_age_seconds", "Since the lease was renewed.", age)
        yield self._gauge("node_draining", "1 while the node is about to end.", facts.draining)
        yield from self._of_resources(facts)
        yield from self._of_workers(facts.workers)
        yield from self._of_memory(facts.workers)
        yield from self._of_store(facts)
        yield from self._of_tally()

    # -- what the node itself knows --------------------------------------------------------

    def _of_resources(self, facts: Facts) -> Iterator[Metric]:
        total = self._family("resource_total", "What the node has.", "resource")
        free = self._family("resource_free", "What nobody holds of it.", "resource")
        for name, amount in sorted(facts.total.items()):
            self._add(total, amount / UNIT, name)
            self._add(free, max(0, facts.free.get(name, 0)) / UNIT, name)
        yield total
        yield free

    def _of_workers(self, workers: Sequence[WorkerFacts]) -> Iterator[Metric]:
        states = dict.fromkeys(("PENDING_CREATION", "RESTARTING", "ALIVE"), 0)
        for worker in workers:
            if worker.actor_id:
                starts = "RESTARTING" if worker.restarts else "PENDING_CREATION"
                states["ALIVE" if worker.serves else starts] += 1
        actors = self._family("actors", "Actors with a process on the node.", "state")
        for state, count in states.items():
            self._add(actors, count, state)
        yield actors
        functions = [worker for worker in workers if not worker.actor_id]
        kinds = self._family("workers", "Worker processes of the node.", "kind")
        self._add(kinds, len(workers) - len(functions), "actor")
        self._add(kinds, len(functions), "function")
        yield kinds
        busy = sum(worker.busy for worker in functions)
        yield self._gauge("function_workers_busy", "Those that run a function now.", busy)

    def _of_memory(self, workers: Sequence[WorkerFacts]) -> Iterator[Metric]:
        about = "Resident memory of the actor's process; pages shared with others are in each."
        memory = self._family("actor_memory_bytes", about, *_ACTOR)
        for worker in workers:
            if worker.actor_id and worker.pid:
                try:
                    used = psutil.Process(worker.pid).memory_info().rss
                except psutil.Error:
                    continue  # it has just ended
                self._add(memory, used, *_names(worker))
        yield memory

    def _of_tally(self) -> Iterator[Metric]:
        settled, restarts, frozen = self._tally.totals()
        functions = settled.pop("", 0)
        for name, about, counts in (
            ("calls_settled", "Calls that actors here have ended with a result.", settled),
            ("actor_restarts", "Processes of actors that have started again.", restarts),
            ("actors_frozen", "Durable actors that have come to stand still.", frozen),
        ):
            family = CounterMetricFamily(f"{_PREFIX}_{name}", about, labels=("node", "actor_class"))
            for actor_class, count in sorted(counts.items()):
                if actor_class:
                    family.add_metric((self._settings.host, actor_class), count)
            yield family
        name = f"{_PREFIX}_function_calls_settled"
        calls = CounterMetricFamily(name, "The same of functions.", labels=("node",))
        calls.add_metric((self._settings.host,), functions)
        yield calls

    # -- what the store knows --------------------------------------------------------------

    def _of_store(self, facts: Facts) -> Iterator[Metric]:
        """Give the lengths of queues; take note of how far the workers are."""
        try:
            found = [
                *self._of_mailboxes(facts.workers), *self._of_shared_queues(facts.sent),
                *self._of_the_cluster(),
            ]  # fmt: skip
        except (ClusterUnreachableError, StoreError):
            found = []
        yield self._gauge("store_up", "1 where the store has just answered.", bool(found))
        yield from found

    def _of_mailboxes(self, workers: Sequence[WorkerFacts]) -> Iterator[Metric]:
        lengths = self._family("actor_queue_length", "Calls that are not settled.", *_ACTOR)
        for start in range(0, len(workers), _BATCH):
            batch = workers[start : start + _BATCH]
            seen = self._store.scripts.mailboxes([worker.keys for worker in batch])
            for worker, (waiting, settled) in zip(batch, seen, strict=True):
                self._tally.settled(worker, settled)
                if worker.actor_id:
                    self._add(lengths, waiting, *_names(worker))
        yield lengths

    def _of_shared_queues(self, sent: Sequence[str]) -> Iterator[Metric]:
        """Give the lengths of queues that all nodes share; a queue once seen stays, at zero."""
        prefixes = (routing.creation_queue(""), routing.shared_queue(""))
        _groups, waiting = self._store.scripts.look(
            routing.NEEDS, routing.GROUPS_WAITING, prefixes, sent
        )
        calls = {each.label: each.calls for each in waiting}
        actors = {each.label: each.actors for each in waiting}
        self._queues.update(calls, sent[::2])
        shared = self._family("shared_queue_length", "Calls of functions that wait.", "queue")
        creations = self._family("creations_waiting", "Actors that wait for a node.", "queue")
        for label in sorted(self._queues):
            self._add(shared, calls.get(label, 0), routing.shared_queue(label))
            self._add(creations, actors.get(label, 0), routing.creation_queue(label))
        yield shared
        yield creations

    def _of_the_cluster(self) -> Iterator[Metric]:
        dead = int(self._store.run("LLEN", routing.DEAD_LETTERS))
        yield self._gauge("dead_letters", "Messages of the cluster that can never run.", dead)
        passive = int(self._store.run("SCARD", routing.PASSIVE))
        yield self._gauge("passive_actors", "Actors of the cluster that rest.", passive)

    # -- families --------------------------------------------------------------------------

    def _family(self, name: str, about: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=("node", *labels))

    def _add(self, family: GaugeMetricFamily, value: float, *labels: str) -> None:
        family.add_metric((self._settings.host, *labels), value)

    def _gauge(
        self, name: str, about: str, value: float, labels: dict[str, str] | None = None
    ) -> GaugeMetricFamily:
        family = self._family(name, about, *(labels or ()))
        self._add(family, float(value), *(labels or {}).values())
        return family


def _names(worker: WorkerFacts) -> tuple[str, str, str]:
    return worker.actor_class, worker.actor, worker.actor_id
