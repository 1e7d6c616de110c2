"""Every error a user can meet, in one tree. Names shared with Ray keep Ray's meaning.

A message says what happened, to which actor, call or node, and what to do about it.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorUnavailableError",
    "ClusterUnreachableError",
    "ConfigurationError",
    "DeadLetterError",
    "FencedError",
    "GetTimeoutError",
    "NodeDiedError",
    "NotInitializedError",
    "ObjectLostError",
    "ObjectStoreFullError",
    "RayActorError",
    "RayError",
    "RayTaskError",
    "SerializationError",
    "TaskCancelledError",
    "UntrustedPayloadError",
    "WorkerCrashedError",
    "system_error",
]


class RayError(Exception):
    """Base of all errors raised by celery_actors."""


class ConfigurationError(RayError, ValueError):
    """Raised when settings contradict each other or a needed one is missing."""


class NotInitializedError(RayError, RuntimeError):
    """Raised when a call needs a cluster and this process has not joined one."""


class ClusterUnreachableError(RayError, ConnectionError):
    """Raised when the store behind the cluster does not answer."""


class SerializationError(RayError, TypeError):
    """Raised in the caller when a value cannot be pickled; names the offending member."""


class UntrustedPayloadError(RayError):
    """Raised when a value is unsigned, signed with an unknown key, or was moved or changed."""


class DeadLetterError(RayError):
    """Raised for a message that names no known method or cannot be decoded."""


class FencedError(RayError):
    """Raised in a worker whose place was taken: it may not commit any more."""


class GetTimeoutError(RayError, TimeoutError):
    """Raised when ``get`` did not have every value in time. The calls go on."""


class ObjectLostError(RayError):
    """Raised when a value was freed, expired, or lost with its store."""


class ObjectStoreFullError(RayError):
    """Raised when neither shared memory nor the store has room for a large value."""


class WorkerCrashedError(RayError):
    """Raised when the worker running a function died and no retry was left."""


class NodeDiedError(RayError):
    """Raised when the only node that could run a call is gone."""


class TaskCancelledError(RayError):
    """Raised for a call that was cancelled."""


class RayActorError(RayError):
    """Base of the errors about an actor that cannot answer.

    ``actor_id`` is a hex string; ``actor_init_failed`` says that ``__init__`` raised.
    """

    def __init__(
        self, message: str = "", actor_id: str | None = None, actor_init_failed: bool = False
    ) -> None:
        super().__init__(message)
        self.actor_id = actor_id
        self.actor_init_failed = actor_init_failed

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.actor_id, self.actor_init_failed)


class ActorDiedError(RayActorError):
    """Raised when the actor is dead for good."""


class ActorUnavailableError(RayActorError):
    """Raised when the actor's process died under a started call and the actor restarts."""


class ActorAlreadyExistsError(RayError, ValueError):
    """Raised when an actor's name is already taken in its namespace."""


class RayTaskError(RayError):
    """A user's exception, raised again in the caller with the remote traceback.

    ``get`` raises an instance that is both a ``RayTaskError`` and the user's own type, so
    ``except ValueError`` works. ``cause`` is the original exception.
    """

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        pid: int | None = None,
    ) -> None:
        # Not super(): in a dual class that would be the user's own constructor.
        Exception.__init__(self, function_name, traceback_str, cause, pid)
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.pid = pid

    def __str__(self) -> str:
        return f"{self.function_name} failed (pid={self.pid}):\n{self.traceback_str}"

    def __reduce__(self) -> tuple[Any, ...]:
        words = (self.function_name, self.traceback_str, self.cause, self.pid)
        return (RayTaskError if type(self) is RayTaskError else _rebuild_dual), words

    def as_instanceof_cause(self) -> RayTaskError:
        """Return an error that ``except <type of the cause>`` catches too.

        A type that cannot be subclassed gives the plain ``RayTaskError``.
        """
        cause_type = type(self.cause)
        if isinstance(self.cause, RayTaskError):
            return self.cause.as_instanceof_cause()
        try:
            dual = _dual_types.get(cause_type) or _make_dual(cause_type)
            error = dual.__new__(dual)
            RayTaskError.__init__(
                error, self.function_name, self.traceback_str, self.cause, self.pid
            )
        except TypeError:
            return self
        return error


def _rebuild_dual(*words: Any) -> RayTaskError:
    return RayTaskError(*words).as_instanceof_cause()


_dual_types: dict[type[BaseException], type[RayTaskError]] = {}


def _make_dual(cause_type: type[BaseException]) -> type[RayTaskError]:
    def forward(self: RayTaskError, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.cause, name)

    dual = type(
        f"RayTaskError({cause_type.__name__})",
        (RayTaskError, cause_type),
        {"__getattr__": forward, "__module__": cause_type.__module__},
    )
    _dual_types[cause_type] = dual
    return dual


_SYSTEM: dict[str, type[RayError]] = {
    kind.__name__: kind
    for kind in (
        ActorDiedError,
        ActorUnavailableError,
        DeadLetterError,
        NodeDiedError,
        ObjectLostError,
        ObjectStoreFullError,
        TaskCancelledError,
        UntrustedPayloadError,
        WorkerCrashedError,
    )
}


def system_error(name: str, message: str, actor_id: str | None, init_failed: bool) -> RayError:
    """Build the error that a result record names; unknown names give a ``RayError``."""
    kind = _SYSTEM.get(name, RayError)
    if issubclass(kind, RayActorError):
        return kind(message, actor_id, init_failed)
    return kind(message)
