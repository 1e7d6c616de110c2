"""What nodes hold for placement groups: all of a group's bundles, or none of them."""

from __future__ import annotations

import random

import pytest

from celery_actors import groups, routing
from celery_actors.need import UNIT, Need
from celery_actors.store import Store, StoreError
from tests.unit.clock import Clock
from tests.unit.needs import GPU, ONE, grant, of_gpus
from tests.unit.node.reserving import Holder, create, found, lose, overdue, places, settle, state
from tests.unit.views import end_lease, node

ALL = Need.of(cpus=4, custom={})


# -- all or nothing --------------------------------------------------------------------------


def test_a_group_is_held_by_the_node_that_has_room_for_it(store: Store, pair: list[Holder]) -> None:
    create(store, "g1", [ONE, GPU])
    settle(*pair)
    assert state(store, "g1") == "created"
    (name,) = set(places(store, "g1"))
    holder, other = sorted(pair, key=lambda each: each.node_id != name)
    assert holder.free == {"CPU": 3 * UNIT, "GPU": UNIT}
    assert other.idle


def test_a_group_is_there_when_every_node_holds_its_part(store: Store, pair: list[Holder]) -> None:
    create(store, "g1", [ONE, ONE], "STRICT_SPREAD")
    pair[0].look()  # makes the plan
    pair[0].look()  # holds its part
    assert state(store, "g1") == "reserving"
    assert not pair[0].idle
    assert pair[0].books("g1") == []
    pair[1].look()
    assert state(store, "g1") == "created"
    settle(*pair)
    assert sorted(places(store, "g1")) == ["a", "b"]
    assert [len(each.books("g1")) for each in pair] == [1, 1]


def test_the_refusal_of_one_node_frees_the_other(store: Store, pair: list[Holder]) -> None:
    create(store, "g1", [ALL, ALL], "SPREAD")
    pair[0].look()
    pair[0].look()
    grant(pair[1].view.free, ONE)  # somebody was quicker
    pair[1].look()
    assert state(store, "g1") == "waiting"
    pair[0].look()
    assert pair[0].idle
    assert pair[1].free["CPU"] == 3 * UNIT


def test_a_group_does_not_take_what_is_saved_for_another(store: Store, pair: list[Holder]) -> None:
    for each in pair:
        each.allowed = False
    create(store, "g1", [ONE])
    settle(*pair)
    assert state(store, "g1") == "waiting"
    assert all(each.idle for each in pair)


def test_a_group_that_was_refused_is_placed_when_there_is_room(
    store: Store, pair: list[Holder]
) -> None:
    create(store, "g1", [ALL, ALL], "SPREAD")
    pair[0].look()
    guest = grant(pair[1].view.free, ONE)
    settle(*pair)
    assert state(store, "g1") == "waiting"
    attempts = found(store, "g1").attempt
    settle(*pair)
    assert found(store, "g1").attempt == attempts  # nobody tries while it is known not to fit
    pair[1].view.free.release(guest)
    overdue(store, "g1")
    pair[1].say()
    settle(*pair)
    assert state(store, "g1") == "created"


def test_a_plan_from_an_old_picture_is_not_made_again_at_once(
    store: Store, pair: list[Holder]
) -> None:
    create(store, "g1", [ALL, ALL], "SPREAD")
    grant(pair[1].view.free, ONE)  # and it has not said so yet
    for _ in range(5):
        pair[0].look()
        pair[1].look()
    assert found(store, "g1").attempt == 1


def test_bundles_of_one_node_are_held_in_whatever_order_they_fit(
    store: Store, pair: list[Holder]
) -> None:
    create(store, "g1", [of_gpus(share) for share in (0.4, 0.4, 0.6, 0.6)], "STRICT_PACK")
    settle(*pair)
    assert state(store, "g1") == "created"


def test_a_node_that_has_lost_its_lease_holds_nothing(store: Store, pair: list[Holder]) -> None:
    create(store, "g1", [ONE, ONE], "STRICT_SPREAD")
    pair[0].look()
    end_lease(store, pair[1].view)
    pair[1].look()
    assert pair[1].idle
    assert state(store, "g1") == "reserving"


def test_no_group_is_held_by_halves_where_two_need_both_nodes(
    store: Store, pair: list[Holder]
) -> None:
    for seed in range(25):
        order = random.Random(seed)
        for name in ("g1", "g2"):
            create(store, f"{name}-{seed}", [ALL, ALL], "STRICT_SPREAD")
        names = [f"g1-{seed}", f"g2-{seed}"]
        while all(state(store, name) != "created" for name in names):
            order.choice(pair).look()
            overdue(store, *(name for name in names if state(store, name) == "waiting"))
        settle(*pair)
        states = {name: state(store, name) for name in names}
        assert sorted(states.values()) == ["created", "waiting"]
        first = next(name for name in names if states[name] == "created")
        groups.remove(store, first)
        settle(*pair)
        overdue(store, *names)
        settle(*pair)
        second = next(name for name in names if name != first)
        assert sorted(places(store, second)) == ["a", "b"]
        groups.remove(store, second)
        settle(*pair)
        assert all(each.idle for each in pair)


