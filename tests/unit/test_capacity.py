from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from celery_actors import capacity, routing
from celery_actors.capacity import Capacity
from celery_actors.errors import InsufficientResourcesError
from celery_actors.need import Need
from celery_actors.options import FunctionOptions, function_options
from celery_actors.placement import NodeView
from celery_actors.store import Store
from celery_actors.strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)
from tests.unit.needs import GPU, ONE, grant, of_gpus
from tests.unit.views import announce, end_lease, node


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(capacity, "time", found)
    return found


def place(store: Store, *nodes: NodeView, **given: Any) -> Need:
    """Place a function with these options in a cluster of these nodes."""
    announce(store, *nodes)
    return place_by(Capacity(store), **given)


def place_by(caller: Capacity, **given: Any) -> Need:
    options = function_options(FunctionOptions(), given)
    return caller.place(options, options.need, "f()")


def refusal(store: Store, *nodes: NodeView, **given: Any) -> str:
    with pytest.raises(InsufficientResourcesError) as caught:
        place(store, *nodes, **given)
    return str(caught.value)


def hard(node_id: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id)


def soft(node_id: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id, soft=True)


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


# -- what could never be held ----------------------------------------------------------------


def test_the_text_says_what_is_asked_what_there_is_and_how_to_add_it(store: Store) -> None:
    text = refusal(store, node("a", cpus=8, gpus=1), node("b", cpus=2), num_gpus=2)
    assert text == (
        "f() needs 2 GPUs on one node; the largest node has 1: start `celery_actors worker "
        "--num-gpus 2` there. It asks for 2 GPUs, 1 CPU. In total a has 1 GPU, 8 CPUs; b has 2 "
        "CPUs. To wait for such a node instead, give wait_for_resources=True"
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"num_cpus": 16},
            (
                "needs 16 CPUs on one node; the largest node has 4: start `celery_actors worker "
                "--num-cpus 16` there"
            ),
        ),
        (
            {"num_gpus": 0.5, "accelerator_type": "H100", "resources": {"tpu": 1}},
            "needs a device of type H100 on one node, and there is none: start a node that has one",
        ),
        (
            {"resources": {"ssd": 12345678.5}},
            (
                "needs 12345678.5 of ssd on one node; the largest node has 1: start `celery_actors "
                "worker --resources '{\"ssd\": 12345678.5}'` there"
            ),
        ),
        (
            {"memory": 2**40},
            (
                "needs 1024 GiB of memory on one node; the largest node has 1 GiB: start "
                "`celery_actors worker --memory 1099511627776` there"
            ),
        ),
        (
            {"num_cpus": 4, "num_gpus": 1},
            "needs 1 GPU, 4 CPUs together on one node, and no node has all of it",
        ),
        (
            {"scheduling_strategy": hard("b"), "num_gpus": 2},
            "needs 2 GPUs on the node b; it has 1: start `celery_actors worker --num-gpus 2` there",
        ),
        (
            {"scheduling_strategy": hard("b"), "gpu_ids": [7]},
            "needs the devices [7] of the node b, which has no such devices",
        ),
        (
            {"scheduling_strategy": soft("a"), "num_gpus": 2},
            "needs 2 GPUs on one node; the largest node has 1: start",
        ),
        (
            {"scheduling_strategy": soft("gone"), "num_gpus": 2},
            "needs 2 GPUs on one node; the largest node has 1: start",
        ),
        ({"scheduling_strategy": "SPREAD", "num_gpus": 2}, "needs 2 GPUs on one node;"),
        (
            {"label_selector": {"disk": "in(fast,slow)", "zone": "!x"}},
            (
                "needs a node with the labels disk=in(fast,slow),zone=!x, and no node has them: start "
                "`celery_actors worker --labels disk=fast`"
            ),
        ),
        (
            {"label_selector": {"zone": "!in(x,y)"}},
            "needs a node with the labels zone=!in(x,y), and no node has them: start one that has",
        ),
        (
            {"label_selector": {"zone": "x"}, "num_gpus": 1},
            (
                "needs 1 GPU on one node; the largest node has 0: start `celery_actors worker "
                "--num-gpus 1` there"
            ),
        ),
        (
            {"label_selector": {"zone": "x"}, "scheduling_strategy": hard("b")},
            "needs the labels zone=x on the node b, and that does not have them",
        ),
        ({"num_gpus": 0.25, "label_selector": {"zone": "x"}}, "--num-gpus 1"),
    ],
)
def test_each_lack_is_named_with_its_cure(store: Store, given: dict[str, Any], text: str) -> None:
    nodes = [
        node("a", custom={"ssd": 1}, memory=2**30, labels={"zone": "x"}),
        node("b", cpus=2, gpus=1, custom={"tpu": 1}, kinds=["A100"], labels={"zone": "y"}),
    ]
    assert text in refusal(store, *nodes, **given)


def test_work_that_needs_nothing_needs_a_cpu(store: Store) -> None:
    assert "needs a node with a CPU: start" in refusal(store, node("a", cpus=0), num_cpus=0)


def test_a_large_cluster_is_not_listed_to_its_end(store: Store) -> None:
    text = refusal(store, *(node(f"n{number:02}") for number in range(13)), num_gpus=1)
    assert text.count("has 4 CPUs") == 10
    assert "; and 3 more nodes. To wait" in text


def test_work_that_is_to_wait_for_resources_waits(store: Store) -> None:
    need = place(store, node("a"), num_gpus=2, wait_for_resources=True)
    assert need == Need.of(cpus=1, gpus=2, custom={})
    spread = place(store, num_gpus=2, wait_for_resources=True, scheduling_strategy="SPREAD")
    assert spread == need


def test_the_error_names_what_was_to_run(store: Store) -> None:
    announce(store, node("a"))
    options = function_options(FunctionOptions(), {"num_gpus": 1})
    with pytest.raises(InsufficientResourcesError, match=r"^an actor Net needs 1 GPU on one node"):
        Capacity(store).place(options, options.need, "an actor Net")


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
