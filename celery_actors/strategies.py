"""Scheduling strategies, as Ray names them: values that say where a call or an actor may run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["NodeAffinitySchedulingStrategy", "PlacementGroupSchedulingStrategy", "check_strategy"]


@dataclass(frozen=True)
class NodeAffinitySchedulingStrategy:
    """Run on one node, by its ``NodeID`` from ``nodes()``.

    ``soft``: where that node is gone, or could never hold the work, any other takes it. Else the
    work fails with ``TaskUnschedulableError`` or ``ActorUnschedulableError``.
    """

    node_id: str
    soft: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.node_id, str):
            kind = type(self.node_id).__name__
            raise TypeError(f"node_id must be a string from nodes(), not {kind}")
        if not self.node_id:
            raise ValueError("node_id must not be empty: nodes() lists the ids")
        if not isinstance(self.soft, bool):
            raise TypeError(f"soft must be True or False, not {type(self.soft).__name__}")


@dataclass(frozen=True)
class PlacementGroupSchedulingStrategy:
    """Run in a placement group: in one of its bundles by index, or in any (-1).

    ``placement_group_capture_child_tasks``: calls and actors made inside run in the group, too,
    where they name no strategy of their own.
    """

    placement_group: Any
    placement_group_bundle_index: int = -1
    placement_group_capture_child_tasks: bool = False

    def __post_init__(self) -> None:
        group = self.placement_group
        if not (hasattr(group, "bundle_specs") and getattr(group, "id", None)):
            raise ValueError(
                "placement_group must be a group made by placement_group(), not "
                f"{self.placement_group!r}"
            )
        count, index = self.placement_group.bundle_count, self.placement_group_bundle_index
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"placement_group_bundle_index must be an integer, not {index!r}")
        if not -1 <= index < count:
            raise ValueError(
                f"placement_group_bundle_index={index} is out of range: the group has {count} "
                "bundles, and -1 means any of them"
            )
        if not isinstance(captures := self.placement_group_capture_child_tasks, bool):
            raise TypeError(
                "placement_group_capture_child_tasks must be True or False, not "
                f"{type(captures).__name__}"
            )


def check_strategy(name: str, value: Any) -> None:
    """Refuse what is no scheduling strategy.

    Raises:
        ValueError: a word that names none. TypeError: neither a word nor a strategy.
    """
    if isinstance(value, NodeAffinitySchedulingStrategy | PlacementGroupSchedulingStrategy):
        return
    if not isinstance(value, str):
        raise TypeError(
            f"{name} must be 'DEFAULT', 'SPREAD', a NodeAffinitySchedulingStrategy or a "
            f"PlacementGroupSchedulingStrategy, not {type(value).__name__}"
        )
    if value not in ("DEFAULT", "SPREAD"):
        raise ValueError(f"{name} must be 'DEFAULT' or 'SPREAD', got {value!r}")
