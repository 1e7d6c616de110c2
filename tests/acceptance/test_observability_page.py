"""What docs/observability.md says is so."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from celery_actors.cli import actors
from tests.integration.support import ROOT, run_script

PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_its_program_makes_one_trace_in_the_driver_and_in_the_worker(tmp_path: Path):
    (program,) = blocks("python")
    on = {
        **os.environ, "CELERY_ACTORS_OTEL": "1", "OTEL_TRACES_EXPORTER": "console",
        "OTEL_BSP_SCHEDULE_DELAY": "1",
    }  # fmt: skip

    run = run_script(tmp_path, program, on)

    assert run.returncode == 0, run.stderr
    assert "Hello, you" in run.stdout
    for name in ("page", "apply_async/Greeter.greet", "think"):
        assert f'"name": "{name}"' in run.stdout
    (trace_id,) = set(re.findall(r'"trace_id": "(\w+)"', run.stdout))
    assert int(trace_id, 16)


def test_its_commands_have_the_options_that_it_names():
    for line in "".join(blocks("sh")).splitlines():
        _program, command, *words = shlex.split(line, comments=True)
        said = CliRunner().invoke(actors, [command, "--help"]).output
        for option in [word for word in words if word.startswith("-")]:
            assert re.search(rf"{option}\b", said), option
    said = CliRunner().invoke(actors, ["worker", "--help"]).output
    for option in ("--otel", "--metrics-host", "--log-format", "--preload", "-E", "-Q"):
        assert f"`{option}" in PAGE or f" {option}" in PAGE
        assert option in said
