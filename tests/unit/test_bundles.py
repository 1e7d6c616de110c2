from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celery_actors.bundles import STRATEGIES, Strategy, hold, needs_of, plan
from celery_actors.need import UNIT, Need
from celery_actors.placement import Ledger, NodeView
from tests.unit.needs import GPU, ONE, grant, of_gpus
from tests.unit.views import node

TWO = Need.of(cpus=2, custom={})


def cpus(*amounts: float) -> list[Need]:
    return [Need.of(cpus=amount, custom={}) for amount in amounts]


# -- bundles as needs ------------------------------------------------------------------------


def test_bundles_are_needs_in_rays_names() -> None:
    assert needs_of([{"CPU": 1, "GPU": 0.5, "memory": 2**30, "ssd": 2}, {"CPU": 1}]) == [
        Need.of(cpus=1, gpus=0.5, memory=2**30, custom={"ssd": 2}),
        ONE,
    ]


def test_a_bundle_may_name_a_device_type() -> None:
    (need,) = needs_of([{"GPU": 1, "accelerator_type:H100": 0.001}])
    assert need == Need.of(gpus=1, accelerator="H100", custom={})


def test_each_bundle_has_its_own_conditions() -> None:
    assert needs_of([{"CPU": 1}, {"CPU": 1}], [{"zone": "a"}, {}]) == [
        replace(ONE, selector=(("zone", "a"),)),
        ONE,
    ]


def test_the_callers_mappings_stay_as_they_are() -> None:
    given_bundle = {"CPU": 1.0, "ssd": 1.0}
    needs_of([given_bundle])
    assert given_bundle == {"CPU": 1.0, "ssd": 1.0}


# -- strategies ------------------------------------------------------------------------------


def test_pack_takes_one_node_where_one_has_room_for_all() -> None:
    nodes = [node("a", cpus=64, gpus=1), node("b", cpus=4, gpus=2)]
    assert plan([GPU, GPU], "PACK", nodes) == ["b", "b"]


def test_pack_takes_the_fullest_of_such_nodes() -> None:
    nodes = [node("a", cpus=8), node("b", cpus=4), node("c", cpus=2)]
    assert plan([ONE, ONE, ONE], "PACK", nodes) == ["b", "b", "b"]


def test_pack_takes_several_nodes_where_none_has_room_for_all() -> None:
    nodes = [node("a", cpus=1), node("b", cpus=2)]
    found = plan([ONE, ONE, ONE], "PACK", nodes)
    assert sorted(found or []) == ["a", "b", "b"]
    assert plan([ONE] * 4, "PACK", nodes) is None


def test_strict_pack_takes_one_node_or_none() -> None:
    nodes = [node("a", cpus=1), node("b", cpus=2)]
    assert plan([ONE, ONE], "STRICT_PACK", nodes) == ["b", "b"]
    assert plan([ONE, ONE, ONE], "STRICT_PACK", nodes) is None


def test_spread_takes_one_node_after_the_other() -> None:
    nodes = [node("a"), node("b"), node("c", cpus=1)]
    assert sorted(plan([ONE] * 3, "SPREAD", nodes) or []) == ["a", "b", "c"]
    assert sorted(plan([ONE] * 5, "SPREAD", nodes) or []) == ["a", "a", "b", "b", "c"]


def test_strict_spread_takes_a_node_for_each_or_none() -> None:
    nodes = [node("a"), node("b", cpus=2), node("c")]
    found = plan(cpus(1, 3, 3), "STRICT_SPREAD", nodes)
    assert found is not None
    assert (found[0], set(found[1:])) == ("b", {"a", "c"})
    assert plan(cpus(3, 3, 3), "STRICT_SPREAD", nodes) is None
    assert plan([ONE] * 4, "STRICT_SPREAD", nodes) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_nodes_there_is_no_plan(strategy: Strategy) -> None:
    assert plan([ONE], strategy, []) is None
    assert plan([ONE], strategy, [node("a", cpus=0)]) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_planning_changes_no_books(strategy: Strategy) -> None:
    views, same = ([node("a", gpus=2), node("b", gpus=1)] for _ in range(2))
    for bundles in ([GPU, GPU], [of_gpus(0.5), GPU, GPU]):
        plan(bundles, strategy, views)
        plan(bundles, strategy, views, empty=True)
    assert views == same


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_conditions_on_labels_are_met(strategy: Strategy) -> None:
    nodes = [node("a", cpus=8, labels={"zone": "x"}), node("b", cpus=1, labels={"zone": "y"})]
    assert plan([replace(ONE, selector=(("zone", "y"),))], strategy, nodes) == ["b"]
    assert plan([replace(ONE, selector=(("zone", "z"),))], strategy, nodes) is None


# -- what is placed already ------------------------------------------------------------------


