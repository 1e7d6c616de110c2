"""The Celery worker beside a node: started with it, started again where it ends, ended with it."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

__all__ = ["Beside"]

logger = logging.getLogger(__name__)

#: Seconds between two starts of one that ends by itself.
AGAIN_SECONDS = 5.0
#: Seconds for a cold shutdown, before it is killed.
COLD_SECONDS = 5.0


class Beside:
    """One process of Celery's; without a command there is none.

    Args:
        command: its command line.
        environ: its variables.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = command
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._started = -AGAIN_SECONDS
        self._told: signal.Signals | None = None

    def look(self) -> None:
        """Start it, or start it again."""
        if not self._command or self.runs or time.monotonic() - self._started < AGAIN_SECONDS:
            return
        if self._process is not None:
            logger.error(
                "the Celery worker for -Q ended with status %s; it is started again",
                self._process.returncode,
            )
        self._started = time.monotonic()
        # A session of its own: Ctrl-C is for the node, which tells it once.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, env=self._environ, start_new_session=True
        )

    @property
    def runs(self) -> bool:
        """True while its process runs."""
        return self._process is not None and self._process.poll() is None

    def end(self, over: float) -> None:
        """Tell it to end; ``over``: seconds since the node's patience with it was used up.

        At first it finishes what it runs, then it gives that back as far as Celery does.
        """
        due = signal.SIGTERM
        if over >= 0:
            due = signal.SIGQUIT if over < COLD_SECONDS else signal.SIGKILL
        if self._process is not None and due != self._told:
            self._told = due
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(due)

    def leave(self) -> None:
        """See to it that nothing of it is left."""
        if self._process is not None and self.runs:
            self.end(0.0)
            try:
                self._process.wait(COLD_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
