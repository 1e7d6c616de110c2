"""What placement groups refuse, in the caller: nothing has been asked of the store."""

from __future__ import annotations

from typing import Any

import pytest

from celery_actors.need import Need
from celery_actors.placement_groups import (
    PlacementGroup,
    placement_group,
    remove_placement_group,
)


@pytest.mark.parametrize(
    ("bundles", "more", "error", "words"),
    [
        ({"CPU": 1}, {}, TypeError, "bundles must be a list of mappings, not dict"),
        ([], {}, ValueError, "at least one bundle"),
        ([1], {}, TypeError, r"bundles\[0\] must be a mapping, not int"),
        ([{1: 1}], {}, ValueError, r"bundles\[0\] names a resource 1"),
        ([{"CPU": 0}], {}, ValueError, r"bundles\[0\] reserves nothing"),
        ([{"CPU": 1}], {"strategy": "NEAR"}, ValueError, "strategy must be one of .*'NEAR'"),
        ([{"CPU": 1}], {"lifetime": "short"}, ValueError, "lifetime must be None or 'detached'"),
        ([{"CPU": 1}], {"name": 7}, TypeError, "name must be a string, not int"),
        (
            [{"CPU": 1}],
            {"bundle_label_selector": [{}, {}]},
            ValueError,
            "2 selectors for 1 bundles",
        ),
    ],
)
def test_a_group_that_makes_no_sense_is_refused(
    bundles: Any, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        placement_group(bundles, **more)


def test_only_groups_can_be_removed() -> None:
    with pytest.raises(TypeError, match="takes a group, not str"):
        remove_placement_group("group")  # type: ignore[arg-type]


def test_a_handle_is_its_group() -> None:
    one, same, other = (PlacementGroup(name, [Need()]) for name in ("g1", "g1", "g2"))
    assert one == same
    assert len({one, same, other}) == 2
    assert one != "g1"
    assert repr(other).startswith("PlacementGroup(g2, [")
