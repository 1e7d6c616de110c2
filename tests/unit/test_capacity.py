from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from celery_actors import capacity, routing
from celery_actors.capacity import Capacity
from celery_actors.errors import InsufficientResourcesError
from celery_actors.need import Need
from celery_actors.store import Store
from celery_actors.strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)
from tests.unit.clock import Clock
from tests.unit.needs import GPU, ONE, grant, of_gpus
from tests.unit.placing import hard, place, place_by, refusal, soft
from tests.unit.views import announce, end_lease, node


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of(monkeypatch, capacity)


# -- what could be held ----------------------------------------------------------------------


def test_work_that_some_node_could_hold_is_sent_as_it_is(store: Store) -> None:
    assert place(store, node("a", cpus=1), node("b", gpus=2), num_gpus=2) == Need.of(
        cpus=1, gpus=2, custom={}
    )


def test_work_that_a_full_node_could_hold_waits_there(store: Store) -> None:
    full = node("a", cpus=1)
    grant(full.free, ONE)
    assert place(store, full) == ONE


def test_without_a_node_work_waits_for_one(store: Store) -> None:
    assert place(store, num_gpus=8).gpus == 80_000
    assert place(store, scheduling_strategy="SPREAD") == ONE
    assert place(store, label_selector={"zone": "a"}).selector == (("zone", "a"),)


# -- fallbacks -------------------------------------------------------------------------------

ZONES = {
    "label_selector": {"zone": "a"},
    "fallback_strategy": [{"label_selector": {"zone": "b"}}, {"label_selector": {}}],
}


@pytest.mark.parametrize(
    ("zones", "chosen"), [("ab", "a"), ("bc", "b"), ("cd", None)]
)  # fmt: skip
def test_the_first_alternative_that_could_be_held_is_taken(
    store: Store, zones: str, chosen: str | None
) -> None:
    nodes = [node(zone, labels={"zone": zone}) for zone in zones]
    need = place(store, *nodes, **ZONES)
    assert need == replace(ONE, selector=(("zone", chosen),) if chosen else ())


def test_where_no_alternative_can_be_held_the_first_is_explained_or_waits(store: Store) -> None:
    given = {**ZONES, "num_gpus": 1}
    assert "needs a node with the labels zone=a" in refusal(store, node("n"), **given)
    need = place(store, node("n"), wait_for_resources=True, **given)
    assert need.selector == (("zone", "a"),)


# -- nodes by name and by turns ----------------------------------------------------------------


@pytest.mark.parametrize("strategy", [hard("b"), soft("b")])
def test_work_for_a_node_goes_there(store: Store, strategy: NodeAffinitySchedulingStrategy) -> None:
    need = place(store, node("a"), node("b"), scheduling_strategy=strategy)
    assert (need.node, need.otherwise) == ("b", "gone" if strategy.soft else "wait")


def test_work_for_a_node_that_is_gone_is_sent_to_its_queue(store: Store) -> None:
    # Its error, or another node, comes from those that look there.
    assert place(store, node("a"), scheduling_strategy=hard("gone"), num_gpus=9).node == "gone"
    assert place(store, node("a"), scheduling_strategy=soft("gone")).node == "gone"


def test_work_that_prefers_a_node_may_be_held_by_another(store: Store) -> None:
    nodes = [node("a"), node("b", gpus=1)]
    assert place(store, *nodes, scheduling_strategy=soft("a"), num_gpus=1).node == "a"


def test_spread_work_goes_round(store: Store) -> None:
    announce(store, node("a"), node("b"), node("c", cpus=0))
    caller = Capacity(store)
    needs = [place_by(caller, scheduling_strategy="SPREAD") for _ in range(4)]
    assert [need.node for need in needs] == ["a", "b", "a", "b"]
    assert {need.otherwise for need in needs} == {"full"}
    assert {need.anywhere for need in needs} == {ONE}


# -- placement groups ------------------------------------------------------------------------


def group(*bundles: Need) -> Any:
    return SimpleNamespace(
        id="g1", needs=list(bundles), bundle_specs=[each.plain for each in bundles],
        bundle_count=len(bundles),
    )  # fmt: skip


def inside(placement_group: Any, index: int = -1) -> dict[str, Any]:
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(placement_group, index)}


