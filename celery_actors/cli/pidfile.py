"""The file that holds a node's process id."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from ..errors import ConfigurationError

__all__ = ["pidfile"]


@contextlib.contextmanager
def pidfile(path: str) -> Iterator[None]:
    """Hold a file with this process's id around a block; one of a process that is gone is replaced.

    Raises:
        ConfigurationError: it names a process that runs, or cannot be written.
    """
    file = Path(path)
    pid = os.getpid()
    try:
        text = file.read_text().strip() if file.exists() else ""
        if text.isdigit() and int(text) != pid and psutil.pid_exists(int(text)):
            raise ConfigurationError(
                f"--pidfile {path} names process {text}, which runs: stop it, or remove the file "
                "if that is something else"
            )
        file.unlink(missing_ok=True)
        with file.open("x") as fresh:  # of two that start at once one is told
            fresh.write(f"{pid}\n")
    except OSError as error:
        raise ConfigurationError(f"--pidfile {path} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            if int(file.read_text()) == pid:
                file.unlink()
