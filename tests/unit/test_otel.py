"""Where a worker's spans go, by the standard environment."""

from __future__ import annotations

import pytest
from opentelemetry import trace

from celery_actors.otel import provider_from_environment


@pytest.mark.parametrize("words", ["", "none", " none , "])
def test_without_an_exporter_there_is_no_provider(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", words)

    provider_from_environment()

    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_an_exporter_that_is_not_installed_is_told_and_calls_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console,carrier-pigeon")

    provider_from_environment()

    (record,) = caplog.records
    assert "OTEL_TRACES_EXPORTER=console,carrier-pigeon cannot be used" in record.getMessage()
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
