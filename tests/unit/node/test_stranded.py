"""Work that waits where it can never be met: passed on, or answered with the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from celery_actors import directory, groups, routing
from celery_actors.need import Need
from celery_actors.node import stranded
from celery_actors.node.stranded import Stranded
from celery_actors.serialization import Sealer
from celery_actors.store import Store
from tests.unit.clock import Clock
from tests.unit.needs import ONE
from tests.unit.node.outcomes import GARBAGE, RING, call, numbers, outcomes, text_of
from tests.unit.store.records import TTL, StoredActor, messages_on
from tests.unit.views import announce, end_lease, node

ME = "n1"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of(monkeypatch, stranded)


@pytest.fixture
def helper(store: Store) -> Stranded:
    """The node n1 in a cluster of two."""
    announce(store, node(ME), node("n2"))
    return Stranded(store, ME, TTL)


def send(store: Store, need: Need, *calls: int) -> None:
    for number in calls:
        store.run("LPUSH", routing.shared_queue(need.label), call(number))


def create(store: Store, need: Need, number: int = 0) -> StoredActor:
    actor = StoredActor(store, f"actor-{number}", f"name-{number}")
    context = directory.spec_context(actor.actor_id)
    directory.create(
        store, actor_id=actor.actor_id, queue=actor.keys.queue,
        spec=Sealer(RING).seal(((), {}), context, "spec", "a spec"),
        name_field=routing.name_field("default", actor.name), need=need, job="job-1",
        detached=False, fields={"class": "Counter", "max_restarts": 1},
    )  # fmt: skip
    return actor


def see_to(helper: Stranded, need: Need) -> None:
    helper.see_to(need.label, need)


def waiting(store: Store, need: Need) -> list[str]:
    """The calls that wait under a need, oldest first, then how many actors."""
    calls = store.texts("LRANGE", routing.shared_queue(need.label), 0, -1)[::-1]
    actors = store.run("LLEN", routing.creation_queue(need.label))
    return [*numbers(calls), *(["an actor"] * int(actors))]


def on(node_id: str, otherwise: Any = "wait") -> Need:
    return replace(ONE, node=node_id, otherwise=otherwise)


# -- bound to a node -------------------------------------------------------------------------


def test_work_that_is_bound_to_a_lost_node_is_answered(store: Store, helper: Stranded) -> None:
    need = on("lost")
    send(store, need, 1, 2)
    actor = create(store, need)
    actor.submit(1, call(3))
    for _ in range(2):
        see_to(helper, need)
    assert outcomes(store) == {
        "1": "TaskUnschedulableError",
        "2": "TaskUnschedulableError",
        "3": "ActorUnschedulableError",
    }
    assert text_of(store, 1) == (
        "Counter.add cannot run: the node lost, to which it is bound, is gone. Use "
        "NodeAffinitySchedulingStrategy(soft=True) to let another node take it"
    )
    assert waiting(store, need) == []
    assert actor.meta["st"] == "buried"


def test_a_look_answers_so_many_calls_as_leave_time_for_the_lease(
    store: Store, helper: Stranded
) -> None:
    need = on("lost")
    send(store, need, *range(450))
    bell = store.subscribe(routing.BELL)
    counts = []
    for _ in range(3):
        see_to(helper, need)
        counts.append(len(outcomes(store)))
    assert counts == [200, 400, 450]
    assert waiting(store, need) == []
    assert messages_on(bell, 2) == [need.label] * 2  # nobody has to wait for the next tick


def test_a_look_ends_so_many_actors_as_leave_time_for_the_lease(
    store: Store, helper: Stranded
) -> None:
    need = on("lost")
    actors = [create(store, need, number) for number in range(30)]
    bell = store.subscribe(routing.BELL)
    see_to(helper, need)
    assert [each.meta["st"] for each in actors] == ["buried"] * 20 + ["pending"] * 10
    assert messages_on(bell, 1) == [need.label]
    see_to(helper, need)
    assert {each.meta["st"] for each in actors} == {"buried"}
    assert waiting(store, need) == []


@pytest.mark.parametrize("otherwise", ["gone", "full"])
def test_work_that_only_prefers_a_lost_node_goes_to_any(
    store: Store, helper: Stranded, otherwise: str
) -> None:
    need = on("lost", otherwise)
    send(store, need, 1, 2)
    actor = create(store, need)
    for _ in range(2):
        see_to(helper, need)
    assert waiting(store, need) == []
    assert waiting(store, ONE) == ["1", "2", "an actor"]
    assert actor.meta["need"] == ONE.label
    assert outcomes(store) == {}


@pytest.mark.parametrize("otherwise", ["wait", "gone", "full"])
def test_work_for_another_living_node_is_that_nodes(
    store: Store, helper: Stranded, otherwise: str
) -> None:
    need = on("n2", otherwise)
    send(store, need, 1)
    see_to(helper, need)
    assert waiting(store, need) == ["1"]


def test_a_node_that_has_fallen_silent_counts_until_its_loss_is_settled(store: Store) -> None:
    # After a pause of the store every lease is over: whoever renews first must not refuse the
    # work of the others.
    views = [node(ME), node("n2")]
    announce(store, *views)
    end_lease(store, views[1])
    need = on("n2")
    send(store, need, 1)
    see_to(Stranded(store, ME, TTL), need)
    assert waiting(store, need) == ["1"]
    store.run("HDEL", routing.NODES, "n2")
    see_to(Stranded(store, ME, TTL), need)
    assert outcomes(store) == {"1": "TaskUnschedulableError"}


def test_a_look_at_the_nodes_counts_for_a_second(
    store: Store, clock: Clock, helper: Stranded
) -> None:
    need = on("n2")
    send(store, need, 1)
    see_to(helper, need)
    store.run("HDEL", routing.NODES, "n2")
    see_to(helper, need)
    assert waiting(store, need) == ["1"]
    clock.now += 1
    see_to(helper, need)
    assert waiting(store, need) == []


@pytest.mark.parametrize("otherwise", ["gone", "full"])
def test_work_that_prefers_this_node_and_could_never_run_here_goes_to_any(
    store: Store, helper: Stranded, otherwise: str
) -> None:
    need = replace(on(ME, otherwise), selector=(("zone", "a"),), env="e")
    send(store, need, 1)
    see_to(helper, need)
    assert waiting(store, need) == []
    assert waiting(store, replace(ONE, selector=(("zone", "a"),), env="e")) == ["1"]


def test_work_that_is_bound_to_this_node_and_could_never_run_here_waits(
    store: Store, helper: Stranded
) -> None:
    # The caller was asked, and said that it waits for resources.
    need = on(ME)
    send(store, need, 1)
    see_to(helper, need)
    helper.pass_on(need.label, need)
    assert waiting(store, need) == ["1"]


def test_work_for_which_this_node_is_full_goes_to_any(store: Store, helper: Stranded) -> None:
    need = on(ME, "full")
    send(store, need, 1, 2)
    helper.pass_on(need.label, need)
    assert waiting(store, ONE) == ["1", "2"]


def test_work_that_any_node_may_take_is_left_to_those_that_can(
    store: Store, helper: Stranded
) -> None:
    need = replace(ONE, selector=(("zone", "a"),))
    send(store, need, 1)
    see_to(helper, need)
    assert waiting(store, need) == ["1"]


# -- in a placement group --------------------------------------------------------------------

INSIDE = replace(ONE, bundle="g1.0")


@pytest.mark.parametrize("known", [True, False])
def test_work_in_a_removed_group_is_answered(store: Store, helper: Stranded, known: bool) -> None:
    if known:
        groups.create(store, "g1", [ONE], "PACK", name="", job="")
        groups.remove(store, "g1")
    send(store, INSIDE, 1)
    actor = create(store, INSIDE)
    actor.submit(1, call(2))
    for _ in range(2):
        see_to(helper, INSIDE)
    assert outcomes(store) == {"1": "TaskPlacementGroupRemoved", "2": "ActorPlacementGroupRemoved"}
    assert text_of(store, 1) == (
        "Counter.add was to run in the placement group g1, which was removed"
    )
    assert waiting(store, INSIDE) == []


def test_work_in_a_group_that_waits_for_its_place_waits(store: Store, helper: Stranded) -> None:
    groups.create(store, "g1", [ONE], "PACK", name="", job="")
    send(store, INSIDE, 1)
    see_to(helper, INSIDE)
    assert waiting(store, INSIDE) == ["1"]


# -- what should not be there ----------------------------------------------------------------


@pytest.mark.parametrize("message", ["no JSON", "[]", "{}", "7", '{"headers": {"ca_create": 1}}'])
def test_what_is_no_creation_becomes_a_dead_letter(
    store: Store, helper: Stranded, message: str
) -> None:
    need = on("lost")
    store.run("LPUSH", routing.creation_queue(need.label), message)
    actor = create(store, need)
    for _ in range(2):
        see_to(helper, need)
    (letter,) = store.texts("LRANGE", routing.DEAD_LETTERS, 0, -1)
    assert json.loads(letter)["message"] == message
    assert waiting(store, need) == []
    assert actor.meta["st"] == "buried"


def test_the_creation_of_an_actor_that_is_not_known_is_forgotten(
    store: Store, helper: Stranded
) -> None:
    need = on("lost")
    actor = create(store, need)
    store.run("DEL", actor.keys.meta)
    see_to(helper, need)
    assert waiting(store, need) == []


def test_a_call_that_cannot_be_read_is_removed_too(store: Store, helper: Stranded) -> None:
    need = on("lost")
    store.run("LPUSH", routing.shared_queue(need.label), GARBAGE)
    send(store, need, 1)
    see_to(helper, need)
    assert outcomes(store) == {"1": "TaskUnschedulableError"}
    assert waiting(store, need) == []


@pytest.mark.parametrize("otherwise", ["wait", "gone", "full"])
def test_work_for_a_node_that_has_just_come_is_left_to_it(
    store: Store, helper: Stranded, clock: Clock, otherwise: Any
) -> None:
    see_to(helper, on("n2"))  # a look at who is there, which counts for a second
    clock.now += 0.1
    announce(store, node("n3"))
    need = on("n3", otherwise)
    send(store, need, 1)
    create(store, need)

    see_to(helper, need)

    assert waiting(store, need) == ["1", "an actor"]
