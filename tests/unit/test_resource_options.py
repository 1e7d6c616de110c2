from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_actors.need import ACCELERATOR, Need
from celery_actors.options import ActorOptions, FunctionOptions, actor_options, function_options
from celery_actors.strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

HARD = NodeAffinitySchedulingStrategy("host-1")
SOFT = NodeAffinitySchedulingStrategy("host-1", soft=True)


def group(count: int = 2) -> Any:
    return SimpleNamespace(id="g1", bundle_specs=[{"CPU": 1}] * count, bundle_count=count)


def of_actor(**given: Any) -> ActorOptions:
    return actor_options(ActorOptions(), given)


def of_function(**given: Any) -> FunctionOptions:
    return function_options(FunctionOptions(), given)


# -- each option, in the caller ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"num_cpus": "1"}, TypeError, "num_cpus must be a number, not str"),
        ({"num_cpus": True}, TypeError, "num_cpus must be a number, not bool"),
        ({"num_cpus": -1}, ValueError, "num_cpus must not be negative, got -1"),
        ({"num_cpus": float("nan")}, ValueError, "num_cpus must be finite, got nan"),
        ({"num_cpus": 0.00001}, ValueError, r"num_cpus must be 0 or at least 0\.0001, got 1e-05"),
        ({"num_gpus": 1.5}, ValueError, r"num_gpus above 1 must be whole, got 1\.5"),
        ({"num_gpus": -0.5}, ValueError, "num_gpus must not be negative"),
        ({"num_gpus": 1e-9}, ValueError, r"num_gpus must be 0 or at least 0\.0001"),
        ({"memory": "1 GiB"}, TypeError, "memory must be a number, not str"),
        ({"memory": float("inf")}, ValueError, "memory must be finite"),
        ({"resources": [("ssd", 1)]}, TypeError, "resources must be a mapping, not list"),
        ({"resources": {1: 1}}, TypeError, "a key of resources must be a string, not int"),
        ({"resources": {"": 1}}, ValueError, "a key of resources must not be empty"),
        ({"resources": {"ssd": -1}}, ValueError, r"resources\['ssd'\] must not be negative"),
        ({"resources": {"ssd": 1e-5}}, ValueError, r"resources\['ssd'\] must be 0 or at least"),
        ({"resources": {"CPU": 1}}, ValueError, r"use num_cpus= instead of resources=\{'CPU': …\}"),
        ({"resources": {"GPU": 1}}, ValueError, r"use num_gpus= instead of resources=\{'GPU': …\}"),
        ({"resources": {"memory": 1}}, ValueError, "use memory= instead"),
        ({"accelerator_type": 100}, TypeError, "accelerator_type must be a string, not int"),
        ({"accelerator_type": ""}, ValueError, "accelerator_type must not be empty"),
        ({"label_selector": "zone=a"}, TypeError, "label_selector must be a mapping, not str"),
        ({"label_selector": {"zone": "in("}}, ValueError, "is no condition: write 'value'"),
        ({"fallback_strategy": {}}, TypeError, "fallback_strategy must be a list of strategies"),
        ({"fallback_strategy": [{"zone": "a"}]}, ValueError, r"fallback_strategy\[0\] must be"),
        ({"fallback_strategy": [None]}, ValueError, r"fallback_strategy\[0\] must be"),
        (
            {"fallback_strategy": [{"label_selector": {"zone": "!"}}]},
            ValueError,
            r"fallback_strategy\[0\]\['label_selector'\]\['zone'\]='!' is no condition",
        ),
        ({"scheduling_strategy": "PACK"}, ValueError, "must be 'DEFAULT' or 'SPREAD', got 'PACK'"),
        ({"placement_group": "g1"}, ValueError, r"placement_group must be made by placement_group"),
        ({"placement_group_bundle_index": 0.5}, TypeError, "must be an integer, not float"),
        ({"placement_group_capture_child_tasks": 1}, TypeError, "must be True or False, not int"),
        ({"gpu_ids": 3}, TypeError, "gpu_ids must be a list of device numbers, not int"),
        ({"gpu_ids": ["3"]}, ValueError, "must hold device numbers from 0, and it holds '3'"),
        ({"gpu_ids": [-1]}, ValueError, "must hold device numbers from 0, and it holds -1"),
        ({"gpu_ids": [True]}, ValueError, "must hold device numbers from 0, and it holds True"),
        ({"gpu_ids": []}, ValueError, "gpu_ids must name at least one device, and each once"),
        ({"gpu_ids": [1, 1]}, ValueError, "gpu_ids must name at least one device, and each once"),
        ({"wait_for_resources": "yes"}, TypeError, "wait_for_resources must be True or False"),
    ],
)
@pytest.mark.parametrize("options", [of_actor, of_function])
def test_an_impossible_option_is_refused_with_its_name(
    options: Any, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        options(**given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"placement_group": group(), "scheduling_strategy": "SPREAD"},
            "give placement_group or scheduling_strategy, not both",
        ),
        (
            {"placement_group": group(), "scheduling_strategy": HARD},
            "give placement_group or scheduling_strategy, not both",
        ),
        ({"placement_group": group(), "placement_group_bundle_index": 2}, "=2 is out of range"),
        ({"placement_group_bundle_index": 0}, "=0 needs a placement_group beside it"),
        (
            {"placement_group": "default", "placement_group_bundle_index": 1},
            "=1 needs a placement_group beside it",
        ),
        (
            {"accelerator_type": "H100", "resources": {f"{ACCELERATOR}A100": 1}},
            "one device type can be asked for, not several",
        ),
        (
            {"resources": {f"{ACCELERATOR}H100": 1, f"{ACCELERATOR}A100": 1}},
            "one device type can be asked for, not several",
        ),
        ({"gpu_ids": [0]}, "gpu_ids name devices of one node: say which"),
        ({"gpu_ids": [0], "scheduling_strategy": "SPREAD"}, "name devices of one node"),
        ({"gpu_ids": [0], "scheduling_strategy": SOFT}, "name devices of one node"),
        ({"gpu_ids": [0], "placement_group": group()}, "name devices of one node"),
        (
            {"gpu_ids": [0, 1], "num_gpus": 1, "scheduling_strategy": HARD},
            r"gpu_ids=\[0, 1\] names 2 devices, and num_gpus=1",
        ),
        (
            {"gpu_ids": [0, 1], "num_gpus": 0.5, "scheduling_strategy": HARD},
            r"gpu_ids=\[0, 1\] names 2 devices, and num_gpus=0\.5",
        ),
        (
            {"gpu_ids": [0], "num_gpus": 0, "scheduling_strategy": HARD},
            r"gpu_ids=\[0\] names 1 devices, and num_gpus=0",
        ),
    ],
)
@pytest.mark.parametrize("options", [of_actor, of_function])
def test_options_that_contradict_each_other_are_refused(
    options: Any, given: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        options(**given)


def test_a_contradiction_that_comes_later_is_refused_too() -> None:
    base = of_actor(gpu_ids=[0], scheduling_strategy=HARD)
    with pytest.raises(ValueError, match="name devices of one node"):
        actor_options(base, {"scheduling_strategy": None})


def test_the_caller_may_go_on_changing_what_it_gave() -> None:
    gpu_ids, zones, others = [0], {"zone": "a"}, [{"label_selector": {"zone": "b"}}]
    options = of_actor(gpu_ids=gpu_ids, label_selector=zones, fallback_strategy=others,
                       scheduling_strategy=HARD)  # fmt: skip
    before = options.alternatives(options.need)
    gpu_ids.append(1)
    zones.clear()
    others[0]["label_selector"]["zone"] = "c"
    assert options.alternatives(options.need) == before


# -- what is needed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "amounts"),
    [
        ({"num_gpus": 0.25}, {"gpus": 0.25}),
        ({"num_gpus": 2}, {"gpus": 2}),
        ({"memory": 2**30}, {"memory": 2**30}),
        ({"resources": {"ssd": 2}}, {"custom": {"ssd": 2}}),
        ({"accelerator_type": "H100"}, {"accelerator": "H100"}),
        (
            {"accelerator_type": "H100", "resources": {f"{ACCELERATOR}H100": 0.001}},
            {"accelerator": "H100"},
        ),
    ],
)
def test_work_that_asks_for_more_than_a_cpu_has_a_cpu_beside_it(
    given: dict[str, Any], amounts: dict[str, Any]
) -> None:
    need = Need.of(cpus=1, **{"custom": {}, **amounts})
    assert of_actor(**given).need == of_function(**given).need == need
    without = Need.of(**{"custom": {}, **amounts})
    assert of_actor(num_cpus=0, **given).need == without


