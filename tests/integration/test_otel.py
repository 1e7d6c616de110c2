"""Spans across real processes: one trace from the driver through actors to the user's own spans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import celery_actors as ca
from celery_actors import otel
from tests.integration.spans import Async, Inner, Plain, Threaded, call, plain, provider_keeping
from tests.integration.support import Cluster, Server, node_on, run_script, running, wait_until

Span = dict[str, Any]


@pytest.fixture(scope="module")
def traced() -> Iterator[Cluster]:
    """A cluster whose workers make spans."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELERY_ACTORS_OTEL", "1")
        with running("valkey", cpus=4) as cluster:
            yield cluster


@pytest.fixture
def ours() -> Iterator[InMemorySpanExporter]:
    """The spans of this process, the driver."""
    exporter = InMemorySpanExporter()
    otel.instrument(provider_keeping(exporter))
    try:
        yield exporter
    finally:
        otel.uninstrument()


@pytest.fixture
def inner(traced: Cluster) -> Iterator[Any]:
    actor = Inner.remote()
    yield actor
    ca.kill(actor)


def driver_span(exporter: InMemorySpanExporter) -> Any:
    tracer = provider_keeping(exporter).get_tracer("user")
    return tracer.start_as_current_span("driver")


def ended(actor: Any, name: str, count: int = 1) -> list[Span]:
    """Return the spans of a name that have ended in an actor's process."""

    def found() -> list[Span]:
        spans = ca.get(actor.spans.remote(), timeout=10)
        return [span for span in spans if span["name"] == name]

    return wait_until(lambda: spans if len(spans := found()) >= count else [], f"a span {name}")


