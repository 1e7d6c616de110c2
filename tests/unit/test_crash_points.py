from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from celery_actors.crash_points import POINTS, VARIABLE, install
from celery_actors.errors import ConfigurationError


def place(point: str) -> Any:
    module, _, path = POINTS[point].partition(":")
    found: Any = importlib.import_module(f"celery_actors.{module}")
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("point", POINTS)
def test_every_point_is_a_place_in_the_package_and_untouched(
    point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    before = place(point)

    install()

    assert callable(before)
    assert place(point) is before
    assert not hasattr(before, "__wrapped__")


@pytest.mark.parametrize(
    "text", ["send", "send:before", "send:before:x", "send:during:1", "nowhere:before:1"]
)
def test_what_names_no_place_is_refused_with_the_names(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigurationError, match=f"{text} names no place.*settle-aside"):
        install()


PROGRAM = """
from celery_actors import crash_points, registry

def say(word):
    print(word, flush=True)

crash_points.POINTS["here"] = "registry:say"
registry.say = say
crash_points.install()
for number in range(4):
    registry.say(number)
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("here:before:3", "0 1"),
        ("here:after:3", "0 1 2"),
        ("here:after:3:{once},here:before:2:{once}", "0"),
        ("here:before:9", "0 1 2 3"),
    ],
)
def test_a_process_kills_itself_at_the_given_passing(words: str, said: str, tmp_path: Path) -> None:
    environment = {VARIABLE: words.format(once=tmp_path / "once")}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True,
        check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip

    assert found.stdout.split() == said.split(), found.stderr
    assert found.returncode == (0 if said.endswith("3") else -signal.SIGKILL)


def test_each_process_name_crashes_at_a_point_once_where_a_path_is_given(tmp_path: Path) -> None:
    environment = {VARIABLE: f"here:before:2:{tmp_path / 'once'}"}
    for status in (-signal.SIGKILL, 0):
        command = [sys.executable, "-c", PROGRAM]
        found = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert found.returncode == status, found.stderr
    assert [path.name.startswith("once-python") for path in tmp_path.iterdir()] == [True]