def test_an_actor_that_asks_for_nothing_needs_nothing_and_a_function_a_cpu() -> None:
    assert of_actor().need == Need()
    assert of_actor(label_selector={"zone": "a"}).need.amounts == ()
    assert of_actor(num_gpus=0).need == Need()
    assert of_function().need == Need.of(cpus=1, custom={})


def test_named_devices_are_as_many_gpus() -> None:
    need = of_actor(gpu_ids=[3, 1], scheduling_strategy=HARD).need
    assert (need.gpu_ids, need.node, need.otherwise) == ((1, 3), "host-1", "wait")
    assert need.amounts == Need.of(cpus=1, gpus=2, custom={}).amounts
    share = of_actor(gpu_ids=[3], num_gpus=0.5, scheduling_strategy=HARD).need
    assert (share.gpu_ids, share.gpus) == ((3,), 5_000)
    assert of_actor(gpu_ids=[3, 1], num_gpus=2, scheduling_strategy=HARD).need == need


# -- where it may run ------------------------------------------------------------------------


def test_conditions_on_labels_have_one_order() -> None:
    one, other = ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    assert of_actor(label_selector=one).need == of_actor(label_selector=other).need
    assert of_actor(label_selector=one).need.selector == (("a", "1"), ("b", "2"))


def test_an_affinity_binds_or_lets_go_when_the_node_is_gone() -> None:
    assert of_actor(scheduling_strategy=HARD).need == Need(node="host-1", otherwise="wait")
    assert of_actor(scheduling_strategy=SOFT).need == Need(node="host-1", otherwise="gone")


