"""Remote functions in Celery's own workers: ``celery -A proj worker -Q ca.tasks.cpu1``.

Such a worker runs what it takes as a Celery task and answers the caller. What only our nodes do is
not there: devices, retries after a crash, cancelling a running call, its own environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from . import records, routing
from .broker.app import RefMarker, SealedValue
from .code import load_code
from .errors import DeadLetterError, RayTaskError, SerializationError
from .messages import CallTag
from .object_ref import ObjectRef
from .runtime import Runtime
from .store import Answer
from .tokens import Remains, clear

__all__ = ["register"]


def register(
    app: Any, name: str, function: Callable[..., Any], find_runtime: Callable[[], Runtime]
) -> None:
    """Let an app's workers run a remote function from a shared queue.

    A call whose process dies is delivered again (``acks_late``), so it may run twice.
    """

    def run(task: Any, *args: Any, **kwargs: Any) -> Any:
        request = task.request
        if request.called_directly or request.is_eager:
            return function(*args, **kwargs)
        return _Call(task, find_runtime(), function).answer(args, kwargs)

    # Not shared: other apps of this process have functions of their own.
    app.task(run, name=name, bind=True, shared=False, acks_late=True, reject_on_worker_lost=True)


class _Call:
    """One call that a stock worker has taken."""

    def __init__(self, task: Any, runtime: Runtime, function: Callable[..., Any]) -> None:
        request = task.request
        self._request = request
        self._runtime = runtime
        self._label = task.name
        self._id = str(request.id)
        self._queue = str((request.delivery_info or {}).get("routing_key", ""))
        tag = request.get("ca")
        self._tag = msgspec.convert(tag, CallTag) if tag else CallTag()
        self._function = function
        if self._tag.code:  # the very code that the caller has sent, signed
            self._function = load_code(self._tag.code, runtime.fetch_code, runtime.sealer)
        self._sealed: list[bytes] = []

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run the function; return its value to Celery, or answer a caller of ours."""
        if not self._tag.caller:
            return self._function(*args, **kwargs)
        values = [self._open(n, value) for n, value in enumerate([*args, *kwargs.values()])]
        named = dict(zip(kwargs, values[len(args) :], strict=True))
        self._request.ignore_result = True  # it is stored below, with what Celery has no place for
        try:
            value = self._function(*values[: len(args)], **named)
            record = self._success(value)
        except Exception as error:
            self._store(self._failure(error))
            raise
        self._store(record)
        return None

    def _open(self, number: int, value: Any) -> Any:
        runtime, tag = self._runtime, self._tag
        if isinstance(value, RefMarker):
            marker = value.call_id
            ref: ObjectRef[Any] = runtime.results.borrow(
                marker.rstrip("+"), stored=marker.endswith("+")
            )
            return runtime.get([ref], None)[0]
        if not isinstance(value, SealedValue):
            return value
        sealed = {"__type__": value.marker, "__value__": value.fields}
        self._sealed.append(msgspec.json.encode(sealed))
        place = ("argument", str(number), self._queue, tag.caller, str(tag.sequence), self._id,
                 self._label)  # fmt: skip
        return runtime.sealer.open(sealed, place)

    def _success(self, value: Any) -> bytes:
        if self._tag.options is not None and self._tag.options.returns != 1:
            raise DeadLetterError(
                f"{self._label} gives several values, and a Celery worker took it: serve "
                f"{self._queue} with celery_actors worker"
            )
        runtime = self._runtime
        return records.success_record(
            value, self._id, runtime.sealer, f"the result of {self._label}", runtime.holdings
        )

    def _failure(self, error: Exception) -> bytes:
        runtime = self._runtime
        if isinstance(error, DeadLetterError | SerializationError):
            return records.error_record(error, self._id)
        cause = error.cause if isinstance(error, RayTaskError) else error
        return records.failure_record(
            cause, self._id, runtime.sealer, self._label, records.RaisedAt(os.getpid()),
            runtime.holdings,
        )  # fmt: skip

    def _store(self, record: bytes) -> None:
        runtime, tag = self._runtime, self._tag
        runtime.calls.settle()
        answer = Answer(routing.result_key(self._id), record, routing.reply_channel(tag.caller))
        runtime.store.scripts.answer(runtime.result_seconds, [answer])
        blobs = [blob for raw in self._sealed for blob in runtime.sealer.blobs(raw)]
        clear(runtime.store, Remains((), blobs, tag.carried))
