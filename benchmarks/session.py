"""One driver process, from its start to the end of everything that it started."""

import contextlib
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parent.parent
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 60


class SessionError(Exception):
    """Raised when a driver does not start, does not answer, or ends early."""


class Session:
    """A `with` block in which one system is up and answers requests for measures.

    Args:
        python: The interpreter of the system's environment.
        driver: The driver's module in `benchmarks.drivers`.
        arguments: Command-line arguments of the driver.
        log: Takes what the driver and its system write to standard error.
    """

    def __init__(self, python: Path, driver: str, arguments: tuple[str, ...], log: TextIO) -> None:
        self.command = [str(python), "-m", f"benchmarks.drivers.{driver}", *arguments]
        self.log = log
        self.greeting: dict[str, Any] = {}

    def __enter__(self) -> "Session":
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        try:
            self.greeting = self.reply(START_TIMEOUT_SECONDS)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT_SECONDS)
        self.kill()

    def ask(self, request: dict[str, object], timeout: float) -> dict[str, Any]:
        """Send one request and return the driver's reply.

        Raises:
            SessionError: The driver ended, or did not answer in time.
        """
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise SessionError("the driver has ended") from error
        return self.reply(timeout)

    def reply(self, timeout: float) -> dict[str, Any]:
        """Read one line; a driver sends no more than one per request, so none waits in a buffer."""
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            raise SessionError(f"no answer within {timeout:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise SessionError("the driver has ended")
        return json.loads(line)

    def kill(self) -> None:
        """End what is left of the driver, its children and its process group."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def descendants(ancestor: int) -> list[int]:
    """Return the ids of the living processes that this one started, directly or not."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The command's name, in brackets, may itself hold blanks and brackets.
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found = list(children.get(ancestor, ()))
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, ()))
    return found
