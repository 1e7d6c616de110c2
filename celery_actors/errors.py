"""Every error a user can meet, in one tree. Names shared with Ray keep Ray's meaning.

A message says what happened, to which actor, call or node, and what to do about it.
"""

from __future__ import annotations

import logging
from typing import Any

from .dual_error import arguments_of, dual_error

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorHandleNotFoundError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "ClusterUnreachableError",
    "ConfigurationError",
    "DeadLetterError",
    "FencedError",
    "GetTimeoutError",
    "InsufficientResourcesError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "NonDeterminismError",
    "NotFoundError",
    "NotInitializedError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectRefStreamEndOfStreamError",
    "ObjectStoreFullError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "RayActorError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "RuntimeEnvSetupError",
    "SerializationError",
    "StateRefusedError",
    "StoreError",
    "StoreFullError",
    "StoreRolledBackError",
    "TaskCancelledError",
    "TaskPlacementGroupRemoved",
    "TaskTimeoutError",
    "TaskUnschedulableError",
    "UnserializableException",
    "UntrustedPayloadError",
    "UserCodeException",
    "WorkerCrashedError",
    "actor_ended",
    "system_error",
]

logger = logging.getLogger(__name__)


class RayError(Exception):
    """Base of all errors raised by celery_actors."""


class NotFoundError(RayError, LookupError):
    """Raised where an operator names an actor, node, call or queue that there is not."""


class ConfigurationError(RayError, ValueError):
    """Raised when settings contradict each other or a needed one is missing."""


class NotInitializedError(RayError, RuntimeError):
    """Raised when a call needs a cluster and this process has not joined one."""


class ClusterUnreachableError(RayError, ConnectionError):
    """Raised when the store behind the cluster does not answer."""


class StoreError(RayError):
    """Raised when the store refuses a command."""


class StoreFullError(StoreError):
    """Raised when the store has no memory left for what is sent. Nothing of it was accepted."""


class StoreRolledBackError(RayError):
    """Raised to callers and actors whose accepted calls or committed results the store has lost.

    A failover to a replica that was behind does that, and an older copy of the data.
    """


class SerializationError(RayError, TypeError):
    """Raised in the caller when a value cannot be pickled; names the offending member."""


class UntrustedPayloadError(RayError):
    """Raised when a value is unsigned, signed with an unknown key, or was moved or changed."""


class DeadLetterError(RayError):
    """Raised for a message that names no known method or cannot be decoded."""


class FencedError(RayError):
    """Raised in a worker whose place was taken: it may not commit any more."""

    def __init__(self, words: str = "another process owns this queue now") -> None:
        super().__init__(words)


class GetTimeoutError(RayError, TimeoutError):
    """Raised when ``get`` did not have every value in time. The calls go on."""


class ObjectLostError(RayError):
    """Raised when a value was freed, expired, or lost with its store."""


class ObjectFetchTimedOutError(ObjectLostError):
    """Raised when a value is known to exist but did not arrive in time."""


class ObjectFreedError(ObjectLostError):
    """Raised when a value was freed by its owner while somebody still referred to it."""


class OwnerDiedError(ObjectLostError):
    """Raised when the process that alone held a value is gone."""


class ObjectReconstructionFailedError(ObjectLostError):
    """Raised when a lost value could not be made again by running its function again."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """Raised when a value was freed although references to it were counted: a bug, report it."""


class ObjectStoreFullError(RayError):
    """Raised when neither shared memory nor the store has room for a value."""


class OutOfDiskError(RayError):
    """Raised when a node's disk is too full for what must be written there."""


class OutOfMemoryError(RayError):
    """Raised for a call whose worker was ended because its node ran out of memory."""


class ObjectRefStreamEndOfStreamError(RayError):
    """Raised by the internal reader of a stream that has no further value."""


class UnserializableException(RayError):  # noqa: N818 - Ray's name
    """Raised in place of an exception that this process cannot unpickle; keeps its traceback."""