def test_placed_bundles_stay_where_they_are() -> None:
    nodes = [node("a"), node("b"), node("c")]
    assert plan([ONE, ONE], "PACK", nodes, ["b", ""]) == ["b", "b"]
    assert plan([ONE, ONE], "STRICT_PACK", nodes, ["", "c"]) == ["c", "c"]
    found = plan([ONE] * 3, "SPREAD", nodes, ["", "b", ""])
    assert found is not None
    assert found[1] == "b"
    assert sorted(found) == ["a", "b", "c"]


def test_strict_pack_follows_what_is_placed_or_waits() -> None:
    nodes = [node("a"), node("b", cpus=1)]
    grant(nodes[1].free, ONE)
    assert plan([ONE, ONE], "STRICT_PACK", nodes, ["b", ""]) is None
    assert plan([ONE, ONE], "STRICT_PACK", nodes, ["gone", ""]) is None
    assert plan([ONE, ONE, ONE], "STRICT_PACK", nodes, ["a", "b", ""]) is None


def test_strict_spread_keeps_off_what_is_placed() -> None:
    nodes = [node("a"), node("b")]
    assert plan([ONE, ONE], "STRICT_SPREAD", nodes, ["b", ""]) == ["b", "a"]
    assert plan([ONE, ONE], "STRICT_SPREAD", nodes[1:], ["b", ""]) is None


def test_a_group_that_is_placed_is_its_own_plan() -> None:
    assert plan([ONE, ONE], "PACK", [], ["a", "b"]) == ["a", "b"]


# -- could it ever be placed? ----------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_full_cluster_could_hold_the_group_once_it_is_empty(strategy: Strategy) -> None:
    nodes = [node("a", cpus=2), node("b", cpus=2)]
    for view in nodes:
        grant(view.free, TWO)
    assert plan([ONE, ONE], strategy, nodes) is None
    assert plan([ONE, ONE], strategy, nodes, empty=True) is not None
    assert plan(cpus(1, 3), strategy, nodes, empty=True) is None


def test_what_is_placed_takes_its_room_in_an_empty_cluster_too() -> None:
    nodes = [node("a", cpus=2)]
    assert plan([ONE, ONE], "PACK", nodes, ["a", ""], empty=True) == ["a", "a"]
    assert plan([TWO, ONE], "PACK", nodes, ["a", ""], empty=True) is None


# -- groups that the most promising way does not find ----------------------------------------


def test_a_bundle_that_suits_few_nodes_comes_before_those_that_suit_many() -> None:
    nodes = [node("a", labels={"zone": "x"}), node("b")]
    bundles = [Need.of(cpus=4, custom={}), replace(ONE, selector=(("zone", "x"),))]
    assert plan(bundles, "PACK", nodes) == ["b", "a"]
    assert plan(bundles, "STRICT_SPREAD", nodes) == ["b", "a"]


def test_devices_of_a_type_are_left_to_bundles_that_need_them() -> None:
    nodes = [node("a", gpus=3, kinds=["A", "B", "B"])]
    assert plan([of_gpus(2), of_gpus(1, "A")], "STRICT_PACK", nodes) == ["a", "a"]


def test_three_and_three_fit_beside_two_two_and_two() -> None:
    # The largest first would put 3 and 3 together, and there is no room for the third 2 then.
    nodes = [node("a", cpus=6), node("b", cpus=7)]
    assert plan(cpus(3, 3, 2, 2, 2), "PACK", nodes) is not None
    assert plan(cpus(4, 3, 2, 2, 2), "SPREAD", nodes) is not None


def test_shares_fill_devices_to_the_last() -> None:
    nodes = [node("a", gpus=2)]
    bundles = [of_gpus(share) for share in (0.5, 0.4, 0.3, 0.3, 0.3, 0.2)]
    assert plan(bundles, "STRICT_PACK", nodes) == ["a"] * 6
    assert plan([*bundles, of_gpus(0.1)], "STRICT_PACK", nodes) is None


def test_a_search_without_end_is_given_up() -> None:
    # Nearly full, and each of very many ways fails at its end only.
    bundles = cpus(*(1 + number / 100 for number in range(30)))
    nodes = [node(f"n{number}", cpus=3 + number / 50) for number in range(12)]
    assert plan(bundles, "SPREAD", nodes) is None


# -- a node holds what was planned for it ----------------------------------------------------


def test_a_node_holds_all_or_nothing() -> None:
    ledger, same = (Ledger.of(cpus=2, gpus=2, custom={}) for _ in range(2))
    assert hold(ledger, [ONE, GPU, TWO]) is None
    assert ledger == same
    held = hold(ledger, [ONE, GPU, ONE])
    assert held is not None
    assert [allocation.gpu_ids for allocation in held] == [(), (0,), ()]
    assert ledger.free == {"CPU": 0, "GPU": UNIT}
    for allocation in held:
        ledger.release(allocation)
    assert ledger == same


