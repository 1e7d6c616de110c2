"""Nodes that do nothing but hold bundles of placement groups, on one real store."""

from __future__ import annotations

from collections.abc import Sequence

from celery_actors import groups, routing
from celery_actors.bundles import Strategy
from celery_actors.groups import Group
from celery_actors.need import Need
from celery_actors.node.reservations import Reservations
from celery_actors.placement import Ledger, NodeView
from celery_actors.store import Store
from tests.unit.views import announce, end_lease

NOTHING = Need()


class Holder:
    """One node: its books, what runs in its reservations, and whether workers make room."""

    def __init__(self, store: Store, view: NodeView) -> None:
        self.store = store
        self.view = view
        self.inside: list[Ledger] = []  # reservations in which something runs
        self.told: list[Ledger] = []  # those whose workers were told to end
        self.room = self.allowed = True
        self.reservations = Reservations(store, view, lambda: dict(view.free.free), self._end)
        self.say()

    def _end(self, books: Ledger) -> bool:
        self.told.append(books)
        return any(each is books for each in self.inside)

    @property
    def node_id(self) -> str:
        return self.view.node_id

    @property
    def free(self) -> dict[str, int]:
        return self.view.free.free

    @property
    def idle(self) -> bool:
        """True where nothing is taken of what the node has."""
        return (self.view.free.free, self.view.free.gpus) == (
            self.view.total.free, self.view.total.gpus,
        )  # fmt: skip

    def say(self) -> None:
        """Say what the node has and has free, as once a second."""
        announce(self.store, self.view)

    def look(self) -> None:
        waiting = int(self.store.run("LLEN", routing.GROUPS_WAITING))
        self.reservations.look(waiting, lambda _: self.room, lambda _: self.allowed)

    def books(self, group_id: str, index: int = -1, need: Need = NOTHING) -> list[Ledger]:
        """Return the books that a need in a group may be met from."""
        bundle = group_id if index < 0 else f"{group_id}.{index}"
        return list(self.reservations.ledgers(Need(need.amounts, bundle=bundle)))


def create(
    store: Store, group_id: str, bundles: Sequence[Need], strategy: Strategy = "PACK"
) -> None:
    groups.create(store, group_id, bundles, strategy, name="", job="")


def found(store: Store, group_id: str) -> Group:
    group = groups.find(store, group_id)
    assert group is not None
    return group


def state(store: Store, group_id: str) -> str:
    return found(store, group_id).state


def places(store: Store, group_id: str) -> list[str]:
    group = found(store, group_id)
    return [group.placed(index) for index in range(len(group.bundles))]


def overdue(store: Store, *group_ids: str) -> None:
    """Let the time of an attempt, or the pause after one, be over."""
    for group_id in group_ids:
        store.run("HSET", routing.group_key(group_id), "until", 1)


def lose(store: Store, lost: Holder) -> None:
    """Let the others find out that a node is gone."""
    end_lease(store, lost.view)
    groups.lost(store, lost.node_id)
    store.run("HDEL", routing.NODES, lost.node_id)


def settle(*nodes: Holder) -> None:
    """Let every node look until all have seen what the others did."""
    for _ in range(4):
        for node in nodes:
            node.look()
    for node in nodes:
        node.say()
