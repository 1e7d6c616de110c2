"""Stateful actors and remote functions for Celery, with Ray's programming model."""

from __future__ import annotations

from . import errors as exceptions
from .actor import ActorClass, ActorHandle, get_actor, kill
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
from .inventory import available_resources, cluster_resources, nodes
from .object_ref import ObjectRef
from .objects import get, put, wait
from .remote import remote
from .routing import actor_queue
from .session import ClusterContext, init, is_initialized, shutdown

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
    "ObjectStoreFullError",
    "RayActorError",
    "RayError",
    "RayTaskError",
    "SerializationError",
    "TaskCancelledError",
    "UntrustedPayloadError",
    "WorkerCrashedError",
    "actor_queue",
    "available_resources",
    "cluster_resources",
    "exceptions",
    "get",
    "get_actor",
    "init",
    "is_initialized",
    "kill",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "wait",
]
