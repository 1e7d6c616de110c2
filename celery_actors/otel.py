"""Spans for OpenTelemetry: one trace from a caller through an actor to the calls that it makes.

``instrument()`` switches it on in a driver, ``celery_actors worker --otel`` in a node's workers.
Sending a call is a PRODUCER span, running it a CONSUMER span that is current meanwhile. Between
them the trace travels in the message's headers (W3C ``traceparent``), as that of
opentelemetry-instrumentation-celery does; so a plain Celery client's trace goes on here.

Names and ``celery.…`` attributes are those of opentelemetry-instrumentation-celery 0.6x, so that
both look alike in one trace; the others follow the semantic conventions 1.44.0 for messaging.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from . import installation, runtime, tracing
from .messages import Message, headers_of
from .methods import TERMINATE

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError as error:
    raise ImportError(
        "spans need OpenTelemetry's API: pip install 'celery-actors[otel]'", name=error.name
    ) from error

__all__ = ["instrument", "uninstrument"]

logger = logging.getLogger(__name__)

_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_EXPORTERS = "OTEL_TRACES_EXPORTER"


def instrument(tracer_provider: trace.TracerProvider | None = None) -> None:
    """Make spans of the calls that this process sends and runs. Twice is the same as once.

    ``tracer_provider``: None: the global one, which may be set later.
    """
    tracing.current = _Spans(tracer_provider, lambda: None)


def instrument_worker() -> None:
    """Do so in a worker; where nothing else sets up a provider, ``OTEL_TRACES_EXPORTER`` does."""
    tracing.current = _Spans(None, provider_from_environment)


def uninstrument() -> None:
    """Make no spans any more."""
    tracing.current = None


def provider_from_environment() -> None:
    """Set up the SDK as ``OTEL_TRACES_EXPORTER`` says, unless a provider is there already.

    A worker is forked from a process without threads and connections; so exporters are made in it,
    by the user's own hook or here, before its first span. The SDK reads the other ``OTEL_…``
    variables itself. What is missing is told once, and the calls run without spans.
    """
    words = os.environ.get(_EXPORTERS, "").split(",")
    names = [name.strip() for name in words if name.strip() not in ("", "none")]
    if not names or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        for name in names:
            (found,) = metadata.entry_points(group="opentelemetry_traces_exporter", name=name)
            provider.add_span_processor(BatchSpanProcessor(found.load()()))
    except Exception:
        logger.exception(
            "%s=%s cannot be used, and no spans are exported: install opentelemetry-sdk and the "
            "exporter's package", _EXPORTERS, ",".join(names),
        )  # fmt: skip
        return
    trace.set_tracer_provider(provider)


class _Spans:
    """The spans of this process, by call."""

    def __init__(self, provider: trace.TracerProvider | None, prepare: Callable[[], None]) -> None:
        version = installation.version() or None
        self._tracer = trace.get_tracer("celery_actors", version, provider, schema_url=_SCHEMA)
        self._prepare: Callable[[], None] | None = prepare  # before the first span
        self._open: dict[str, tuple[Span, Any]] = {}

    @contextmanager
    def sending(self, task: str, queue: str) -> Iterator[tracing.Sent]:
        """Stand around the sending of one call with a PRODUCER span."""
        about = {**_common(task, "apply_async"), "messaging.operation.type": "send",
                 "messaging.destination.name": queue}  # fmt: skip
        with self._tracer.start_as_current_span(
            f"apply_async/{task}", kind=SpanKind.PRODUCER, attributes=about
        ) as span:

            def sent(call_id: str) -> Mapping[str, str]:
                span.set_attribute("messaging.message.id", call_id)
                headers: dict[str, str] = {}
                propagate.inject(headers)
                return headers

            yield sent

    def begin(self, message: Message, label: str) -> None:
        """Begin a CONSUMER span, and make it current."""
        if message.method == TERMINATE and not message.tag.caller:
            return  # nobody called: the last handle to the actor has gone
        try:
            if self._prepare is not None:
                prepare, self._prepare = self._prepare, None
                prepare()
            around = propagate.extract(headers_of(message.raw))
            span = self._tracer.start_span(
                f"run/{label}", around, SpanKind.CONSUMER,
                {**_common(label, "run"), **_of_worker(), **_of_message(message)},
            )  # fmt: skip
            token = context.attach(trace.set_span_in_context(span, around))
        except Exception:
            logger.exception("no span of %s", label)
            return
        self._open[message.call_id] = span, token

    def failed(self, call_id: str, error: BaseException) -> None:
        """Record what the call raised."""
        found = self._open.get(call_id)
        if found is None or not found[0].is_recording():
            return
        try:
            span = found[0]
            span.record_exception(error)
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        except Exception:
            logger.exception("the span of %s does not show its error", call_id)

    def end(self, call_id: str, *, succeeded: bool) -> None:
        """End the span of a call."""
        found = self._open.pop(call_id, None)
        if found is None:
            return
        span, token = found
        try:
            context.detach(token)
            span.set_attribute("celery.state", "SUCCESS" if succeeded else "FAILURE")
            span.end()
        except Exception:
            logger.exception("the span of %s is lost", call_id)

    def close(self) -> None:
        """End the spans of calls that end with the process."""
        for span, _token in list(self._open.values()):
            span.end()
        self._open.clear()


def _common(task: str, action: str) -> dict[str, str]:
    return {
        "messaging.system": "redis", "messaging.operation.name": action,
        "celery.action": action, "celery.task_name": task,
    }  # fmt: skip


def _of_message(message: Message) -> dict[str, str | int]:
    about: dict[str, str | int] = {
        "messaging.operation.type": "process", "messaging.message.id": message.call_id,
        "messaging.message.envelope.size": len(message.raw),
    }  # fmt: skip
    if message.retries:
        about["celery.retries"] = message.retries
    return about


def _of_worker() -> dict[str, str]:
    here = runtime.current()
    facts = here.worker
    about = {"messaging.destination.name": here.calls.self_queue}
    if facts is not None and facts.actor_id:
        about["celery_actors.actor_id"] = facts.actor_id
    return about
