"""Runs one call: arguments in, result record out. Knows nothing of queues and commits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from . import records, routing, tracing
from .directory import answer_to
from .errors import (
    DeadLetterError,
    FencedError,
    ObjectStoreFullError,
    RayError,
    RayTaskError,
    SerializationError,
    TaskCancelledError,
    TaskTimeoutError,
    UntrustedPayloadError,
)
from .interrupts import Interrupts
from .messages import Message, decode_body, decode_envelope
from .object_ref import ObjectRef
from .options import RetryOn
from .returns import Sink
from .runtime import Runtime
from .serialization import is_sealed
from .store import Answer, Fence
from .streaming import Sinks
from .tokens import Remains, remains_of

__all__ = [
    "Callee",
    "Executor",
    "Outcome",
    "Prepared",
    "Retries",
    "Started",
    "Watcher",
    "seconds_until",
]

logger = logging.getLogger(__name__)

_REF = "ca-ref"

#: What a call leaves: keys of the store, and what its arguments kept beside the message.


class Prepared(NamedTuple):
    """A decoded call and the references among its arguments."""

    message: Message
    refs: list[ObjectRef[Any]]


class Outcome(NamedTuple):
    """What a call came to: the answer to store, and what to remove after that."""

    answer: Answer
    remains: Remains | None
    succeeded: bool
    stopped: bool = False  # it was cancelled or ran out of time in the middle
    failure: bytes = b""  # the record of what it raised, also where nobody waits for the answer


class Started(NamedTuple):
    """The arguments of a call that starts."""

    args: list[Any]
    kwargs: dict[str, Any]


#: Runs a function once with its arguments, and where it gives several values, its sink.
Call = Callable[[Message, Callable[..., Any], Started, Sink | None], Any]


class Callee(NamedTuple):
    """What a message names: the function, how users know it, when to run it again."""

    function: Callable[..., Any]
    label: str
    retry_on: RetryOn = False


class Retries:
    """How often one call may run again because of the exceptions it raises.

    ``before`` counts the runs that a crash ended. Ray counts both together.
    """

    def __init__(
        self, message: Message, own: RetryOn, load: Callable[[str], Any],
        on_retry: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._limit = message.tag.max_retries
        self._wanted = message.options.retry_on
        self._own = own
        self._load = load
        self._on_retry = on_retry
        self._before = message.retries
        self.count = 0
        #: Prepares the next run; returns what to call then.
        self.before_next: Callable[[Callee], Callee] = lambda callee: callee

    def another(self, error: BaseException) -> bool:
        """Count one more run; False where the exception or the limit does not allow it."""
        if 0 <= self._limit <= self._before + self.count or not self._covers(error):
            return False
        self.count += 1
        self._on_retry(self.count)
        return True

    def _covers(self, error: BaseException) -> bool:
        wanted: Any = self._own if self._wanted is None else self._wanted
        if isinstance(error, FencedError):
            return False
        if isinstance(wanted, bool):
            return wanted and isinstance(error, Exception)
        cause = error.cause if isinstance(error, RayTaskError) else error
        return isinstance(cause, tuple(self._load(k) if isinstance(k, str) else k for k in wanted))


class Watcher(Protocol):
    """Sees what goes into a call and what comes out of it."""

    def started(self, message: Message, args: Started) -> None:
        """A run of a call begins, with these arguments."""

    def ended(self, value: Any, *, raised: bool) -> None:
        """It gave a value, or raised an exception."""


class Trace(Protocol):
    """Does around a call what Celery's own worker does: see ``broker.task_trace``."""

    @property
    def send_signals(self) -> bool:
        """True where somebody listens to signals."""

    def begins(
        self, message: Message, label: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """A run of a call begins."""

    def succeeded(self, message: Message, value: Any) -> None:
        """It gave a value: send what is to come after it."""

    def failed(self, message: Message, error: BaseException) -> None:
        """It failed, or never began."""


class Executor:
    """Runs calls with one process's runtime.

    ``owner`` is what arguments must be signed for: the actor's id, or the shared queue.
    """

    def __init__(
        self, runtime: Runtime, owner: str, interrupts: Interrupts, place: records.RaisedAt,
        fence: Fence,
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._sinks = Sinks(runtime, fence)
        self.interrupts = interrupts
        self._owner = owner
        self._place = place
        self.on_accepted: Callable[[Message], None] = lambda _message: None
        self.watcher: Watcher | None = None
        self.trace: Trace | None = None
        self.listens = False  # whether there is code of the user's that may listen to signals
        # Of plain Celery clients: what their JSON has beside JSON's own types.
        self.read_typed: Callable[[Any], Any] = lambda value: value
        self.write_typed: Callable[[Any], bytes | None] = lambda _value: None

    def _traced(self, message: Message) -> Trace | None:
        """Return what is to hear of this call: most have nobody who listens."""
        trace = self.trace
        return trace if trace is not None and (message.follows or trace.send_signals) else None

    def prepare(self, raw: bytes) -> Prepared:
        """Decode a message; its references are watched from now on.

        Raises:
            DeadLetterError, UntrustedPayloadError: it will never run.
        """
        message = decode_body(raw, decode_envelope(raw))
        refs: list[ObjectRef[Any]] = []
        if message.sealed:
            values = [*message.args, *message.kwargs.values()]
            refs = [self._borrow(v["__value__"]) for v in values if _is_ref(v)]
        return Prepared(message, refs)

    def run(self, prepared: Prepared, callee: Callee, retries: Retries) -> Outcome:
        """Run a call in the main thread and return its outcome.

        Raises:
            SystemExit: the user's code asked for it. DeadLetterError, UntrustedPayloadError: an
                argument cannot be read or trusted; the call did not start.
        """
        started = self.start(prepared, callee.label)
        return self.complete(prepared, callee, retries, started, self._call)

    def complete(
        self, prepared: Prepared, callee: Callee, retries: Retries, started: Started | Outcome,
        call: Call,
    ) -> Outcome:  # fmt: skip
        """Run a call that has started, as often as its retries allow; return its outcome.

        ``call`` runs it once, in this thread, where it can be stopped.
        """
        message, label = prepared.message, callee.label
        sink = self.sink(message, label)
        while not isinstance(started, Outcome):
            try:
                value = call(message, callee.function, started, sink)
            except SystemExit:
                raise
            except BaseException as error:  # noqa: BLE001 - the user's exception is the result
                if self.is_cancelled(message) or not retries.another(error):
                    return self.fail(message, error, label)
                callee = retries.before_next(callee)
                started = self.start(prepared, label)
            else:
                return self.finish(message, value, label)
        return started

    def sink(self, message: Message, label: str) -> Sink | None:
        """Return what takes the values of a call; None for a call that gives one value."""
        return None if message.tag.options is None else self._sinks.sink(message, label)

    def _call(
        self, message: Message, function: Callable[..., Any], started: Started, sink: Sink | None
    ) -> Any:
        interrupts = self.interrupts
        try:
            if sink is not None:
                interrupts.enter_main(message, type(sink).run.__code__)
                return sink.run(function, started.args, started.kwargs)
            interrupts.enter_main(message, Executor._call.__code__)
            return function(*started.args, **started.kwargs)
        finally:
            interrupts.leave_main(message)

    def start(self, prepared: Prepared, label: str) -> Started | Outcome:
        """Return the arguments of a call, or the outcome of one that must not start.

        Raises:
            DeadLetterError, UntrustedPayloadError: an argument cannot be read or trusted.
        """
        message = prepared.message
        if message.expires is not None and seconds_until(message.expires) < 0:
            late = TaskCancelledError(f"{label} expired at {message.expires} before it started")
            return self.refuse(message, late, label)
        if self.is_cancelled(message):
            self.interrupts.forget(message.call_id)
            error = TaskCancelledError(f"{label} was cancelled before it started")
            return _with_mark(self.refuse(message, error, label), message)
        try:
            for ref in prepared.refs:
                if ref.failed:
                    self._runtime.results.value(ref)
            started = Started(*self._arguments(message))
            if self.watcher is not None:
                self.watcher.started(message, started)
        except (DeadLetterError, UntrustedPayloadError):
            raise
        except Exception as error:  # noqa: BLE001 - a failed dependency raises the user's own error
            return self.refuse(message, error, label)
        self.on_accepted(message)
        if self.listens and self.trace is not None and self.trace.send_signals:
            self.trace.begins(message, label, started.args, started.kwargs)
        return started

    def recall(self, message: Message) -> None:
        """Look into the store for a cancellation that this process could not hear."""
        if self._runtime.store.run("EXISTS", routing.cancelled_key(message.call_id)):
            self.interrupts.cancel(message.call_id)

    def is_cancelled(self, message: Message) -> bool:
        """Tell whether somebody cancelled the call."""
        return self.interrupts.is_cancelled(message.call_id)

    def finish(self, message: Message, value: Any, label: str) -> Outcome:
        """Return the outcome of a call that returned a value, or whose sink has taken them."""
        if self.is_cancelled(message):
            return self.fail(message, KeyboardInterrupt(), label)
        if self.watcher is not None:
            self.watcher.ended(value, raised=False)
        streams = isinstance(value, Sink)
        try:
            record = self._record(message, value, label)
        except RayError as error:
            if streams or isinstance(error, SerializationError | ObjectStoreFullError):
                return self.fail(message, error, label)
            raise
        if (message.follows or self.listens) and (trace := self._traced(message)) is not None:
            try:
                trace.succeeded(message, None if streams else value)
            except Exception as error:  # noqa: BLE001 - what comes after it could not be sent
                return self.fail(message, error, label)
        return Outcome(answer_to(message, record), remains_of(message), True)

    def _record(self, message: Message, value: Any, label: str) -> bytes:
        """Return the record of a value; raises where it cannot be stored."""
        if message.tag.options is not None and isinstance(value, Sink):
            return value.end()
        if message.unanswered:  # nothing that the value contains is kept, either
            return b""
        return records.success_record(
            value, message.call_id, self._runtime.sealer, f"the result of {label}",
            self._runtime.holdings, given=None if message.tag.caller else self.write_typed(value),
        )  # fmt: skip

    def fail(self, message: Message, error: BaseException, label: str) -> Outcome:
        """Return the outcome of a call that raised."""
        if self.watcher is not None:
            self.watcher.ended(error, raised=True)
        if self.is_cancelled(message):
            self.interrupts.forget(message.call_id)
            cancelled = TaskCancelledError(f"{label} was cancelled while it ran")
            outcome = _with_mark(self.refuse(message, cancelled, label), message)
            return outcome._replace(stopped=True)
        if (trace := self._traced(message)) is not None:
            trace.failed(message, error)
        if isinstance(error, TaskTimeoutError) and not error.args:
            error.args = (f"{label} ran longer than its timeout of {message.timelimit[1]} s",)
        if tracing.current is not None:
            tracing.current.failed(message.call_id, error)
        record = records.failure_record(
            error, message.call_id, self._runtime.sealer, label, self._place,
            self._runtime.holdings,
        )  # fmt: skip
        if reminder := message.options.reminder:  # nobody else hears of it
            logger.error("Unhandled error in %s, by its reminder %r", label, reminder,
                         exc_info=error)  # fmt: skip
        stopped = isinstance(error, TaskTimeoutError)
        return Outcome(answer_to(message, record), remains_of(message), False, stopped, record)

    def refuse(self, message: Message, error: Exception, label: str) -> Outcome:
        """Return the outcome of a call that did not start."""
        if isinstance(error, RayError) and not hasattr(error, "cause"):
            if (trace := self._traced(message)) is not None:
                trace.failed(message, error)
            if tracing.current is not None:
                tracing.current.failed(message.call_id, error)
            record = records.error_record(error, message.call_id)
            answer = answer_to(message, record)
            return Outcome(answer, remains_of(message), False, failure=record)
        return self.fail(message, error, label)

    def _borrow(self, marker: str) -> ObjectRef[Any]:
        """Return the reference that a message names; a plus says that its value was stored."""
        return self._runtime.results.borrow(marker.rstrip("+"), stored=marker.endswith("+"))

    def _arguments(self, message: Message) -> tuple[list[Any], dict[str, Any]]:
        if not message.sealed:
            return message.args, message.kwargs
        values = [*message.args, *message.kwargs.values()]
        for position, value in enumerate(values):
            if is_sealed(value):
                place = ("argument", str(position), self._owner, message.tag.caller,
                         str(message.tag.sequence), message.call_id, message.task)  # fmt: skip
                values[position] = self._runtime.sealer.open(value, place)
            elif _is_ref(value):
                values[position] = self._runtime.value(self._borrow(value["__value__"]))
            elif not message.tag.caller:
                values[position] = self.read_typed(value)
            elif isinstance(value, dict) and "__type__" in value:
                raise DeadLetterError(f"argument {position} is of the unknown type {value!r:.80}")
        count = len(message.args)
        return values[:count], dict(zip(message.kwargs, values[count:], strict=True))


def _with_mark(outcome: Outcome, message: Message) -> Outcome:
    """Return the outcome of a cancelled call: the mark that says so is not needed any more."""
    remains = outcome.remains or Remains()
    mark = routing.cancelled_key(message.call_id)
    return outcome._replace(remains=remains._replace(keys=[*remains.keys, mark]))


def _is_ref(value: Any) -> bool:
    return type(value) is dict and value.get("__type__") == _REF and "__value__" in value


def seconds_until(moment: str) -> float:
    """Return the seconds until a moment in ISO format; 0 where that cannot be read."""
    try:
        when = datetime.fromisoformat(moment)
    except ValueError:
        return 0.0
    return (when.astimezone(UTC) - datetime.now(UTC)).total_seconds()
