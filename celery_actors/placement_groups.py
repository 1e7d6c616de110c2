"""Placement groups: resources on one or several nodes, reserved together or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from . import groups, runtime
from .bundles import STRATEGIES, Strategy, needs_of
from .errors import GetTimeoutError
from .function import RemoteFunction
from .labels import check_selector
from .need import Need
from .object_ref import ObjectRef
from .options import FunctionOptions
from .resource_options import check_gpus, check_number
from .strategies import PlacementGroupSchedulingStrategy

__all__ = [
    "PlacementGroup",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]


class PlacementGroup:
    """A handle of a group; it can be passed anywhere.

    ``id``: its name in the cluster. ``bundle_specs``: what each bundle reserves.
    """

    def __init__(self, group_id: str, needs: Sequence[Need]) -> None:
        self.id = group_id
        self.needs = list(needs)

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """What each bundle reserves, as plain numbers; memory in bytes."""
        return [need.plain for need in self.needs]

    @property
    def bundle_count(self) -> int:
        """How many bundles there are."""
        return len(self.needs)

    def ready(self) -> ObjectRef[PlacementGroup]:
        """Return a reference that is ready when every bundle is reserved; its value is the group.

        ``get`` of it raises ``TaskPlacementGroupRemoved`` where the group is removed before.
        """
        options = FunctionOptions(
            num_cpus=0, scheduling_strategy=PlacementGroupSchedulingStrategy(self)
        )
        function: Any = RemoteFunction(_itself, options)
        found: ObjectRef[PlacementGroup] = function.remote(self)
        return found

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Wait until every bundle is reserved; False where that takes longer."""
        context = runtime.current()
        try:
            context.get([self.ready()], timeout_seconds)
        except GetTimeoutError:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id[:8]}, {self.bundle_specs})"


def _itself(group: PlacementGroup) -> PlacementGroup:
    return group


def placement_group(
    bundles: Sequence[Mapping[str, float]],
    strategy: Strategy = "PACK",
    name: str = "",
    lifetime: Literal["detached"] | None = None,
    bundle_label_selector: Sequence[Mapping[str, str]] | None = None,
) -> PlacementGroup:
    """Reserve resources together; return at once.

    Nothing is held until all bundles can be. A group that no node could ever hold waits for nodes.

    Args:
        bundles: what each reserves on one node: ``{"CPU": 1, "GPU": 0.5, "ssd": 1}``, ``memory``
            in bytes.
        strategy: ``PACK`` on as few nodes as can be, ``SPREAD`` over as many; ``STRICT_PACK`` on
            one, ``STRICT_SPREAD`` each on another, or wait.
        name: for ``get_placement_group``.
        lifetime: None: it ends with its driver; ``"detached"``: with ``remove_placement_group``.
        bundle_label_selector: conditions on the labels of the node of each bundle.

    Raises:
        ValueError: an impossible bundle, strategy or lifetime, or a name that is taken. TypeError:
            a wrong type.
    """
    _check_bundles(bundles)
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {list(STRATEGIES)}, got {strategy!r}")
    if lifetime not in (None, "detached"):
        raise ValueError(f"lifetime must be None or 'detached', got {lifetime!r}")
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {type(name).__name__}")
    if bundle_label_selector is not None:
        if len(bundle_label_selector) != len(bundles):
            raise ValueError(
                f"bundle_label_selector holds {len(bundle_label_selector)} selectors for "
                f"{len(bundles)} bundles: give one for each"
            )
        for index, selector in enumerate(bundle_label_selector):
            check_selector(f"bundle_label_selector[{index}]", selector)
    context = runtime.current()
    needs = needs_of(bundles, bundle_label_selector)
    group_id = secrets.token_hex(16)
    job = "" if lifetime == "detached" else context.job
    groups.create(context.store, group_id, needs, strategy, name=name, job=job)
    return PlacementGroup(group_id, needs)


def _check_bundles(bundles: Any) -> None:
    if not isinstance(bundles, list | tuple):
        raise TypeError(f"bundles must be a list of mappings, not {type(bundles).__name__}")
    if not bundles:
        raise ValueError("bundles must hold at least one bundle, such as {'CPU': 1}")
    for index, bundle in enumerate(bundles):
        if not isinstance(bundle, Mapping):
            raise TypeError(f"bundles[{index}] must be a mapping, not {type(bundle).__name__}")
        for key, amount in bundle.items():
            if not isinstance(key, str) or not key:
                raise ValueError(f"bundles[{index}] names a resource {key!r}: it must be a string")
            check = check_gpus if key == "GPU" else check_number
            check(f"bundles[{index}][{key!r}]", amount)
        if not any(bundle.values()):
            raise ValueError(f"bundles[{index}] reserves nothing: {dict(bundle)}")


def remove_placement_group(group: PlacementGroup) -> None:
    """Give a group's resources back. Actors and calls that run in it end; waiting ones fail."""
    if not isinstance(group, PlacementGroup):
        raise TypeError(f"remove_placement_group() takes a group, not {type(group).__name__}")
    groups.remove(runtime.current().store, group.id)


def get_placement_group(name: str) -> PlacementGroup:
    """Return the group of this name.

    Raises:
        ValueError: there is none.
    """
    group = groups.find_named(runtime.current().store, name)
    if group is not None:
        return PlacementGroup(group.group_id, group.bundles)
    raise ValueError(f"there is no placement group named {name!r}: it was not made, or was removed")


def get_current_placement_group() -> PlacementGroup | None:
    """Return the group that the present actor or call runs in; None outside of groups."""
    context = runtime.current()
    group_id = context.worker.group if context.worker is not None else ""
    found = groups.find(context.store, group_id) if group_id else None
    return PlacementGroup(group_id, found.bundles) if found is not None else None


def placement_group_table(group: PlacementGroup | None = None) -> dict[str, Any]:
    """Return what is known of a group, or of all by id, in the form of Ray's table."""
    store = runtime.current().store
    if group is None:
        return {found.group_id: _row(found) for found in groups.everything(store)}
    found = groups.find(store, group.id)
    if found is None:
        raise ValueError(f"{group!r} is not known: it was removed a while ago")
    return _row(found)


def _row(group: groups.Group) -> dict[str, Any]:
    needs = group.bundles
    nodes = {index: group.placed(index) for index in range(len(needs))}
    states = {"created": "CREATED", "removed": "REMOVED"}
    moving = "RESCHEDULING" if any(nodes.values()) else "PENDING"
    return {
        "placement_group_id": group.group_id, "name": group.name, "strategy": group.strategy,
        "bundles": {index: need.plain for index, need in enumerate(needs)},
        "bundles_to_node_id": nodes, "state": states.get(group.state, moving), "stats": {},
    }  # fmt: skip
