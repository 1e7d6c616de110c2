"""A RabbitMQ of a test's own, on loopback ports, with an epmd of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection

from tests.census import family
from tests.waits import wait_until

_PROGRAMS = "/usr/lib/rabbitmq/bin"


def require_rabbitmq() -> str:
    """Return Debian's server; skip on a laptop that lacks it, fail in CI."""
    found = shutil.which("rabbitmq-server", path=_PROGRAMS)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("rabbitmq-server is missing, and in CI nothing is skipped")
        pytest.skip("rabbitmq-server is not installed")
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def rabbitmq() -> Iterator[str]:
    """Run a server; give its address."""
    program = require_rabbitmq()
    folder = Path(tempfile.mkdtemp(prefix="ca-rabbit-"))
    (folder / "plugins").write_text("[].\n")
    port, distribution, mapper = _free_ports(3)
    variables = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8",
        "RABBITMQ_NODENAME": f"ca{port}@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"), "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "ERL_EPMD_PORT": str(mapper), "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
    }  # fmt: skip
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [program], env=variables, stdout=output, stderr=output, start_new_session=True
        )
    url = f"amqp://guest:guest@127.0.0.1:{port}//"
    try:
        wait_until(lambda: process.poll() is not None or _answers(url), "RabbitMQ's answer", 90)
        assert process.poll() is None, (folder / "output").read_text()
        yield url
    finally:
        below = family(process.pid)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            process.wait()
        # It has put itself into the background: told by its port, which nobody else has.
        subprocess.run(["epmd", "-port", str(mapper), "-kill"], env=variables, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    with Connection(url, connect_timeout=2) as connection:
        try:
            connection.connect()
        except (OSError, *connection.recoverable_connection_errors):
            return False
        return True
