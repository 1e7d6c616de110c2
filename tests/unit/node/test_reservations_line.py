"""The line of groups that wait: who comes first, and what is kept free for one that cannot yet."""

from __future__ import annotations

from typing import Any

import pytest

from celery_actors import bundles as planning
from celery_actors import groups
from celery_actors.need import UNIT, Need
from celery_actors.node import group_line
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


# -- a long line -----------------------------------------------------------------------------


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bundles each plan was for."""
    found: list[int] = []
    plan = planning.plan

    def counted(needs: Any, *rest: Any, **more: Any) -> Any:
        found.append(len(needs))
        return plan(needs, *rest, **more)

    monkeypatch.setattr(planning, "plan", counted)
    return found


def full(pair: list[Holder]) -> list[Holder]:
    for each in pair:
        grant(each.view.free, ALL)
        each.say()
    return pair


@pytest.mark.parametrize("size", [2, 30])
def test_a_line_in_which_nothing_changes_is_looked_at_once_and_planned_no_more(
    store: Store, pair: list[Holder], reserving_clock: Clock, plans: list[int], size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for number in range(size):
        create(store, f"g{number}", [ONE] * (1 + number % 2))
    wait(reserving_clock, *full(pair))
    read: list[Any] = []
    run = store.scripts._run

    def noted(*command: Any) -> Any:
        read.append(command)
        return run(*command)

    plans.clear()
    monkeypatch.setattr(store.scripts, "_run", noted)
    pair[0].look()
    assert (len(read), plans) == (2, [])  # the line and the nodes


def test_a_long_line_is_planned_from_its_front(
    store: Store, pair: list[Holder], plans: list[int]
) -> None:
    for number in range(30):
        create(store, f"g{number}", [Need.of(cpus=1 + number / 100, custom={})])
    full(pair)
    pair[0].look()
    assert len(plans) == 30 + 20  # each is judged once, the first are planned
    groups.remove(store, "g0")
    plans.clear()
    pair[0].look()
    assert len(plans) == 20


def test_groups_of_one_shape_are_judged_and_planned_together(
    store: Store, pair: list[Holder], plans: list[int]
) -> None:
    for number in range(30):
        create(store, f"g{number}", [ONE])
    full(pair)
    pair[0].look()
    assert len(plans) == 2


def test_groups_that_no_nodes_could_hold_keep_none_behind_them_waiting(
    store: Store, pair: list[Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_line, "JUDGED", 10)
    for number in range(25):
        create(store, f"g{number}", [of_gpus(3)])
    create(store, "last", [ONE])
    settle(*pair)
    settle(*pair)
    assert state(store, "last") == "created"
    assert store.run("LLEN", "ca:groups:waiting") == 25


def test_what_no_nodes_could_hold_is_judged_again_when_a_node_joins(
    store: Store, pair: list[Holder], plans: list[int]
) -> None:
    for number in range(25):
        create(store, f"g{number}", [of_gpus(3)])
    settle(*pair)
    plans.clear()
    pair[0].look()
    assert plans == []
    third = Holder(store, node("c", gpus=3))
    settle(*pair, third)
    assert places(store, "g0") == ["c"]


def test_an_attempt_far_behind_in_the_line_is_seen(store: Store, pair: list[Holder]) -> None:
    full(pair)
    for number in range(30):
        create(store, f"g{number}", [ALL, ALL, GPU])
    create(store, "last", [GPU])
    found = groups.find(store, "last")
    assert found is not None
    assert groups.begin(store, found, ["a"])
    pair[0].look()
    assert state(store, "last") == "created"


def test_what_comes_free_is_planned_for_though_the_line_is_the_same(
    store: Store, pair: list[Holder]
) -> None:
    grant(pair[1].view.free, ALL)
    guest = grant(pair[0].view.free, ALL)
    for each in pair:
        each.say()
    create(store, "g1", [ONE])
    settle(*pair)
    assert state(store, "g1") == "waiting"
    pair[0].view.free.release(guest)
    settle(*pair)
    assert places(store, "g1") == ["a"]
