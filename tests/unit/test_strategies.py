from __future__ import annotations

from dataclasses import FrozenInstanceError
from types import SimpleNamespace
from typing import Any

import pytest

from celery_actors.strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
    check_strategy,
)


def group(count: int = 2, group_id: str = "g1") -> Any:
    return SimpleNamespace(id=group_id, bundle_specs=[{"CPU": 1}] * count, bundle_count=count)


def test_an_affinity_is_to_a_node_and_hard_unless_told_otherwise() -> None:
    strategy = NodeAffinitySchedulingStrategy("host-1")
    assert (strategy.node_id, strategy.soft) == ("host-1", False)
    assert NodeAffinitySchedulingStrategy("host-1", soft=True).soft
    changeable: Any = strategy
    with pytest.raises(FrozenInstanceError):
        changeable.soft = True


@pytest.mark.parametrize(
    ("node_id", "soft", "error", "text"),
    [
        (7, False, TypeError, r"node_id must be a string from nodes\(\), not int"),
        ("", False, ValueError, r"node_id must not be empty: nodes\(\) lists the ids"),
        ("host-1", 1, TypeError, "soft must be True or False, not int"),
        ("host-1", None, TypeError, "soft must be True or False, not NoneType"),
    ],
)
def test_an_affinity_to_no_node_is_refused(
    node_id: Any, soft: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        NodeAffinitySchedulingStrategy(node_id, soft)


@pytest.mark.parametrize("index", [-1, 0, 1])
def test_a_group_is_asked_for_by_the_index_of_a_bundle_or_for_any(index: int) -> None:
    strategy = PlacementGroupSchedulingStrategy(group(), index, True)
    assert strategy.placement_group_bundle_index == index
    assert strategy.placement_group_capture_child_tasks


@pytest.mark.parametrize(
    "value", [None, "g1", SimpleNamespace(bundle_specs=[]), group(group_id="")]
)
def test_what_is_no_group_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a group made by placement_group\(\), not"):
        PlacementGroupSchedulingStrategy(value)


@pytest.mark.parametrize("index", [-2, 2, 100])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(
        ValueError, match=rf"index={index} is out of range: the group has 2 bundles, and -1 means"
    ):
        PlacementGroupSchedulingStrategy(group(), index)


@pytest.mark.parametrize("index", [True, 1.0, "1", None])
def test_an_index_must_be_an_integer(index: Any) -> None:
    with pytest.raises(TypeError, match="placement_group_bundle_index must be an integer, not"):
        PlacementGroupSchedulingStrategy(group(), index)


def test_capturing_children_is_a_flag() -> None:
    # Two words for one wish would be two queues.
    captures: Any = 1
    with pytest.raises(TypeError, match="capture_child_tasks must be True or False, not int"):
        PlacementGroupSchedulingStrategy(group(), -1, captures)


@pytest.mark.parametrize(
    "value",
    [
        "DEFAULT",
        "SPREAD",
        NodeAffinitySchedulingStrategy("host-1"),
        PlacementGroupSchedulingStrategy(group()),
    ],
)
def test_rays_strategies_are_known(value: Any) -> None:
    check_strategy("scheduling_strategy", value)


def test_other_words_and_things_are_no_strategies() -> None:
    with pytest.raises(ValueError, match="must be 'DEFAULT' or 'SPREAD', got 'spread'"):
        check_strategy("scheduling_strategy", "spread")
    with pytest.raises(TypeError, match="or a PlacementGroupSchedulingStrategy, not list"):
        check_strategy("scheduling_strategy", ["SPREAD"])