class UserCodeException(RayError):  # noqa: N818 - Ray's name
    """Raised when code of the user's failed that runs for the system, not inside a call."""


class RaySystemError(RayError):
    """Raised when celery_actors itself failed."""


class RuntimeEnvSetupError(RayError):
    """Raised for every call and actor whose ``runtime_env`` could not be set up on its node."""


class TaskUnschedulableError(RayError):
    """Raised for a call that no node can ever run: its placement is impossible."""


class ActorUnschedulableError(RayError):
    """Raised for an actor that no node can ever run: its placement is impossible."""


class TaskPlacementGroupRemoved(RayError):  # noqa: N818 - Ray's name
    """Raised for a call whose placement group was removed before it ran."""


class InsufficientResourcesError(RayError):
    """Raised by ``.remote()`` where no living node could ever hold what is asked for.

    Nothing was sent. Its text says what was asked, what each node has, and how to add it.
    """


class WorkerCrashedError(RayError):
    """Raised when the worker running a function died and no retry was left."""


class NodeDiedError(RayError):
    """Raised when the only node that could run a call is gone."""


class LocalRayletDiedError(NodeDiedError):
    """Raised when the node that ``init`` started on this machine is gone."""


class TaskCancelledError(RayError):
    """Raised for a call that was cancelled."""


class RayActorError(RayError):
    """Base of the errors about an actor that cannot answer.

    ``actor_id`` is a hex string; ``actor_init_failed`` says that ``__init__`` raised;
    ``preempted`` that its node was taken away.
    """

    def __init__(
        self,
        message: str = "",
        actor_id: str | None = None,
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        super().__init__(message)
        self.actor_id = actor_id
        self.actor_init_failed = actor_init_failed
        self.preempted = preempted

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.actor_id, self.actor_init_failed, self.preempted)


class ActorDiedError(RayActorError):
    """Raised when the actor is dead for good."""


class ActorPlacementGroupRemoved(ActorDiedError):  # noqa: N818 - Ray's name
    """Raised for calls to an actor whose placement group was removed: it has died of that."""


class ActorUnavailableError(RayActorError):
    """Raised when the actor's process died under a started call and the actor restarts."""


class StateRefusedError(RayActorError):
    """Raised for calls of a durable actor whose class cannot take its stored state.

    The actor stands still and its state is kept. Mend the class, then start the actor again with
    ``kill(handle, no_restart=False)``.
    """


class NonDeterminismError(RayActorError):
    """Raised for calls of a durable actor whose journal gives another result when it runs again.

    The actor stands still; its state and journal are kept. Mend the method, then start the actor
    again with ``kill(handle, no_restart=False)``.
    """


class ActorAlreadyExistsError(RayError, ValueError):
    """Raised when an actor's name is already taken in its namespace."""


class ActorHandleNotFoundError(RayError, ValueError):
    """Raised when a handle names an actor that this cluster does not know."""


class PendingCallsLimitExceeded(RayError):  # noqa: N818 - Ray's name
    """Raised by ``.remote()`` when ``max_pending_calls`` calls are under way already."""


class AsyncioActorExit(RayError):  # noqa: N818 - Ray's name
    """Raised by ``exit_actor()`` inside an async method, to end it."""


class TaskTimeoutError(RayError, TimeoutError):
    """Raised inside a call that runs longer than its ``timeout``."""


