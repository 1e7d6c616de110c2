"""Stateful actors and remote functions for Celery, with Ray's programming model."""

from __future__ import annotations

from . import exceptions, util
from . import function as remote_function
from .actor import ActorClass, exit_actor, get_actor, kill
from .cluster_context import ClusterContext
from .errors import (
    ActorAlreadyExistsError,
    ActorDiedError,
    ActorUnavailableError,
    ClusterUnreachableError,
    ConfigurationError,
    GetTimeoutError,
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
from .remote import method, remote
from .routing import actor_queue
from .runtime_context import RuntimeContext, get_gpu_ids, get_runtime_context
from .runtime_env import RuntimeEnv
from .session import init, is_initialized, shutdown

__all__ = [
    "ActorAlreadyExistsError",
    "ActorClass",
    "ActorDiedError",
    "ActorHandle",
    "ActorUnavailableError",
    "ClusterContext",
    "ClusterUnreachableError",
    "ConfigurationError",
    "GetTimeoutError",
    "NodeDiedError",
    "ObjectLostError",
    "ObjectRef",
    "ObjectRefGenerator",
    "ObjectStoreFullError",
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
    "cluster_resources",
    "exceptions",
    "exit_actor",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "remote_function",
    "shutdown",
    "util",
    "wait",
]
