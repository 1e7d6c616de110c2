"""Result records: Celery's own JSON format, written by workers and read by callers.

A failure carries in ``ca`` what Celery's format has no room for: ``{"x": …}``, the sealed error as
text, for a user's exception; ``{"e": name, "m": text, "a": actor id, "i": init failed}`` for ours.
A success begins with one: ``{"h": [ties of the handles and references in the value]}`` (see
``tokens``), ``{"n": count}`` for a call of several values, and ``{"w": session of the worker}`` for
one of them where the worker waits for the reader.
"""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, cast

import msgspec

from .contents import collecting
from .dual_error import arguments_of
from .errors import (
    ObjectLostError,
    RayActorError,
    RayError,
    RayTaskError,
    SerializationError,
    UnserializableException,
    UntrustedPayloadError,
    WorkerCrashedError,
    system_error,
)
from .messages import Meta, decode_meta
from .serialization import SEALED, Blob, Sealer, encode_plain
from .unreadable import UNREADABLE

__all__ = [
    "Beside",
    "RaisedAt",
    "beside",
    "blobs_of",
    "blobs_of_stored",
    "contained",
    "error_record",
    "failure_record",
    "read_result",
    "result_context",
    "success_record",
]

_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode


class RaisedAt(NamedTuple):
    """Where an exception was raised: what its text and attributes tell the caller."""

    pid: int
    ip: str | None = None
    actor_id: str | None = None
    actor_repr: str | None = None


class _SystemFailure(msgspec.Struct):
    x: str = ""
    e: str = ""
    m: str = ""
    a: str | None = None
    i: bool = False


class Beside(msgspec.Struct, omit_defaults=True):
    """What a success carries beside its value: see the module. ``h`` comes first, for scripts."""

    h: list[str] = []
    n: int = 0
    w: str = ""


_decode_failure = msgspec.json.Decoder(_SystemFailure).decode
_decode_beside = msgspec.json.Decoder(Beside).decode
_NOTHING = Beside()


def result_context(call_id: str) -> tuple[str, ...]:
    """Return what a result is signed for; the call id holds its caller and sequence."""
    return ("result", call_id)


def _now() -> bytes:
    """Return the moment as Celery writes it; one is needed per call, a second has thousands."""
    second, fraction = divmod(time.time_ns(), 1_000_000_000)
    return b"%b.%06d+00:00" % (_second(second), fraction // 1000)


@functools.lru_cache(maxsize=1)
def _second(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


class Carrier(Protocol):
    """Keeps alive what a value contains."""

    def carry(self, things: Iterable[str], kind: str, name: str) -> list[str]:
        """Add ties and return them."""


def success_record(
    value: Any,
    call_id: str,
    sealer: Sealer,
    describe: str,
    carrier: Carrier,
    ours: Beside | None = None,
    *,
    given: bytes | None = None,
) -> bytes:
    """Return the record of a returned value; ``given``: it as JSON, where that is known already.

    Raises:
        SerializationError: the value cannot be pickled. ObjectStoreFullError: it has no room.
    """
    result = given or encode_plain(value)
    if result is None:
        with collecting() as things:
            result = sealer.seal(value, result_context(call_id), call_id, describe)
        if things:
            ties = carrier.carry(things, "o", call_id)
            ours = msgspec.structs.replace(ours or _NOTHING, h=ties)
    inside = b"" if ours is None else b'"ca":%b,' % _encode(ours)
    return (
        b'{%b"status":"SUCCESS","result":%b,"traceback":null,"children":[],"date_done":"%b",'
        b'"task_id":%b}' % (inside, result, _now(), _encode(call_id))
    )


def failure_record(
    error: BaseException, call_id: str, sealer: Sealer, function_name: str, place: RaisedAt,
    carrier: Carrier,
) -> bytes:  # fmt: skip
    """Return the record of a raised exception, with its traceback from the user's code on.

    What the exception refers to is kept alive as long as the driver: that is rare.
    """
    frames = error.__traceback__
    while frames is not None and "/celery_actors/" in frames.tb_frame.f_code.co_filename:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))
    cause = error.cause if isinstance(error, RayTaskError) else error
    remote = RayTaskError(function_name, text, cause, *place)
    try:
        with collecting() as things:
            sealed = sealer.seal(remote, result_context(call_id), call_id, "the exception")
        if things:
            carrier.carry(things, "c", call_id)
    except SerializationError as problem:
        replaced = RayError(
            f"Exception {type(cause).__name__} isn't serializable: {problem}. Original exception "
            f"details:\n{text}"
        )
        remote = RayTaskError(function_name, text, replaced, *place)
        sealed = sealer.seal(remote, result_context(call_id), call_id, "the exception")
    arguments = encode_plain([_text_of(argument) for argument in arguments_of(cause)]) or b"[]"
    return _failure(
        call_id,
        type(cause).__name__,
        arguments,
        type(cause).__module__,
        text,
        # As text: a Celery client that knows nothing of sealed values must be able to read it.
        _encode({"x": sealed.decode()}),
    )


