"""The command as people run it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.integration.support import ROOT


def plain_environment() -> dict[str, str]:
    """Return the environment of somebody who has set nothing of this package."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("CELERY_ACTORS_")}
    return {**given, "PYTHONPATH": str(ROOT)}


def run_cli(
    *words: str, environment: Mapping[str, str] | None = None, seconds: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "celery_actors", *words],
        capture_output=True, text=True, timeout=seconds, check=False,
        env={**plain_environment(), **(environment or {})},
    )  # fmt: skip
