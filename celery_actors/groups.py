"""Placement groups as records in the store: created, reserved, found, removed.

A group waits in one line. An attempt to place the first that fits is a plan, made by any node from
what all say of themselves; the nodes of the plan then hold their bundles or refuse, and the group
is there when the last of them holds. Nothing is held for a group that is not being placed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from . import routing
from .bundles import Strategy
from .errors import RayError
from .need import Need
from .store import Store

__all__ = ["Group", "answer", "begin", "create", "everything", "find", "lost", "remove", "waiting"]

#: Seconds for which a removed group is remembered, for those who ask what became of it.
REMEMBER_SECONDS = 600
#: Milliseconds for which nodes may take to answer a plan: workers may have to end first.
ANSWER_MS = 3_000
#: Milliseconds between an attempt that failed and the next: one tick of the nodes.
PAUSE_MS = 1_000


@dataclass(frozen=True, slots=True)
class Group:
    """One placement group as the store knows it."""

    group_id: str
    fields: Mapping[str, str]

    @property
    def state(self) -> str:
        """``waiting``, ``reserving``, ``created`` or ``removed``."""
        return self.fields["st"]

    @property
    def attempt(self) -> int:
        """How many attempts to place it have begun."""
        return int(self.fields["attempt"])

    @property
    def name(self) -> str:
        """The name that it was given, or ''."""
        return self.fields["name"]

    @property
    def strategy(self) -> Strategy:
        """How its bundles lie."""
        return self.fields["strategy"]  # type: ignore[return-value] # checked where it was given

    @property
    def bundles(self) -> list[Need]:
        """What it reserves."""
        return msgspec.json.decode(self.fields["bundles"], type=list[Need])

    @property
    def plan(self) -> list[str]:
        """The node of each bundle in the attempt that is under way."""
        found: list[str] = json.loads(self.fields.get("plan", "[]"))
        return found

    def placed(self, index: int) -> str:
        """Return the node that holds a bundle for good, or ''."""
        return self.fields.get(f"on:{index}", "")


def create(
    store: Store, group_id: str, bundles: Sequence[Need], strategy: Strategy, *, name: str,
    job: str,
) -> None:  # fmt: skip
    """Create a group; ``job``: the driver with which it ends, '' for none.

    Raises:
        ValueError: the name is taken. RayError: the driver's session is over.
    """
    names = [
        routing.group_key(group_id), routing.GROUPS, routing.GROUPS_WAITING,
        routing.job_groups_key(job) if job else "", routing.BELL, routing.GROUP_NAMES,
        routing.gone_key(job),
    ]  # fmt: skip
    fields = {"bundles": msgspec.json.encode(list(bundles)), "strategy": strategy, "job": job}
    words = [word for pair in fields.items() for word in pair]
    outcome = store.scripts.group("group_create", names, group_id, name, *words)
    if outcome == -1:
        raise ValueError(f"a placement group named {name!r} exists: get_placement_group finds it")
    if outcome == -2:
        raise RayError("this driver was taken for lost, so its placement groups end: init() again")


def find(store: Store, group_id: str) -> Group | None:
    """Return a group; one that was removed is found for ten minutes."""
    fields = store.hash(routing.group_key(group_id))
    return Group(group_id, fields) if fields else None


def find_named(store: Store, name: str) -> Group | None:
    """Return the group of this name."""
    found = store.run("HGET", routing.GROUP_NAMES, name)
    return find(store, found.decode()) if found is not None else None


def waiting(store: Store) -> list[Group]:
    """Return the groups that wait for their place, in the order of the line."""
    return _all(store, store.texts("LRANGE", routing.GROUPS_WAITING, 0, -1))


def everything(store: Store) -> list[Group]:
    """Return every group that was not removed."""
    return _all(store, sorted(store.texts("SMEMBERS", routing.GROUPS)))


def _all(store: Store, ids: Sequence[str]) -> list[Group]:
    found = (find(store, group_id) for group_id in ids)
    return [group for group in found if group is not None]


def begin(store: Store, group: Group, plan: Sequence[str]) -> bool:
    """Begin an attempt; False where another is under way."""
    names = [routing.group_key(group.group_id), routing.GROUPS_WAITING, routing.BELL]
    words = (group.attempt, json.dumps(plan), ANSWER_MS, routing.group_key(""))
    return store.scripts.group("group_plan", names, *words) == 1


def answer(
    store: Store, group: Group, incarnation: str, indexes: Sequence[int], *, held: bool
) -> bool:
    """Say that a node holds bundles for an attempt, or cannot; False where the attempt is over."""
    names = [routing.group_key(group.group_id), routing.GROUPS_WAITING, routing.BELL,
             routing.lease_key(incarnation)]  # fmt: skip
    words = (group.attempt, group.group_id, "1" if held else "", len(group.bundles), incarnation,
             PAUSE_MS)  # fmt: skip
    return store.scripts.group("group_answer", names, *words, *indexes) == 1


def lost(store: Store, incarnation: str) -> None:
    """Let the bundles of a lost node look for a new place."""
    for group in everything(store):
        names = [routing.group_key(group.group_id), routing.GROUPS_WAITING, routing.BELL]
        words = (incarnation, group.group_id, len(group.bundles))
        store.scripts.group("group_lost", names, *words)


def remove(store: Store, group_id: str) -> None:
    """Remove a group; what runs in it ends."""
    group = find(store, group_id)
    job = group.fields["job"] if group is not None else ""
    names = [
        routing.group_key(group_id), routing.GROUPS, routing.GROUPS_WAITING,
        routing.job_groups_key(job) if job else "", routing.BELL, routing.GROUP_NAMES,
    ]  # fmt: skip
    store.scripts.group("group_remove", names, group_id, REMEMBER_SECONDS)


def end_job(store: Store, job: str) -> None:
    """Remove the groups of a driver that is gone."""
    for group_id in store.texts("SMEMBERS", routing.job_groups_key(job)):
        remove(store, group_id)
