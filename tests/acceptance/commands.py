"""The command as people run it: in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

from tests.integration.support import ROOT


def run_cli(
    *words: str, environment: Mapping[str, str] | None = None, seconds: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("CELERY_ACTORS_")}
    return subprocess.run(
        [sys.executable, "-m", "celery_actors", *words],
        capture_output=True, text=True, timeout=seconds, check=False,
        env={**given, "PYTHONPATH": str(ROOT), **(environment or {})},
    )  # fmt: skip


def closed_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