@pytest.mark.parametrize("strategy", [None, "DEFAULT", "SPREAD"])
def test_other_strategies_name_no_node(strategy: str | None) -> None:
    options = of_actor(scheduling_strategy=strategy)
    assert options.need == Need()
    assert options.spreads is (strategy == "SPREAD")
    assert options.group is None
    assert options.leaves_place_open is (strategy is None)


@pytest.mark.parametrize(
    ("index", "captures", "bundle"), [(-1, False, "g1"), (0, True, "g1.0"), (1, False, "g1.1")]
)
def test_rays_two_ways_to_name_a_group_are_one(index: int, captures: bool, bundle: str) -> None:
    strategy = PlacementGroupSchedulingStrategy(group(), index, captures)
    one = of_actor(scheduling_strategy=strategy)
    other = of_actor(
        placement_group=strategy.placement_group, placement_group_bundle_index=index,
        placement_group_capture_child_tasks=captures,
    )  # fmt: skip
    assert one.need == other.need == Need(bundle=bundle, captures=captures)
    assert one.group == other.group == strategy
    assert not one.leaves_place_open
    assert not other.leaves_place_open


def test_the_default_placement_group_is_that_of_the_parent() -> None:
    options = of_actor(placement_group="default")
    assert options.leaves_place_open
    assert options.group is None
    assert options.need == Need()


def test_alternatives_differ_in_their_conditions_alone() -> None:
    options = of_function(
        num_gpus=1, label_selector={"zone": "a"},
        fallback_strategy=[{"label_selector": {"zone": "b"}}, {"label_selector": {}}],
    )  # fmt: skip
    amounts = Need.of(cpus=1, gpus=1, custom={}).amounts
    assert options.alternatives(options.need) == [
        Need(amounts, selector=(("zone", "a"),)),
        Need(amounts, selector=(("zone", "b"),)),
        Need(amounts),
    ]
    assert of_function().alternatives(Need()) == [Need()]