def own(exporter: InMemorySpanExporter, name: str) -> Span:
    (span,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return plain(span)


def assert_chain(*spans: Span) -> None:
    """Assert that each span is the child of the one before it, in one trace."""
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    parents = [span["parent_id"] for span in spans[1:]]
    assert parents == [span["context"]["span_id"] for span in spans[:-1]]


@pytest.mark.parametrize("kind", [Plain, Threaded, Async], ids=["plain", "threaded", "async"])
def test_one_trace_leads_from_the_driver_through_two_actors_to_the_users_own_span(
    kind: Any, ours: InMemorySpanExporter, inner: Any
):
    outer = kind.remote()
    name = f"{kind.__name__}.call"

    with driver_span(ours):
        assert ca.get(outer.call.remote(inner), timeout=30) == "done"

    (ran,), (asked,) = ended(outer, f"run/{name}"), ended(outer, "apply_async/Inner.work")
    (worked,), (user,) = ended(inner, "run/Inner.work"), ended(inner, "own work")
    sent = own(ours, f"apply_async/{name}")
    assert_chain(own(ours, "driver"), sent, ran, asked, worked, user)
    assert [span["kind"] for span in (sent, ran, asked, worked)] == [
        "SpanKind.PRODUCER", "SpanKind.CONSUMER", "SpanKind.PRODUCER", "SpanKind.CONSUMER",
    ]  # fmt: skip
    ca.kill(outer)


def test_spans_carry_the_attributes_of_celery_and_of_messaging(
    ours: InMemorySpanExporter, inner: Any
):
    ref = inner.work.remote()
    ca.get(ref, timeout=10)

    sent = own(ours, "apply_async/Inner.work")["attributes"]
    (ran,) = ended(inner, "run/Inner.work")
    common = {
        "messaging.system": "redis", "messaging.message.id": ref.id,
        "messaging.destination.name": sent["messaging.destination.name"],
        "celery.task_name": "Inner.work",
    }  # fmt: skip
    assert sent == {
        **common, "celery.action": "apply_async", "messaging.operation.name": "apply_async",
        "messaging.operation.type": "send",
    }  # fmt: skip
    size = ran["attributes"].pop("messaging.message.envelope.size")
    actor_id = ran["attributes"].pop("celery_actors.actor_id")
    assert ran["attributes"] == {
        **common, "celery.action": "run", "messaging.operation.name": "run",
        "messaging.operation.type": "process", "celery.state": "SUCCESS",
    }  # fmt: skip
    assert size > 500
    assert actor_id in sent["messaging.destination.name"]


def test_what_a_call_raises_is_in_its_span(ours: InMemorySpanExporter, inner: Any):
    with pytest.raises(ValueError, match="no such luck"):
        ca.get(inner.fail.remote(), timeout=10)

    (span,) = ended(inner, "run/Inner.fail")
    assert span["status"] == {"status_code": "ERROR", "description": "ValueError: no such luck"}
    assert span["attributes"]["celery.state"] == "FAILURE"
    assert span["attributes"]["error.type"] == "ValueError"
    (event,) = span["events"]
    assert event["name"] == "exception"
    assert "raise ValueError" in event["attributes"]["exception.stacktrace"]


@pytest.mark.parametrize("kind", [Plain, Async], ids=["plain", "async"])
def test_the_span_of_a_generator_lasts_until_its_last_value(
    kind: Any, ours: InMemorySpanExporter, inner: Any
):
    outer = kind.remote()
    stream = outer.give.options(num_returns="streaming").remote(inner, 3)
    assert [ca.get(ref, timeout=10) for ref in stream] == ["done"] * 3

    (whole,) = ended(outer, f"run/{kind.__name__}.give")
    asked = ended(outer, "apply_async/Inner.work", 3)
    assert [span["parent_id"] for span in asked] == [whole["context"]["span_id"]] * 3
    assert all(whole["start_time"] < span["start_time"] < whole["end_time"] for span in asked)
    ca.kill(outer)


def test_functions_are_in_the_trace(ours: InMemorySpanExporter, inner: Any):
    with driver_span(ours):
        ran = ca.get(call.remote(inner), timeout=30)

    (worked,) = ended(inner, "run/Inner.work")
    assert_chain(own(ours, "driver"), own(ours, "apply_async/call"), ran)
    assert worked["context"]["trace_id"] == ran["context"]["trace_id"]


def test_a_plain_celery_clients_trace_goes_on(traced: Cluster):
    name = "for-strangers"
    actor = Inner.options(name=name).remote()
    ca.get(actor.spans.remote(), timeout=30)
    there = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced.context.app.send_task(
        "Inner.work", queue=ca.actor_queue(traced.context.namespace, name),
        headers={"traceparent": there, "tracestate": 7},
    )  # fmt: skip

    (span,) = ended(actor, "run/Inner.work")
    assert span["context"]["trace_id"] == f"0x{there[3:35]}"
    assert span["parent_id"] == f"0x{there[36:52]}"
    ca.kill(actor)


def test_without_it_a_driver_makes_no_span_and_no_header(inner: Any):
    exporter = InMemorySpanExporter()
    provider: TracerProvider = provider_keeping(exporter)
    with trace.use_span(provider.get_tracer("user").start_span("driver")):
        assert ca.get(inner.work.remote(), timeout=10) == "done"

    (span,) = ended(inner, "run/Inner.work")
    assert span["parent_id"] is None
    assert exporter.get_finished_spans() == ()


PROGRAM = """
import celery_actors as ca
from opentelemetry import trace

@ca.remote
class Counter:
    def add(self):
        return 1

    def flush(self):
        return trace.get_tracer_provider().force_flush()

ca.init({url!r}, keys={key!r})
counter = Counter.remote()
print(ca.get(counter.add.remote(), timeout=30))
print(ca.get(counter.flush.remote(), timeout=30))
ca.shutdown()
"""


@pytest.mark.debian_redis
def test_the_standard_environment_sets_the_exporter_up(server: Server, tmp_path: Path):
    with node_on(server, "--otel", variables={"OTEL_TRACES_EXPORTER": "console"}):
        run = run_script(tmp_path, PROGRAM.format(url=server.url, key=server.key))

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "1"
    assert '"name": "run/Counter.add"' in run.stdout
