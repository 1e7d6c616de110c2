"""Runs one call: arguments in, result record out. Knows nothing of queues and commits."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from . import records, routing
from .errors import (
    DeadLetterError,
    ObjectStoreFullError,
    RayError,
    SerializationError,
    TaskCancelledError,
    UntrustedPayloadError,
)
from .messages import Message, decode_body, decode_envelope
from .object_ref import ObjectRef
from .runtime import Runtime
from .serialization import Blob, Sealer, is_sealed
from .store import Answer

__all__ = ["Executor", "Outcome", "Prepared"]

_REF = "ca-ref"


class Prepared(NamedTuple):
    """A decoded call and the references among its arguments."""

    message: Message
    refs: list[ObjectRef[Any]]


class Outcome(NamedTuple):
    """What a call came to: the answer to store, and the argument buffers to free after it."""

    answer: Answer
    garbage: list[Blob]
    succeeded: bool


class Executor:
    """Runs calls with one process's runtime.

    ``owner`` is what arguments must be signed for: the actor's id, or the shared queue.
    """

    def __init__(self, runtime: Runtime, owner: str) -> None:
        self._runtime = runtime
        self._owner = owner
        self._pid = os.getpid()
        self.on_accepted: Callable[[Message], None] = lambda _message: None

    def prepare(self, raw: bytes) -> Prepared:
        """Decode a message; its references are watched from now on.

        Raises:
            DeadLetterError, UntrustedPayloadError: it will never run.
        """
        message = decode_body(raw, decode_envelope(raw))
        refs: list[ObjectRef[Any]] = []
        if b"__type__" in raw:
            values = [*message.args, *message.kwargs.values()]
            refs = [self._borrow(v["__value__"]) for v in values if _is_ref(v)]
        return Prepared(message, refs)

    def run(self, prepared: Prepared, function: Callable[..., Any], label: str) -> Outcome:
        """Run a call and return its outcome.

        Raises:
            SystemExit: the user's code asked for it. DeadLetterError, UntrustedPayloadError: an
                argument cannot be read or trusted; the call did not start.
        """
        message = prepared.message
        if message.expires is not None and _is_past(message.expires):
            late = TaskCancelledError(f"{label} expired at {message.expires} before it started")
            return self.refuse(message.call_id, message.tag.caller, late, label)
        try:
            for ref in prepared.refs:
                if ref.failed:
                    self._runtime.results.value(ref)
            args, kwargs, garbage = self._arguments(message)
        except (DeadLetterError, UntrustedPayloadError):
            raise
        except Exception as error:  # noqa: BLE001 - a failed dependency raises the user's own error
            return self.refuse(message.call_id, message.tag.caller, error, label)
        self.on_accepted(message)
        try:
            value = function(*args, **kwargs)
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the user's exception is the result
            return self._failed(message, error, label, garbage)
        try:
            record = records.success_record(
                value, message.call_id, self._runtime.sealer, f"the result of {label}"
            )
        except (SerializationError, ObjectStoreFullError) as error:
            return self._failed(message, error, label, garbage)
        return Outcome(self._answer(message.call_id, message.tag.caller, record), garbage, True)

    def refuse(self, call_id: str, caller: str, error: Exception, label: str) -> Outcome:
        """Return the outcome of a call that did not start."""
        if isinstance(error, RayError) and not hasattr(error, "cause"):
            record = records.error_record(error, call_id)
        else:
            record = records.failure_record(error, call_id, self._runtime.sealer, label, self._pid)
        return Outcome(self._answer(call_id, caller, record), [], False)

    def _failed(
        self, message: Message, error: BaseException, label: str, garbage: list[Blob]
    ) -> Outcome:
        record = records.failure_record(
            error, message.call_id, self._runtime.sealer, label, self._pid
        )
        return Outcome(self._answer(message.call_id, message.tag.caller, record), garbage, False)

    @staticmethod
    def _answer(call_id: str, caller: str, record: bytes) -> Answer:
        channel = routing.reply_channel(caller) if caller else ""
        return Answer(routing.result_key(call_id), record, channel)

    def _borrow(self, marker: str) -> ObjectRef[Any]:
        """Return the reference that a message names; a plus says that its value was stored."""
        return self._runtime.results.borrow(marker.rstrip("+"), stored=marker.endswith("+"))

    def _arguments(self, message: Message) -> tuple[list[Any], dict[str, Any], list[Blob]]:
        if b"__type__" not in message.raw:
            return message.args, message.kwargs, []
        garbage: list[Blob] = []
        values = [*message.args, *message.kwargs.values()]
        for position, value in enumerate(values):
            if is_sealed(value):
                place = ("argument", str(position), self._owner, message.tag.caller,
                         str(message.tag.sequence), message.call_id, message.task)  # fmt: skip
                garbage += Sealer.blobs(value)
                values[position] = self._runtime.sealer.open(value, place)
            elif _is_ref(value):
                values[position] = self._runtime.results.value(self._borrow(value["__value__"]))
            elif isinstance(value, dict) and "__type__" in value:
                raise DeadLetterError(f"argument {position} is of the unknown type {value!r:.80}")
        count = len(message.args)
        return values[:count], dict(zip(message.kwargs, values[count:], strict=True)), garbage


def _is_ref(value: Any) -> bool:
    return type(value) is dict and value.get("__type__") == _REF and "__value__" in value


def _is_past(moment: str) -> bool:
    try:
        when = datetime.fromisoformat(moment)
    except ValueError:
        return False
    return when.astimezone(UTC) < datetime.now(UTC)