def test_a_group_that_was_removed_while_it_was_placed_holds_nothing(
    store: Store, pair: list[Holder]
) -> None:
    create(store, "g1", [ONE, ONE], "STRICT_SPREAD")
    pair[0].look()
    pair[0].look()
    groups.remove(store, "g1")
    settle(*pair)
    assert all(each.idle for each in pair)


def test_a_group_that_nobody_remembers_is_held_no_more(store: Store, pair: list[Holder]) -> None:
    create(store, "g1", [ONE])
    settle(*pair)
    store.run("DEL", routing.group_key("g1"))
    settle(*pair)
    assert all(each.idle for each in pair)


def test_an_answer_that_was_given_and_not_heard_counts(
    store: Store, pair: list[Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    create(store, "g1", [ONE])
    answer = groups.answer

    def unheard(*args: object, **kwargs: object) -> bool:
        answer(*args, **kwargs)  # type: ignore[arg-type] # passed on as they are
        raise StoreError("the connection is lost")

    pair[0].look()
    monkeypatch.setattr(groups, "answer", unheard)
    for each in pair:
        try:
            each.look()
        except StoreError:
            break
    monkeypatch.undo()
    settle(*pair)
    assert state(store, "g1") == "created"
    assert sum(len(each.books("g1")) for each in pair) == 1
    assert sum(each.free["CPU"] for each in pair) == 7 * UNIT


# -- nodes that are slow ---------------------------------------------------------------------


def test_a_node_whose_workers_make_room_answers_when_they_have(
    store: Store, pair: list[Holder]
) -> None:
    create(store, "g1", [ONE, ONE], "STRICT_SPREAD")
    pair[1].room = False
    for _ in range(3):
        pair[0].look()
        pair[1].look()
    assert state(store, "g1") == "reserving"
    assert pair[1].idle
    pair[1].room = True
    settle(*pair)
    assert state(store, "g1") == "created"


def test_nothing_is_held_for_long_beside_a_node_that_is_silent(
    store: Store, pair: list[Holder], reserving_clock: Clock
) -> None:
    create(store, "g1", [ALL, ALL], "SPREAD")
    create(store, "g2", [ALL])
    pair[1].room = False
    for _ in range(3):
        pair[0].look()
        pair[1].look()
    assert not pair[0].idle
    reserving_clock.now += groups.ANSWER_MS / 1000
    pair[0].look()
    assert state(store, "g1") == "waiting"
    pair[0].look()
    pair[1].room = True
    pair[1].look()
    assert pair[1].idle  # its answer would have come too late
    settle(*pair)
    assert state(store, "g2") == "created"


def test_a_node_that_was_slow_to_look_keeps_what_has_become_the_groups(
    store: Store, pair: list[Holder], reserving_clock: Clock
) -> None:
    create(store, "g1", [ONE, ONE], "STRICT_SPREAD")
    pair[0].look()
    pair[0].look()
    pair[1].look()
    reserving_clock.now += groups.ANSWER_MS / 1000
    settle(*pair)
    assert state(store, "g1") == "created"
    assert [len(each.books("g1")) for each in pair] == [1, 1]


# -- nodes that are lost ---------------------------------------------------------------------


def test_the_bundle_of_a_lost_node_is_placed_again_and_the_others_stay(
    store: Store, pair: list[Holder]
) -> None:
    create(store, "g1", [ONE, ONE], "STRICT_SPREAD")
    settle(*pair)
    (books,) = pair[0].books("g1")
    index = places(store, "g1").index("b")
    lose(store, pair[1])
    settle(pair[0])
    assert state(store, "g1") == "waiting"
    third = Holder(store, node("c"))
    settle(pair[0], third)
    assert state(store, "g1") == "created"
    assert places(store, "g1")[index] == "c"
    (same,) = pair[0].books("g1")
    assert same is books
    assert len(third.books("g1", index)) == 1


def test_a_node_that_dies_while_a_group_is_placed_leaves_nothing_held(
    store: Store, pair: list[Holder]
) -> None:
    create(store, "g1", [ALL, ALL], "STRICT_SPREAD")
    pair[0].look()
    pair[0].look()
    assert not pair[0].idle
    lose(store, pair[0])
    pair[1].look()
    assert state(store, "g1") == "waiting"
    assert pair[1].idle


def test_a_node_that_was_taken_for_dead_gives_up_what_it_held(
    store: Store, pair: list[Holder]
) -> None:
    create(store, "g1", [ONE, ONE], "STRICT_SPREAD")
    settle(*pair)
    lose(store, pair[1])
    pair[1].look()
    assert pair[1].idle
    assert pair[1].books("g1") == []
