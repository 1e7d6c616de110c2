"""A Celery worker of the user's own app, started beside a node for queues that are not ours.

It is Celery's own in every respect: retries, chains, `eta`, acknowledgement are as everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["celery_command"]

#: Runs Celery's command and, on Linux, has it end at once where its node is killed: SIGQUIT is its
#: cold shutdown. Not a module of ours: that would import the whole package.
_START = """
import ctypes, os, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGQUIT), 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
sys.argv[0] = "celery"
from celery.__main__ import main
sys.exit(main())
"""


def celery_command(
    app: str, queues: Sequence[str], *, parent: int, host: str, level: str,
    concurrency: int | None, task_events: bool,
) -> list[str]:  # fmt: skip
    """Return the command line of a Celery worker that consumes these queues of an app."""
    return [
        sys.executable, "-c", _START, str(parent), "-A", app, "worker", "-Q", ",".join(queues),
        "-n", f"tasks@{host}", "-l", level,
        *(["--concurrency", str(concurrency)] if concurrency is not None else []),
        *(["-E"] if task_events else []),
    ]  # fmt: skip
