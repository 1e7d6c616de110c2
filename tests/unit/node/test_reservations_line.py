"""The line of groups that wait: who comes first, and what is kept free for one that cannot yet."""

from __future__ import annotations

import pytest

from celery_actors import groups
from celery_actors.need import UNIT, Need
from celery_actors.node.reservations import PATIENCE_SECONDS
from celery_actors.store import Store
from tests.unit.clock import Clock
from tests.unit.needs import GPU, ONE, grant, of_gpus
from tests.unit.node.reserving import Holder, create, lose, places, settle, state
from tests.unit.views import node

ALL = Need.of(cpus=4, custom={})


def wait(clock: Clock, *nodes: Holder) -> None:
    """Let the patience of every group that waits be over."""
    settle(*nodes)
    clock.now += PATIENCE_SECONDS
    settle(*nodes)


def shares(*nodes: Holder) -> list[Need | None]:
    """Return what each node keeps free for a group."""
    saved = [each.reservations.saved for each in nodes]
    return [found[1] if found is not None else None for found in saved]


def test_groups_are_placed_in_the_order_of_the_line(store: Store, pair: list[Holder]) -> None:
    for name in ("g1", "g2", "g3"):
        create(store, name, [ALL])
    settle(*pair)
    assert [state(store, name) for name in ("g1", "g2", "g3")] == ["created", "created", "waiting"]


def test_a_small_group_goes_before_one_that_does_not_fit_yet(
    store: Store, pair: list[Holder]
) -> None:
    grant(pair[0].view.free, ONE)
    pair[0].say()
    create(store, "g1", [ALL, ALL])
    create(store, "g2", [ONE])
    settle(*pair)
    assert [state(store, name) for name in ("g1", "g2")] == ["waiting", "created"]


def test_what_one_lacks_that_waits_too_long_is_kept_for_it(
    store: Store, pair: list[Holder], reserving_clock: Clock
) -> None:
    guest = grant(pair[0].view.free, ONE)
    pair[0].say()
    create(store, "g1", [ALL, ALL])
    wait(reserving_clock, *pair)
    assert shares(*pair) == [ALL, ALL]
    create(store, "g2", [ONE])
    settle(*pair)
    assert state(store, "g2") == "waiting"
    pair[0].view.free.release(guest)
    pair[0].say()
    settle(*pair)
    assert sorted(places(store, "g1")) == ["a", "b"]
    assert shares(*pair) == [None, None]


def test_a_group_that_waits_a_moment_only_is_not_saved_for(
    store: Store, pair: list[Holder], reserving_clock: Clock
) -> None:
    grant(pair[0].view.free, ONE)
    create(store, "g1", [ALL, ALL])
    settle(*pair)
    reserving_clock.now += PATIENCE_SECONDS / 2
    settle(*pair)
    assert shares(*pair) == [None, None]


def test_what_is_beside_that_is_left_to_those_behind(
    store: Store, pair: list[Holder], reserving_clock: Clock
) -> None:
    # The devices may be an actor's for ever: what has nothing to do with them must not wait.
    for each in pair:
        grant(each.view.free, GPU)
    create(store, "g1", [of_gpus(2)])
    create(store, "g2", [ALL, ALL])
    wait(reserving_clock, *pair)
    assert state(store, "g1") == "waiting"
    assert state(store, "g2") == "created"
    create(store, "g3", [GPU], "STRICT_PACK")
    create(store, "g4", [GPU], "STRICT_PACK")
    settle(*pair)
    # One node keeps its devices for the first group, the other gives its own.
    assert sorted(state(store, name) for name in ("g3", "g4")) == ["created", "waiting"]


def test_one_group_at_a_time_is_saved_for_on_a_node(
    store: Store, pair: list[Holder], reserving_clock: Clock
) -> None:
    for each in pair:
        grant(each.view.free, Need.of(cpus=3, gpus=1, custom={}))
    create(store, "g1", [of_gpus(2), of_gpus(2)])
    create(store, "g2", [ALL, ALL])
    wait(reserving_clock, *pair)
    assert shares(*pair) == [of_gpus(2), of_gpus(2)]
    groups.remove(store, "g1")
    settle(*pair)
    assert shares(*pair) == [ALL, ALL]


def test_a_group_that_no_nodes_could_hold_keeps_nobody_waiting(
    store: Store, pair: list[Holder], reserving_clock: Clock
) -> None:
    create(store, "g1", [of_gpus(3)])
    create(store, "g2", [ALL] * 3, "STRICT_SPREAD")
    wait(reserving_clock, *pair)
    assert shares(*pair) == [None, None]
    create(store, "g3", [of_gpus(2), of_gpus(2)])
    settle(*pair)
    assert state(store, "g3") == "created"


def test_a_group_waits_for_a_node_that_joins(
    store: Store, pair: list[Holder], reserving_clock: Clock
) -> None:
    create(store, "g1", [of_gpus(3)])
    wait(reserving_clock, *pair)
    third = Holder(store, node("c", gpus=4))
    settle(*pair, third)
    assert places(store, "g1") == ["c"]


def test_a_lost_part_that_has_no_place_yet_is_saved_for_alone(
    store: Store, pair: list[Holder], reserving_clock: Clock
) -> None:
    create(store, "g1", [ALL, ALL], "STRICT_SPREAD")
    settle(*pair)
    third = Holder(store, node("c"))
    grant(third.view.free, ONE)
    third.say()
    lose(store, pair[1])
    wait(reserving_clock, pair[0], third)
    assert state(store, "g1") == "waiting"
    assert shares(pair[0], third) == [None, ALL]


@pytest.mark.parametrize(
    ("bundles", "share"),
    [
        ([ONE, ONE], Need.of(cpus=2, custom={})),
        ([GPU, GPU], of_gpus(2)),
        ([of_gpus(0.5), of_gpus(0.25)], of_gpus(0.75)),
        ([of_gpus(0.5), of_gpus(0.5)], of_gpus(1)),
        ([of_gpus(0.6), of_gpus(0.6)], of_gpus(2)),
        ([of_gpus(0.6)] * 3, of_gpus(3)),
        ([GPU, of_gpus(0.25)], of_gpus(2)),
        ([of_gpus(1, "A"), of_gpus(1, "A")], None),
        ([of_gpus(1, "A"), of_gpus(1, "B")], of_gpus(2)),
        ([of_gpus(1, "A"), of_gpus(1)], of_gpus(2)),
    ],
)
def test_as_many_devices_are_kept_as_the_bundles_use(
    store: Store, reserving_clock: Clock, bundles: list[Need], share: Need | None
) -> None:
    holder = Holder(store, node("a", cpus=2, gpus=3, kinds=["A", "A", "B"]))
    guest = grant(holder.view.free, Need.of(cpus=2, gpus=3, custom={}))
    create(store, "g1", bundles, "STRICT_PACK")
    wait(reserving_clock, holder)
    (saved,) = shares(holder)
    assert saved is not None
    if share is None:
        assert (saved.accelerator, saved.gpus) == ("A", 2 * UNIT)
    else:
        assert saved == share
    holder.view.free.release(guest)
    assert holder.view.free.fits(saved)
    settle(holder)
    assert state(store, "g1") == "created"
