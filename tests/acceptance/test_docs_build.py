"""The documentation builds without a warning, and its reference leaves out nothing public."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import celery_actors as ca
from celery_actors import exceptions, testing, util
from celery_actors.cli import actors
from tests.integration.support import ROOT

#: Public names that stand for others: Ray has modules of these names.
ALIASES = {"cloudpickle", "exceptions", "experimental", "remote_function", "util"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html",
             "-d", str(folder / "doctrees"), str(ROOT / "docs"), str(folder / "html")]  # fmt: skip
    run = subprocess.run(
        words, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    return folder / "html"


def test_the_reference_describes_every_public_name(site: Path):
    described = _described(site)

    names = {f"celery_actors.{name}" for name in ca.__all__ if name not in ALIASES}
    names |= {f"celery_actors.testing.{name}" for name in testing.__all__}
    for module in (exceptions, util):
        names |= {f"{module.__name__}.{name}" for name in module.__all__}
    again = {name for name in names if _is_described_elsewhere(name, described)}
    assert names - described - again == set()


def _is_described_elsewhere(name: str, described: set[str]) -> bool:
    """Tell whether the same thing is described under another of its names."""
    last = name.rpartition(".")[2]
    return bool({f"celery_actors.{last}", f"celery_actors.exceptions.{last}"} & described)


def _described(site: Path) -> set[str]:
    head, body = (site / "objects.inv").read_bytes().split(b"compressed using zlib.\n")
    assert b"celery_actors" in head
    lines = zlib.decompress(body).decode().splitlines()
    return {line.split()[0] for line in lines if " py:" in line and ":module " not in line}


def test_the_page_of_the_command_line_has_every_command_and_option(site: Path):
    page = html.unescape((site / "reference" / "command-line.html").read_text(encoding="utf-8"))
    found = list(_commands(actors, click.Context(actors, info_name="celery_actors")))

    assert len(found) > 10
    for path, command in found:
        assert f"<h2>{path}<" in page
        options = [option for param in command.params for option in param.opts
                   if option.startswith("-") and not getattr(param, "hidden", False)]  # fmt: skip
        assert [option for option in options if option not in page] == []


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, context, info_name=name)
        if not command.hidden:
            yield inner.command_path, command
        if isinstance(command, click.Group):
            yield from _commands(command, inner)


def test_every_page_can_be_reached_from_the_first(site: Path):
    first = (site / "index.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'href="([^"#]+\.html)', first))

    pages = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    own = {"genindex.html", "search.html", "py-modindex.html", "index.html"}
    assert pages - own - linked == set()
