"""One virtual environment per peer, so that no two systems have to agree on versions."""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.systems import System

FOLDER = Path(__file__).parent / ".envs"
INSTALL_TIMEOUT_SECONDS = 900


class InstallError(Exception):
    """Raised when a peer's packages cannot be installed here."""


def interpreter(system: System) -> Path:
    """Return the Python that runs this system's driver, after installing what it needs.

    Raises:
        InstallError: An index lacks a package, or there is no wheel for this Python.
    """
    if not system.requirements:
        return Path(sys.executable)
    folder = FOLDER / (system.environment or system.name)
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    wanted = "\n".join((sys.version, *system.requirements))
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"installing {' '.join(system.requirements)}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        for command in commands(folder, python, system.requirements):
            execute(command)
        stamp.write_text(wanted)
    return python


def commands(folder: Path, python: Path, packages: tuple[str, ...]) -> list[list[str]]:
    """Return the commands that make an environment: uv's where uv is at hand, else pip's."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        return [
            [uv, "venv", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--python", str(python), *packages],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", *packages],
    ]


def execute(command: list[str]) -> None:
    """Run one command of an installation.

    Raises:
        InstallError: It failed; the message is the last line that it wrote.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(str(error)) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise InstallError(lines[-1].strip())
