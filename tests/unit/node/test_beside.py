"""The Celery worker beside a node: started again where it ends, told to end step by step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_actors.node import beside
from celery_actors.node.beside import COLD_SECONDS, Beside
from tests.waits import wait_until

#: Says which signals it gets, and ends at the second.
_TOLD = (
    "trap 'echo TERM >> $0' TERM; trap 'echo QUIT >> $0; exit 3' QUIT; echo up >> $0; "
    "while :; do sleep 0.01; done"
)
_DEAF = "trap '' TERM QUIT; echo up > $0; while :; do sleep 0.01; done"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return tmp_path / "words"


@pytest.fixture
def process(words: Path) -> Iterator[Beside]:
    found = Beside(["/bin/sh", "-c", _TOLD, str(words)], os.environ)
    yield found
    found.leave()
    assert not found.runs


def said(words: Path) -> list[str]:
    return words.read_text().split() if words.exists() else []


def test_without_a_command_there_is_no_process() -> None:
    found = Beside([], {})

    found.look()
    found.end(0.0)
    found.leave()

    assert not found.runs


def test_it_is_told_gently_at_first_and_coldly_when_the_patience_is_over(
    process: Beside, words: Path
) -> None:
    process.look()
    wait_until(lambda: said(words) == ["up"], "it runs")

    process.end(-10.0)
    process.end(-5.0)
    wait_until(lambda: said(words) == ["up", "TERM"], "it is told once")
    assert process.runs
    process.end(0.1)

    wait_until(lambda: not process.runs, "it has ended")
    assert said(words) == ["up", "TERM", "QUIT"]


def test_what_does_not_end_is_killed(words: Path) -> None:
    deaf = Beside(["/bin/sh", "-c", _DEAF, str(words)], os.environ)
    deaf.look()
    wait_until(lambda: said(words) == ["up"], "it runs")

    deaf.end(COLD_SECONDS + 1)

    wait_until(lambda: not deaf.runs, "it was killed")


def test_one_that_ends_by_itself_is_started_again_after_a_while(
    words: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    short = Beside(["/bin/sh", "-c", "echo up >> $0; exit 7", str(words)], os.environ)
    short.look()
    wait_until(lambda: not short.runs, "it has ended")
    short.look()
    assert not short.runs, "not at once: it may end again and again"

    monkeypatch.setattr(beside, "AGAIN_SECONDS", 0.0)
    short.look()

    wait_until(lambda: said(words) == ["up", "up"], "it was started again")
    short.leave()
    assert "ended with status 7" in caplog.text