class RayTaskError(RayError):
    """A user's exception, raised again in the caller with the remote traceback.

    ``get`` raises an instance that is both a ``RayTaskError`` and the user's own type, so
    ``except ValueError`` works. ``cause`` is the original exception; ``pid``, ``ip``
    and ``actor_repr`` (of a class with its own ``__repr__``) say where it was raised.
    """

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        pid: int | None = None,
        ip: str | None = None,
        actor_id: str | None = None,
        actor_repr: str | None = None,
    ) -> None:
        # Not super(): in a dual class that would be the user's own constructor.
        Exception.__init__(self, function_name, traceback_str, cause)
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.pid = pid
        self.ip = ip
        self._actor_id = actor_id  # private: an actor error that is a cause has its own
        self.actor_repr = actor_repr

    def __str__(self) -> str:
        places = {"pid": self.pid, "ip": self.ip, "actor_id": self._actor_id}
        if self.actor_repr:
            places["repr"] = self.actor_repr
        where = ", ".join(f"{name}={value}" for name, value in places.items() if value is not None)
        return f"{self.function_name}() failed ({where}):\n{self.traceback_str}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (RayTaskError if type(self) is RayTaskError else _rebuild_dual), self._words()

    def _words(self) -> tuple[Any, ...]:
        return (
            self.function_name, self.traceback_str, self.cause, self.pid, self.ip, self._actor_id,
            self.actor_repr,
        )  # fmt: skip

    def as_instanceof_cause(self) -> RayTaskError:
        """Return an error that ``except <type of the cause>`` catches too.

        A type that cannot be subclassed gives the plain ``RayTaskError``, and a warning.
        """
        if isinstance(self.cause, RayTaskError):
            return self.cause.as_instanceof_cause()
        try:
            error = dual_error(RayTaskError, self.cause)
            RayTaskError.__init__(error, *self._words())
            Exception.__init__(error, *arguments_of(self.cause))
        except Exception as problem:  # noqa: BLE001 - the user's class may refuse in any way
            logger.warning(
                "the exception type %s cannot be combined with RayTaskError (%s: %s): it is raised "
                "as a plain RayTaskError; its .cause is the exception itself",
                type(self.cause).__qualname__, type(problem).__name__, problem,
            )  # fmt: skip
            return self
        return error


def _rebuild_dual(*words: Any) -> RayTaskError:
    return RayTaskError(*words).as_instanceof_cause()


#: Begins the cause of an actor's end where its environment is to blame.
SETUP_FAILED = "its runtime_env could not be set up: "
#: Begins the cause where no node can ever start it.
UNSCHEDULABLE = "no node can start it: "
#: Begins the cause of a standstill: a durable actor's class cannot take its stored state.
STATE_REFUSED = "its state was refused: "
#: Begins it where the journal of a durable actor gave other results than before.
REPLAY_DIFFERS = "its calls gave other results when they ran again: "
#: Begins the cause where its placement group is gone.
GROUP_REMOVED = "its placement group was removed"


def actor_ended(
    text: str, cause: str | None, actor_id: str | None, init_failed: bool = False
) -> RayError:
    """Return the error of a call to an actor that ended for this cause; ``text`` tells all."""
    for beginning, kind in (
        (SETUP_FAILED, RuntimeEnvSetupError), (UNSCHEDULABLE, ActorUnschedulableError),
        (GROUP_REMOVED, ActorPlacementGroupRemoved), (STATE_REFUSED, StateRefusedError),
        (REPLAY_DIFFERS, NonDeterminismError),
    ):  # fmt: skip
        if cause is not None and cause.startswith(beginning):
            return kind(text)
    return ActorDiedError(text, actor_id, init_failed)


#: The errors that travel by name and text, without a pickle.
_SYSTEM: dict[str, type[RayError]] = {
    kind.__name__: kind
    for kind in (
        ActorDiedError,
        ActorPlacementGroupRemoved,
        ActorUnavailableError,
        ActorUnschedulableError,
        DeadLetterError,
        LocalRayletDiedError,
        NodeDiedError,
        NonDeterminismError,
        ObjectFetchTimedOutError,
        ObjectFreedError,
        ObjectLostError,
        ObjectReconstructionFailedError,
        ObjectStoreFullError,
        OutOfDiskError,
        OutOfMemoryError,
        OwnerDiedError,
        RaySystemError,
        ReferenceCountingAssertionError,
        RuntimeEnvSetupError,
        StateRefusedError,
        StoreFullError,
        StoreRolledBackError,
        TaskCancelledError,
        TaskPlacementGroupRemoved,
        TaskTimeoutError,
        TaskUnschedulableError,
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
