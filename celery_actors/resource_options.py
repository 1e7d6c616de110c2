"""The options that say what work needs and where it may run: the same for functions and actors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .labels import check_selector, selector_of
from .need import ACCELERATOR, UNIT, Need
from .strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
    check_strategy,
)

__all__ = ["CHECKS", "ResourceOptions", "check_gpus", "check_number", "check_resources"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceOptions:
    """What a call or an actor needs. Names and defaults are Ray's; the last two are ours.

    ``memory`` is in bytes. ``gpu_ids`` names the very devices of the node that a hard
    ``NodeAffinitySchedulingStrategy`` names. ``wait_for_resources``: where no live node could ever
    hold the work, wait for one that can instead of raising ``InsufficientResourcesError``.
    """

    num_cpus: float | None = None
    num_gpus: float | None = None
    resources: Mapping[str, float] | None = None
    memory: float | None = None
    accelerator_type: str | None = None
    label_selector: Mapping[str, str] | None = None
    fallback_strategy: Sequence[Mapping[str, Any]] | None = None
    scheduling_strategy: Any = None
    placement_group: Any = None
    placement_group_bundle_index: int = -1
    placement_group_capture_child_tasks: bool | None = None
    gpu_ids: Sequence[int] | None = None
    wait_for_resources: bool = False

    @property
    def states_resources(self) -> bool:
        """True where something besides CPUs is asked for."""
        return bool(
            self.num_gpus or self.resources or self.memory or self.accelerator_type or self.gpu_ids
        )

    @property
    def spreads(self) -> bool:
        """True where the nodes are to take turns."""
        return bool(self.scheduling_strategy == "SPREAD")

    @property
    def group(self) -> PlacementGroupSchedulingStrategy | None:
        """The placement group that was asked for, by either of Ray's two ways."""
        strategy = self.scheduling_strategy
        if isinstance(strategy, PlacementGroupSchedulingStrategy):
            return strategy
        if self.placement_group in (None, "default"):
            return None
        return PlacementGroupSchedulingStrategy(
            self.placement_group, self.placement_group_bundle_index,
            bool(self.placement_group_capture_child_tasks),
        )  # fmt: skip

    @property
    def leaves_place_open(self) -> bool:
        """True where no strategy was named: a group that captures children may take the work."""
        return self.scheduling_strategy is None and self.placement_group in (None, "default")

    def need_with(self, cpus: float) -> Need:
        """Return the need, with so many CPUs where ``num_cpus`` was not given."""
        gpu_ids = tuple(sorted(self.gpu_ids or ()))
        need = Need.of(
            cpus=cpus if self.num_cpus is None else self.num_cpus,
            gpus=len(gpu_ids) if self.num_gpus is None else self.num_gpus,
            memory=self.memory or 0, accelerator=self.accelerator_type or "",
            custom=self.resources or {},
        )  # fmt: skip
        need = replace(need, selector=selector_of(self.label_selector), gpu_ids=gpu_ids)
        strategy, group = self.scheduling_strategy, self.group
        if isinstance(strategy, NodeAffinitySchedulingStrategy):
            return replace(
                need, node=strategy.node_id, otherwise="gone" if strategy.soft else "wait"
            )
        if group is not None:
            index = group.placement_group_bundle_index
            name = group.placement_group.id
            captures = group.placement_group_capture_child_tasks
            return replace(need, bundle=name if index < 0 else f"{name}.{index}", captures=captures)
        return need

    def alternatives(self, need: Need) -> list[Need]:
        """Return the need, then what ``fallback_strategy`` names in its place."""
        others = [each.get("label_selector") for each in self.fallback_strategy or ()]
        return [need, *(replace(need, selector=selector_of(each)) for each in others)]

    def check_together(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            ValueError: they do.
        """
        if self.placement_group not in (None, "default"):
            if self.scheduling_strategy is not None:
                raise ValueError("give placement_group or scheduling_strategy, not both")
        elif self.placement_group_bundle_index != -1:
            raise ValueError(
                f"placement_group_bundle_index={self.placement_group_bundle_index} needs a "
                "placement_group beside it"
            )
        _ = self.group  # checks the group and the index
        types = {name for name in self.resources or () if name.startswith(ACCELERATOR)}
        if self.accelerator_type:
            types.add(ACCELERATOR + self.accelerator_type)
        if len(types) > 1:
            raise ValueError(f"one device type can be asked for, not several: {sorted(types)}")
        if self.gpu_ids is not None:
            self._check_devices(self.gpu_ids)

    def _check_devices(self, gpu_ids: Sequence[int]) -> None:
        strategy = self.scheduling_strategy
        if not isinstance(strategy, NodeAffinitySchedulingStrategy) or strategy.soft:
            raise ValueError(
                "gpu_ids name devices of one node: say which, with scheduling_strategy="
                "NodeAffinitySchedulingStrategy(node_id, soft=False)"
            )
        count = len(gpu_ids)
        if self.num_gpus not in (None, count) and not (count == 1 and 0 < self.num_gpus < 1):
            raise ValueError(
                f"gpu_ids={list(gpu_ids)} names {count} devices, and num_gpus={self.num_gpus}"
            )


def check_number(name: str, value: Any) -> None:
    """Refuse what is no finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


def check_amount(name: str, value: Any) -> None:
    """Refuse what is no amount of a resource: also what would be rounded to nothing."""
    check_number(name, value)
    if value and round(value * UNIT) == 0:
        raise ValueError(f"{name} must be 0 or at least {1 / UNIT}, got {value}")


def check_gpus(name: str, value: Any) -> None:
    """Refuse what is no number of GPUs: a share of one, or whole ones."""
    check_amount(name, value)
    if value > 1 and value != int(value):
        raise ValueError(f"{name} above 1 must be whole, got {value}")


def check_resources(name: str, value: Any) -> None:
    """Refuse what is no mapping of a resource's name to an amount."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    for key, amount in value.items():
        _text(f"a key of {name}", key)
        if key in ("CPU", "GPU"):
            raise ValueError(f"use num_{key.lower()}s= instead of {name}={{{key!r}: …}}")
        if key == "memory":
            raise ValueError(f"use memory= instead of {name}={{'memory': …}}")
        check_amount(f"{name}[{key!r}]", amount)


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")


def _device_numbers(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list of device numbers, not {type(value).__name__}")
    for device in value:
        if isinstance(device, bool) or not isinstance(device, int) or device < 0:
            raise ValueError(f"{name} must hold device numbers from 0, and it holds {device!r}")
    if not value or len(set(value)) != len(value):
        raise ValueError(f"{name} must name at least one device, and each once; got {value}")


def _fallbacks(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list of strategies, not {type(value).__name__}")
    for index, each in enumerate(value):
        if not isinstance(each, Mapping) or set(each) != {"label_selector"}:
            raise ValueError(f"{name}[{index}] must be {{'label_selector': {{…}}}}, got {each!r}")
        check_selector(f"{name}[{index}]['label_selector']", each["label_selector"])


def _group(name: str, value: Any) -> None:
    if value != "default" and not hasattr(value, "bundle_specs"):
        raise ValueError(f"{name} must be made by placement_group(), got {value!r}")


def _index(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")


#: What checks each option.
CHECKS: dict[str, Callable[[str, Any], None]] = {
    "num_cpus": check_amount,
    "num_gpus": check_gpus,
    "resources": check_resources,
    "memory": check_amount,
    "accelerator_type": _text,
    "label_selector": check_selector,
    "fallback_strategy": _fallbacks,
    "scheduling_strategy": check_strategy,
    "placement_group": _group,
    "placement_group_bundle_index": _index,
    "placement_group_capture_child_tasks": _flag,
    "gpu_ids": _device_numbers,
    "wait_for_resources": _flag,
}