def error_record(error: RayError, call_id: str) -> bytes:
    """Return the record of one of our own errors: plain JSON, nothing to unpickle."""
    actor_id, init_failed = None, False
    if isinstance(error, RayActorError):
        actor_id, init_failed = error.actor_id, error.actor_init_failed
    name, text = type(error).__name__, _readable(str(error))
    ours = _encode({"e": name, "m": text, "a": actor_id, "i": init_failed})
    return _failure(call_id, name, _encode([text]), "celery_actors.errors", text, ours)


def _failure(
    call_id: str, name: str, arguments: bytes, module: str, text: str, ours: bytes
) -> bytes:
    return (
        b'{"status":"FAILURE","result":{"exc_type":%b,"exc_message":%b,"exc_module":%b},'
        b'"traceback":%b,"children":[],"date_done":"%b","task_id":%b,"ca":%b}'
    ) % (
        _encode(name),
        arguments,
        _encode(module),
        _encode(_readable(text)),
        _now(),
        _encode(call_id),
        ours,
    )


def _text_of(argument: Any) -> str:
    try:
        return _readable(str(argument))
    except Exception:  # noqa: BLE001 - the user's own __str__
        return f"<{type(argument).__name__} without text>"


def _readable(text: str) -> str:
    """Return text that UTF-8 can carry: a lone surrogate, as in odd file names, is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_result(meta: Meta, call_id: str, sealer: Sealer) -> Any:
    """Return the value of a record, or raise its error.

    Raises:
        RayTaskError: the user's exception (also an instance of its own type).
        RayError: one of ours. UntrustedPayloadError: the record is not signed for this call.
    """
    if meta.status == "SUCCESS":
        raw = bytes(meta.result)
        if raw.startswith(b'{"__type__"'):
            return sealer.open(raw, result_context(call_id))
        return _decode_any(raw)
    failure = _decode_failure(meta.ca) if bytes(meta.ca) != b"null" else _SystemFailure()
    if failure.x:
        raise _open_error(meta, failure.x, call_id, sealer)
    if failure.e:
        raise system_error(failure.e, failure.m, failure.a, failure.i)
    # Written by a stock Celery worker or client: no pickle, so name and text are all there is.
    raise RayError(f"call {call_id} ended as {meta.status}: {bytes(meta.result).decode()}")


def _open_error(meta: Meta, sealed: str, call_id: str, sealer: Sealer) -> RayError:
    """Return the exception that a call raised; its text alone where it cannot be unpickled."""
    try:
        error = sealer.open(sealed.encode(), result_context(call_id))
        return cast("RayTaskError", error).as_instanceof_cause()
    except UntrustedPayloadError:
        raise
    except Exception as problem:  # noqa: BLE001 - unpickling runs the user's own constructors
        return UnserializableException(
            f"call {call_id} raised an exception that this process cannot unpickle "
            f"({type(problem).__name__}: {problem}). Its traceback:\n{meta.traceback}"
        )


def blobs_of(meta: Meta) -> list[Blob]:
    """Return what a record keeps beside itself; nothing where it cannot be read."""
    raw = bytes(meta.result)
    if raw.startswith(SEALED):
        return Sealer.blobs(raw)
    try:
        raised = "" if bytes(meta.ca) == b"null" else _decode_failure(meta.ca).x
    except UNREADABLE:
        return []
    return Sealer.blobs(raised.encode()) if raised else []


def blobs_of_stored(record: bytes) -> list[Blob]:
    """Return what a stored record keeps beside itself; nothing where it is no record."""
    try:
        return blobs_of(decode_meta(record))
    except UNREADABLE:
        return []


def unhandled(meta: Meta) -> str | None:
    """Return the text of a failure that a user must hear of even without asking; else None.

    That is an exception of the user's or a crash, not the end of an actor or a cancellation.
    """
    failure = _decode_failure(meta.ca) if bytes(meta.ca) != b"null" else _SystemFailure()
    if failure.x or failure.e == WorkerCrashedError.__name__:
        return meta.traceback
    return None


def contained(meta: Meta) -> list[str]:
    """Return the ties of what a value contains; they end with it."""
    return beside(meta).h if meta.status == "SUCCESS" else []


def beside(meta: Meta) -> Beside:
    """Return what a success carries beside its value."""
    return _NOTHING if bytes(meta.ca) == b"null" else _decode_beside(meta.ca)


def lost(call_id: str) -> ObjectLostError:
    """Return the error for a value that is not in the store any more."""
    return ObjectLostError(
        f"the value of {call_id} is not in the store any more: its last holder dropped it, it "
        "expired (result_expires), or the store lost it. Keep a reference, or store it longer"
    )
