"""What anybody may say on a node's channel is read with care."""

from __future__ import annotations

import logging

import pytest

from celery_actors import routing
from celery_actors.node.words import cancellation, drain_seconds


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("600", 600.0), ("1.5", 1.5)])
def test_a_request_to_drain_carries_the_patience(text: str, seconds: float) -> None:
    assert drain_seconds(f"{routing.DRAIN}{text}".encode()) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "1e999", "\xff"])
def test_another_patience_is_refused_and_logged(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert drain_seconds(f"{routing.DRAIN}{text}".encode("latin-1")) is None
    assert "not what belongs there" in caplog.text


@pytest.mark.parametrize("word", [b"{", b"{}", b'{"queues": 1}', b'{"queues": ["\xff"]}', b"\xff"])
def test_what_is_no_cancellation_is_logged(word: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert cancellation(word) is None
    assert "not what belongs there" in caplog.text


def test_a_cancellation_is_read() -> None:
    word = cancellation(
        b'{"queues": ["q"], "cancel": "id", "force": true, "recursive": false, "channel": "c"}'
    )
    assert word is not None
    assert (word.queues, word.cancel, word.force) == (["q"], "id", True)
