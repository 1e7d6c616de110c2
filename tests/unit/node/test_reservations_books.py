"""The books of what is reserved: what runs inside, and that nothing is given out twice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from celery_actors import groups
from celery_actors.bundles import STRATEGIES, plan
from celery_actors.need import UNIT, Need
from celery_actors.store import Store
from tests.unit.clock import Clock
from tests.unit.needs import GPU, ONE, grant, of_gpus
from tests.unit.node.reserving import Holder, create, found, overdue, settle, state
from tests.unit.views import node

# -- what runs inside ------------------------------------------------------------------------


def test_work_is_met_from_the_bundle_that_it_names_or_from_any(
    store: Store, pair: list[Holder]
) -> None:
    two = Need.of(cpus=2, custom={})
    create(store, "g1", [ONE, two], "STRICT_PACK")
    settle(*pair)
    holder = next(each for each in pair if not each.idle)
    assert [books.total["CPU"] for books in holder.books("g1")] == [UNIT, 2 * UNIT]
    assert [books.total["CPU"] for books in holder.books("g1", 1)] == [2 * UNIT]
    assert [books.total["CPU"] for books in holder.books("g1", need=two)] == [2 * UNIT]
    assert holder.books("g1", 0, two) == []
    assert holder.books("g1", 2) == []
    assert holder.books("g2") == []


def test_work_inside_must_be_welcome_on_the_node(store: Store, pair: list[Holder]) -> None:
    create(store, "g1", [ONE])
    settle(*pair)
    holder = next(each for each in pair if not each.idle)
    need = replace(ONE, bundle="g1")
    assert list(holder.reservations.ledgers(need))
    assert list(holder.reservations.ledgers(replace(need, selector=(("zone", "a"),)))) == []


def test_the_devices_of_a_bundle_are_those_that_were_reserved(
    store: Store, pair: list[Holder]
) -> None:
    for each in pair:
        grant(each.view.free, of_gpus(1, gpu_ids=[0]))
        each.say()
    create(store, "g1", [GPU])
    settle(*pair)
    (books,) = [books for each in pair for books in each.books("g1")]
    assert books.devices == {1: UNIT}
    names = [name for each in pair for name, _, held in each.reservations.holders()]
    assert names == ["bundle 0 of group g1"]


def test_a_removed_group_gives_back_only_when_what_runs_inside_has_ended(
    store: Store, pair: list[Holder]
) -> None:
    create(store, "g1", [ONE, GPU], "STRICT_PACK")
    settle(*pair)
    holder = next(each for each in pair if not each.idle)
    runs, empty = holder.books("g1")
    holder.inside.append(runs)
    groups.remove(store, "g1")
    for _ in range(3):
        holder.look()
    assert holder.books("g1") == []
    assert holder.told.count(empty) == 1
    assert holder.told.count(runs) == 3
    assert holder.free == {"CPU": 3 * UNIT, "GPU": 2 * UNIT}
    holder.inside.clear()
    holder.look()
    assert holder.idle
    holder.look()
    assert holder.told.count(runs) == 4


# -- any course of events --------------------------------------------------------------------

_BUNDLES = [
    ONE,
    GPU,
    of_gpus(0.5),
    of_gpus(0.3),
    Need.of(cpus=4, custom={}),
    Need.of(cpus=2, gpus=1, custom={}),
]


def check_books(nodes: Sequence[Holder]) -> None:
    """Compare what bundles hold with what the nodes count as taken."""
    for each in nodes:
        taken = {"CPU": 0, "GPU": 0}
        devices = dict.fromkeys(each.view.total.devices, 0)
        for _, _, held in each.reservations.holders():
            for name, amount in held.need.amounts:
                taken[name] += amount
            for device in held.gpu_ids:
                devices[device] += held.share
        assert all(0 <= units <= UNIT for units in devices.values())
        free = each.view.free
        assert {name: each.view.total.total[name] - free.free[name] for name in taken} == taken
        assert {device: UNIT - left for device, left in free.gpus.items()} == devices
        assert all(left >= 0 for left in free.free.values())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_nothing_is_given_out_twice_and_nothing_is_kept(
    store: Store, pair: list[Holder], reserving_clock: Clock, seed: int
) -> None:
    order = random.Random(seed)
    nodes = [*pair, Holder(store, node("c", cpus=4, gpus=1))]
    alive: list[str] = []
    for step in range(120):
        match order.randrange(8):
            case 0:
                bundles = order.choices(_BUNDLES, k=order.randint(1, 3))
                create(store, f"g{step}", bundles, order.choice(STRATEGIES))
                alive.append(f"g{step}")
            case 1 if alive:
                groups.remove(store, alive.pop(order.randrange(len(alive))))
            case 2:
                reserving_clock.now += order.choice([0.1, 1, 60])
                overdue(store, *alive)
            case 3:
                node_of = order.choice(nodes)
                node_of.room = not node_of.room
            case _:
                order.choice(nodes).look()
                order.choice(nodes).say()
        check_books(nodes)
    for each in nodes:
        each.room = True
    for _ in range(len(alive)):
        reserving_clock.now += 60
        overdue(store, *alive)
        settle(*nodes)
        for name in [name for name in alive if state(store, name) == "created"]:
            groups.remove(store, name)
            alive.remove(name)
        settle(*nodes)
        check_books(nodes)
    assert all(each.idle for each in nodes)
    # What is left could not be held by the empty cluster.
    for name in alive:
        found_group = found(store, name)
        assert plan(
            found_group.bundles, found_group.strategy, [each.view for each in nodes]
        ) is None  # fmt: skip
