"""Stateful actors and remote functions for Celery, with Ray's programming model."""

from __future__ import annotations

from . import errors as exceptions
from . import util
from .actor import ActorClass, exit_actor, get_actor, kill
from .errors import (
    ActorAlreadyExistsError,
    ActorDiedError,
    ActorUnavailableError,
    ClusterUnreachableError,
    ConfigurationError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
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
    "ObjectRefGenerator",
    "RayActorError",
    "RayError",
    "RayTaskError",
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
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "util",
    "wait",
]
