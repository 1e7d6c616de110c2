"""Tools on top of actors, functions and references, with Ray's names."""

from __future__ import annotations

from ..pickling import deregister_serializer, register_serializer
from .actor_pool import ActorPool
from .iterators import as_completed, map_unordered
from .named_actors import list_named_actors
from .serializability import inspect_serializability

__all__ = [
    "ActorPool",
    "as_completed",
    "deregister_serializer",
    "inspect_serializability",
    "list_named_actors",
    "map_unordered",
    "register_serializer",
]
