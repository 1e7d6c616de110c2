"""Stateful actors and remote functions for Celery, with Ray's programming model."""

from __future__ import annotations

import cloudpickle

from . import exceptions, experimental, installation, util
from . import function as remote_function
from .actor import ActorClass, exit_actor, get_actor, kill
from .actors import Actors
from .cluster_context import ClusterContext
from .errors import (
    ActorAlreadyExistsError,
    ActorDiedError,
    ActorUnavailableError,
    ClusterUnreachableError,
    ConfigurationError,
    GetTimeoutError,
    InsufficientResourcesError,
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    RayActorError,
    RayError,
    RayTaskError,
    SerializationError,
    TaskCancelledError,
    UntrustedPayloadError,
    WorkerCrashedError,
)
from .handle import ActorHandle
from .inventory import available_resources, cluster_resources, nodes
from .object_ref import ObjectRef
from .object_ref_generator import ObjectRefGenerator
from .objects import cancel, get, put, wait
from .placement_groups import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from .recording import ctx
from .remote import method, remote
from .routing import actor_queue, gpu_queue
from .runtime_context import RuntimeContext, get_gpu_ids, get_runtime_context
from .runtime_env import RuntimeEnv
from .session import init, is_initialized, shutdown, timeline

__all__ = [
    "ActorAlreadyExistsError",
    "ActorClass",
    "ActorDiedError",
    "ActorHandle",
    "ActorUnavailableError",
    "Actors",
    "ClusterContext",
    "ClusterUnreachableError",
    "ConfigurationError",
    "GetTimeoutError",
    "InsufficientResourcesError",
    "NodeDiedError",
    "ObjectLostError",
    "ObjectRef",
    "ObjectRefGenerator",
    "ObjectStoreFullError",
    "PlacementGroup",
    "RayActorError",
    "RayError",
    "RayTaskError",
    "RuntimeContext",
    "RuntimeEnv",
    "SerializationError",
    "TaskCancelledError",
    "UntrustedPayloadError",
    "WorkerCrashedError",
    "actor_queue",
    "available_resources",
    "cancel",
    "cloudpickle",
    "cluster_resources",
    "ctx",
    "exceptions",
    "exit_actor",
    "experimental",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_placement_group",
    "get_runtime_context",
    "gpu_queue",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "placement_group",
    "placement_group_table",
    "put",
    "remote",
    "remote_function",
    "remove_placement_group",
    "shutdown",
    "timeline",
    "util",
    "wait",
]


def __getattr__(name: str) -> str:
    """Return ``__version__``, which takes some milliseconds to find out."""
    if name == "__version__":
        return installation.version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