def test_a_node_finds_room_for_bundles_in_any_order() -> None:
    # One after the other, both small shares would go to one device, and 0.6 find no room.
    for shares in itertools.permutations([0.4, 0.4, 0.6, 0.6]):
        ledger = Ledger.of(cpus=0, gpus=2, custom={})
        held = hold(ledger, [of_gpus(share) for share in shares])
        assert held is not None
        assert [allocation.share for allocation in held] == [share * UNIT for share in shares]
        assert ledger.gpus == {0: 0, 1: 0}


# -- any group, compared with every way there is ---------------------------------------------

_LABELS = st.sampled_from([{"zone": "x"}, {"zone": "y"}])
_SHARES = [0, 0, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1, 2]


@st.composite
def clusters(draw: st.DrawFn) -> list[NodeView]:
    found = []
    for number in range(draw(st.integers(0, 3))):
        gpus = draw(st.integers(0, 2))
        kinds = draw(st.lists(st.sampled_from(["A", "B"]), min_size=gpus, max_size=gpus))
        view = node(f"n{number}", cpus=draw(st.integers(0, 6)), gpus=gpus, kinds=kinds,
                    labels=draw(_LABELS))  # fmt: skip
        for _ in range(draw(st.integers(0, 2))):  # somebody is there already
            view.free.acquire(draw(asked()))
        found.append(view)
    return found


@st.composite
def asked(draw: st.DrawFn) -> Need:
    gpus = draw(st.sampled_from(_SHARES))
    kind = draw(st.sampled_from(["", "", "A", "B"])) if gpus else ""
    selector = draw(st.sampled_from([(), (), (("zone", "x"),)]))
    need = Need.of(cpus=draw(st.integers(0, 4)), gpus=gpus, accelerator=kind, custom={})
    return replace(need, selector=selector)


def holds(ledger: Ledger, needs: Sequence[Need]) -> bool:
    """Tell whether there is any way at all to hold all of these: every choice of devices."""
    if not needs:
        return True
    first, *others = needs
    for devices in _device_sets(ledger, first):
        allocation = ledger.acquire(replace(first, gpu_ids=devices))
        if allocation is None:
            continue
        held = holds(ledger, others)
        ledger.release(allocation)
        if held:
            return True
    return False


def _device_sets(ledger: Ledger, need: Need) -> Iterator[tuple[int, ...]]:
    count = -(-need.gpus // UNIT)
    yield from itertools.combinations(ledger.devices, count)


def met(
    found: Sequence[str], bundles: Sequence[Need], strategy: Strategy, nodes: Sequence[NodeView]
) -> bool:
    """Tell whether bundles may be on these nodes: their labels, their books, the strategy."""
    if strategy == "STRICT_PACK" and len(set(found)) > 1:
        return False
    if strategy == "STRICT_SPREAD" and len(set(found)) < len(found):
        return False
    for view in nodes:
        mine = [need for need, place in zip(bundles, found, strict=True) if place == view.node_id]
        if not all(need.welcomes(view.node_id, view.labels) for need in mine):
            return False
        if not holds(view.free.copy(), mine):
            return False
    return True


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(clusters(), st.lists(asked(), min_size=1, max_size=4))
@example(
    [node("a", cpus=0, gpus=2)], [of_gpus(share) for share in (0.4, 0.4, 0.6, 0.6)]
)  # fmt: skip
def test_there_is_a_plan_exactly_where_there_is_a_way(
    strategy: Strategy, nodes: list[NodeView], bundles: list[Need]
) -> None:
    found = plan(bundles, strategy, nodes)
    if found is None:
        ids = [view.node_id for view in nodes]
        ways = itertools.product(ids, repeat=len(bundles))
        assert not any(met(way, bundles, strategy, nodes) for way in ways)
    else:
        assert met(found, bundles, strategy, nodes)
        for view in nodes:
            mine = [need for need, where in zip(bundles, found, strict=True)
                    if where == view.node_id]  # fmt: skip
            assert hold(view.free.copy(), mine) is not None


@given(st.data(), clusters(), st.lists(asked(), min_size=2, max_size=4))
def test_a_plan_for_what_was_lost_meets_the_strategy_with_what_is_left(
    data: st.DataObject, nodes: list[NodeView], bundles: list[Need]
) -> None:
    strategy = data.draw(st.sampled_from(STRATEGIES))
    first = plan(bundles, strategy, nodes)
    if first is None:
        return
    lost = data.draw(st.sets(st.integers(0, len(bundles) - 1)))
    placed = ["" if index in lost else where for index, where in enumerate(first)]
    for view in nodes:
        mine = [need for need, where in zip(bundles, placed, strict=True)
                if where == view.node_id]  # fmt: skip
        assert hold(view.free, mine) is not None
    again = plan(bundles, strategy, nodes, placed)
    assert again is not None
    assert all(where in ("", again[index]) for index, where in enumerate(placed))
    if strategy == "STRICT_SPREAD":
        assert len(set(again)) == len(again)
    if strategy == "STRICT_PACK":
        assert len(set(again)) == 1
    for view in nodes:
        new = [bundles[i] for i in lost if again[i] == view.node_id]
        assert hold(view.free, new) is not None
