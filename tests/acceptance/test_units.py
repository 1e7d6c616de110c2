"""`deploy/systemd`: the units, as far as can be told where systemd does not run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.deployment import DEPLOY, words_of_units

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
#: How exposed systemd may find a unit, of 10. A node runs its users' code, on their GPUs.
EXPOSED = {"celery-actors-worker.service": 4.0}


@pytest.fixture
def analyze() -> str:
    """The program; skips on a laptop that lacks it, fails in CI."""
    found = shutil.which("systemd-analyze")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(
                "systemd-analyze is missing (Debian: systemd), and in CI nothing is skipped"
            )
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    return found


@pytest.fixture
def units(tmp_path: Path) -> dict[str, Path]:
    """The units with programs that are there: systemd looks for them."""
    found = {}
    for unit in UNITS:
        text = re.sub(
            r"/(opt/celery-actors/bin|usr/bin)/[a-z_-]+", sys.executable, unit.read_text()
        )
        found[unit.name] = tmp_path / unit.name
        found[unit.name].write_text(text)
    return found


def test_systemd_reads_every_unit_without_a_complaint(analyze: str, units: dict[str, Path]):
    done = subprocess.run(
        [analyze, "verify", "--man=no", *units.values()],
        check=False, capture_output=True, text=True,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_none_of_them_exposed(analyze: str, units: dict[str, Path]):
    for name, path in units.items():
        done = subprocess.run(
            [analyze, "security", "--offline=yes", "--no-pager", path],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
        assert level, done.stdout
        assert float(level[1]) <= EXPOSED.get(name, 1.5), name


def test_a_node_that_is_stopped_is_drained_before_systemd_kills_it():
    text = (DEPLOY / "systemd" / "celery-actors-worker.service").read_text()
    words = words_of_units()["celery-actors-worker.service ExecStop"]

    drains = float(words[words.index("--timeout") + 1])
    (stop,) = re.findall(r"^TimeoutStopSec=([0-9]+)$", text, flags=re.MULTILINE)
    assert words[1:3] == ["drain", "%H"]
    assert float(stop) > drains + 60, "`drain` itself, and the 30 s of SIGTERM after it"
    assert "KillMode=mixed" in text


def test_no_secret_is_in_a_command_line():
    for name, words in words_of_units().items():
        assert not [word for word in words if "://" in word or "KEYS" in word], name
