"""The command line inside the test's own process: quick enough to try every command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner, Result

from celery_actors.cli import actors

_NONE: Mapping[str, str] = {}


def command(*words: str, environment: Mapping[str, str] = _NONE) -> Result:
    """Run a command to its end; a bug in it is raised here."""
    run = CliRunner().invoke(actors, words, prog_name="celery_actors", env=dict(environment))
    if run.exception is not None and not isinstance(run.exception, SystemExit):
        raise run.exception
    return run


def as_json(address: str, *words: str) -> Any:
    """Return what a command says with ``--json``."""
    run = command(*words, "--address", address, "--json")
    assert run.exit_code == 0, run.stderr
    return json.loads(run.stdout)