def test_work_in_a_group_asks_no_node(store: Store) -> None:
    # The group may wait for nodes that are to come.
    need = place(store, node("a", cpus=1), num_cpus=4, **inside(group(Need.of(cpus=4, custom={}))))
    assert need == replace(Need.of(cpus=4, custom={}), bundle="g1")


@pytest.mark.parametrize(
    ("given", "index", "text"),
    [
        ({"num_cpus": 3}, -1, "needs 3 CPUs, which is more than any bundle of its placement group"),
        ({"num_cpus": 2}, 0, "which is more than bundle 0 of its placement group has: 1 CPU"),
        ({"num_cpus": 1, "num_gpus": 1}, 1, "more than bundle 1 of its .* has: 0.5 GPU, 2 CPUs"),
        ({"num_cpus": 0, "accelerator_type": "A"}, 1, "needs a device of type A, which is more"),
    ],
)
def test_work_that_no_bundle_could_hold_is_refused(
    store: Store, given: dict[str, Any], index: int, text: str
) -> None:
    bundles = group(ONE, Need.of(cpus=2, gpus=0.5, custom={}))
    with pytest.raises(ValueError, match=text):
        place(store, **given, **inside(bundles, index))


def test_bundles_with_devices_hold_shares_whole_ones_and_types(store: Store) -> None:
    bundles = group(of_gpus(0.5), of_gpus(2, "A"))
    for given, index in (
        ({"num_gpus": 0.5}, 0), ({"num_gpus": 0.5}, -1), ({"num_gpus": 2}, 1),
        ({"num_gpus": 1, "accelerator_type": "A"}, 1),
    ):  # fmt: skip
        assert place(store, num_cpus=0, **given, **inside(bundles, index)).bundle.startswith("g1")


def test_a_group_that_captures_takes_what_names_no_strategy(store: Store) -> None:
    announce(store, node("a"))
    caller = Capacity(store)
    caller.captured = "g1"
    assert place_by(caller) == replace(ONE, bundle="g1", captures=True)
    assert place_by(caller, placement_group="default").bundle == "g1"
    assert place_by(caller, num_gpus=9).bundle == "g1"  # it waits, as in Ray
    assert place_by(caller, scheduling_strategy="DEFAULT") == ONE
    assert place_by(caller, scheduling_strategy="SPREAD").node == "a"
    assert place_by(caller, **inside(group(ONE), 0)) == replace(ONE, bundle="g1.0")


# -- how old a look may be -------------------------------------------------------------------


def test_a_look_at_the_nodes_counts_for_a_second(store: Store, clock: Clock) -> None:
    announce(store, node("a"))
    caller = Capacity(store)
    with pytest.raises(InsufficientResourcesError):
        place_by(caller, num_gpus=1)
    announce(store, node("b", gpus=1))
    with pytest.raises(InsufficientResourcesError):
        place_by(caller, num_gpus=1)
    clock.now += 1
    assert place_by(caller, num_gpus=1).gpus == GPU.gpus


def test_what_fitted_is_looked_at_again_after_a_second(store: Store, clock: Clock) -> None:
    announce(store, node("a", gpus=1))
    caller = Capacity(store)
    place_by(caller, num_gpus=1)
    announce(store, node("a"))
    clock.now += 0.9
    place_by(caller, num_gpus=1)
    clock.now += 0.1
    with pytest.raises(InsufficientResourcesError):
        place_by(caller, num_gpus=1)


def test_a_node_that_has_fallen_silent_counts_until_its_loss_is_settled(
    store: Store, clock: Clock
) -> None:
    # After a pause of the store all leases are over, and each node renews its own.
    views = [node("a", gpus=1), node("b")]
    announce(store, *views)
    caller = Capacity(store)
    end_lease(store, views[0])
    assert place_by(caller, num_gpus=1).gpus == GPU.gpus
    assert [view.node_id for view in caller.nodes()] == ["b"]
    assert place_by(caller, scheduling_strategy="SPREAD").node == "b"
    store.run("HDEL", routing.NODES, "a")
    clock.now += 1
    with pytest.raises(InsufficientResourcesError):
        place_by(caller, num_gpus=1)
