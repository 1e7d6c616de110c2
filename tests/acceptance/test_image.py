"""`deploy/Dockerfile`, as far as can be told without a container engine."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.acceptance.deployment import instructions
from tests.integration.support import ROOT

PINNED = ["base", "build", "examples", "flower", "metrics"]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage; those of the stage that it is made from come first."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for word, rest in instructions():
        if word == "FROM":
            parent, name = rest.split(" AS ")
            found[name] = list(found.get(parent, []))
        elif name:
            found[name].append((word, rest))
    return found


def copied() -> list[str]:
    """Return what the image takes out of this repository."""
    sources: list[str] = []
    for word, rest in instructions():
        assert word != "ADD", "COPY takes nothing from the network and unpacks nothing"
        if word == "COPY" and not rest.startswith("--from="):
            *given, _ = rest.split()
            sources += given
    return sources


def test_what_runs_is_not_root_and_brings_no_compiler():
    for name in ("node", "flower"):
        stage = stages()[name]
        words = dict(stage)
        assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", words["USER"])
        assert words["HEALTHCHECK"]
        assert words["CMD"].startswith('["celery_actors", ')
        for word, rest in stage:
            assert "pip install" not in rest, "the environment comes from the stage that builds"
            assert not re.search(r"\b(gcc|build-essential|python3-dev)\b", rest)
            assert not re.search(r"(PASSWORD|SECRET|KEYS|TOKEN)\s*=", rest), word


def test_what_it_copies_is_there_and_gets_past_the_ignore_file():
    kept = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for source in copied():
        assert (ROOT / source).exists(), source
        assert any(
            fnmatch.fnmatch(source, word) or source.startswith(f"{word}/") for word in kept
        ), source


@pytest.mark.parametrize("name", PINNED)
def test_every_pin_has_a_hash(name: str):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    pins = re.split(r"\n(?=[a-z])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE))

    assert all("==" in pin and "--hash=sha256:" in pin for pin in pins if pin.strip())


def test_what_is_in_two_files_has_one_version():
    versions: dict[str, set[str]] = {}
    for name in ("base", "flower", "metrics"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        for package, version in re.findall(r"^([a-z0-9-]+)==([^ ]+)", text, flags=re.MULTILINE):
            versions.setdefault(package, set()).add(version)

    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def run_quietly(words: list[str | Path]) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_built_from_what_is_copied_has_everything(tmp_path: Path):
    sources, wheels, place = (tmp_path / name for name in ("src", "wheels", "venv"))
    for source in copied():
        target = sources / source
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, target)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run_quietly([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, sources])
    run_quietly([sys.executable, "-m", "venv", "--without-pip", place])
    python = place / "bin" / "python"
    run_quietly(
        [*pip, "--python", python, "install", "--no-deps", "--no-index", *wheels.glob("*.whl")]
    )
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))

    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    program = (
        "import celery_actors, celery_actors_pytest\n"
        "from celery_actors.store.sources import SOURCES\n"
        "print(celery_actors.__file__, len(SOURCES))"
    )
    said = subprocess.run(
        [python, "-c", program], check=True, capture_output=True, text=True, env=environment,
        cwd=tmp_path,
    ).stdout  # fmt: skip
    where, number = said.split()
    assert where.startswith(str(packages))
    assert int(number) > 40
    listed = subprocess.run(
        [place / "bin" / "celery_actors", "--help"], check=True, capture_output=True, text=True,
        env=environment, cwd=tmp_path,
    ).stdout  # fmt: skip
    assert "load-scripts" in listed
