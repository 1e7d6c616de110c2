"""The file that holds a node's process id."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from celery_actors.cli.pidfile import pidfile
from celery_actors.errors import ConfigurationError


def test_it_holds_the_pid_and_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "node.pid"

    with pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"

    assert not path.exists()


@pytest.mark.parametrize("left", ["", "no number", "{ended}"])
def test_what_an_ended_process_has_left_is_replaced(tmp_path: Path, left: str) -> None:
    path = tmp_path / "node.pid"
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    path.write_text(left.format(ended=ended.pid))

    with pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_that_of_a_process_that_runs_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "node.pid"
    path.write_text(f"{os.getppid()}\n")

    refused = pytest.raises(ConfigurationError, match=rf"names process {os.getppid()}, which runs")
    with refused, pidfile(str(path)):
        pytest.fail("it was not refused")

    assert path.read_text() == f"{os.getppid()}\n"


def test_one_that_somebody_else_has_taken_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "node.pid"

    with pidfile(str(path)):
        path.write_text("1\n")

    assert path.read_text() == "1\n"


def test_a_folder_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigurationError, match="cannot be written: No such file")
    with refused, pidfile(str(tmp_path / "none" / "node.pid")):
        pytest.fail("it was not refused")
