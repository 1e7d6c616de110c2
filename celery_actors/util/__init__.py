"""Tools on top of actors, functions and references, with Ray's names."""

from __future__ import annotations

from ..pickling import deregister_serializer, register_serializer
from . import scheduling_strategies as scheduling_strategies
from .actor_pool import ActorPool
from .iterators import as_completed, map_unordered
from .named_actors import list_named_actors
from .node_ip import get_node_ip_address
from .placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from .serializability import inspect_serializability

__all__ = [
    "ActorPool",
    "as_completed",
    "deregister_serializer",
    "get_current_placement_group",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "list_named_actors",
    "map_unordered",
    "placement_group",
    "placement_group_table",
    "register_serializer",
    "remove_placement_group",
]
