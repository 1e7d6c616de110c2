"""Actors that make spans, and tell which."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import celery_actors as ca

#: What the spans of this process came to, in a worker that ``keep_spans`` has set up.
kept = InMemorySpanExporter()


def provider_keeping(exporter: InMemorySpanExporter) -> TracerProvider:
    """Return a provider whose spans come to an exporter as soon as they end."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def keep_spans() -> None:
    """Set up a worker: the user's hook."""
    trace.set_tracer_provider(provider_keeping(kept))


def plain(span: ReadableSpan) -> dict[str, Any]:
    """Return a span as plain values."""
    found: dict[str, Any] = json.loads(span.to_json())
    return found


HOOK = {"worker_process_setup_hook": keep_spans}


class Reporting:
    """Returns the spans that have ended in its process."""

    def spans(self) -> list[dict[str, Any]]:
        return [plain(span) for span in kept.get_finished_spans()]


@ca.remote(runtime_env=HOOK)
class Inner(Reporting):
    def work(self) -> str:
        with trace.get_tracer("user").start_as_current_span("own work"):
            return "done"

    def fail(self) -> None:
        raise ValueError("no such luck")


@ca.remote(runtime_env=HOOK)
class Plain(Reporting):
    def call(self, inner: Any) -> str:
        return str(ca.get(inner.work.remote()))

    def give(self, inner: Any, count: int) -> Iterator[str]:
        for _ in range(count):
            yield str(ca.get(inner.work.remote()))


@ca.remote(runtime_env=HOOK, max_concurrency=4)
class Threaded(Reporting):
    def call(self, inner: Any) -> str:
        return str(ca.get(inner.work.remote()))


@ca.remote(runtime_env=HOOK)
class Async(Reporting):
    async def call(self, inner: Any) -> str:
        return str(await inner.work.remote())

    async def give(self, inner: Any, count: int) -> AsyncIterator[str]:
        for _ in range(count):
            yield str(await inner.work.remote())

    async def spans(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return super().spans()


@ca.remote(runtime_env=HOOK)
def call(inner: Any) -> dict[str, Any]:
    """Call an actor; return this call's own span, which has not ended yet."""
    ca.get(inner.work.remote())
    span = trace.get_current_span()
    assert isinstance(span, ReadableSpan)
    return plain(span)
