"""Work that waits where it can never be met: passed on to others, or answered with the reason."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection

from .. import directory, groups, registry, routing
from ..errors import (
    GROUP_REMOVED,
    UNSCHEDULABLE,
    RayError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
)
from ..need import Need
from ..store import Store
from ..tokens import discard

__all__ = ["Stranded"]

logger = logging.getLogger(__name__)

#: Seconds for which a look at who lives counts.
FRESH_SECONDS = 1.0
#: Calls that are moved or answered in one step.
_CHUNK = 200
#: Actors that are ended in one step: each takes a dozen round trips, and the lease is 3 s.
_ACTORS = 20


class Stranded:
    """What a node does with needs that it cannot meet; every node may do it, and twice."""

    def __init__(self, store: Store, incarnation: str, ttl: int) -> None:
        self._store = store
        self._incarnation = incarnation
        self._ttl = ttl
        self._nodes: Collection[str] = ()
        self._until = 0.0

    def see_to(self, label: str, need: Need) -> None:
        """See to work that this node could never hold."""
        if need.bundle:
            group = groups.find(self._store, need.group[0])
            if group is None or group.state == "removed":
                name = need.group[0][:8]
                self._refuse(label, GROUP_REMOVED, lambda task: TaskPlacementGroupRemoved(
                    f"{task} was to run in the placement group {name}, which was removed"
                ))  # fmt: skip
        elif need.node == self._incarnation:
            self.pass_on(label, need)
        elif need.node and self._is_gone(need.node):
            if need.otherwise != "wait":
                self.pass_on(label, need)
                return
            why = f"the node {need.node}, to which it is bound, is gone"
            self._refuse(label, UNSCHEDULABLE + why, lambda task: TaskUnschedulableError(
                f"{task} cannot run: {why}. Use NodeAffinitySchedulingStrategy(soft=True) to let "
                "another node take it"
            ))  # fmt: skip

    def pass_on(self, label: str, need: Need) -> None:
        """Let any node take what was meant for one, if it may be."""
        if need.otherwise == "wait":
            return
        other = need.anywhere
        names = [
            routing.creation_queue(label), routing.shared_queue(label),
            routing.creation_queue(other.label), routing.shared_queue(other.label),
            routing.NEEDS, routing.BELL,
        ]  # fmt: skip
        self._store.scripts.pass_on(
            names, label, other.label, other.encode(), routing.PREFIX, _CHUNK
        )

    def _is_gone(self, node_id: str) -> bool:
        """Tell whether a node's loss is settled, or it ends; one that is silent may still live.

        That it is there may be a second old. That it is not is looked up: it may just have come.
        """
        if time.monotonic() >= self._until or node_id not in self._nodes:
            self._nodes = {
                record.node_id for record in registry.records(self._store) if not record.draining
            }
            self._until = time.monotonic() + FRESH_SECONDS
        return node_id not in self._nodes

    def _refuse(self, label: str, cause: str, error: Callable[[str], RayError]) -> None:
        """Answer the oldest calls that wait, and end the oldest actors that wait to be started.

        So many at a time as leave the supervisor its time; the bell has it look for the rest.
        """
        store, queue = self._store, routing.shared_queue(label)
        waiting = list(reversed(store.run("LRANGE", queue, -_CHUNK, -1)))
        if waiting:
            answers = [
                directory.failure_answer(raw, error(directory.task_of(raw))) for raw in waiting
            ]
            if store.scripts.refuse(queue, waiting, self._ttl, answers) == 0:
                discard(store, waiting)
        creations = routing.creation_queue(label)
        ended = store.run("LRANGE", creations, -_ACTORS, -1)
        for raw in reversed(ended):
            self._end_actor(raw, creations, cause)
            store.run("LREM", creations, -1, raw)  # also where its actor is not known any more
        if store.run("EXISTS", queue, creations):
            store.run("PUBLISH", routing.BELL, label)

    def _end_actor(self, raw: bytes, creations: str, cause: str) -> None:
        try:
            actor_id, mailbox = json.loads(raw)["headers"]["ca_create"]
        except (ValueError, TypeError, KeyError):  # a plain client has sent something here
            letter = directory.dead_letter(raw, creations, "this is no creation of an actor")
            self._store.run("LPUSH", routing.DEAD_LETTERS, letter)
            return
        logger.warning("actor %s cannot be started: %s", actor_id, cause)
        directory.end(self._store, actor_id, mailbox, cause, self._ttl)
