"""A RabbitMQ of a test's own, on loopback ports, with an epmd of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
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


@dataclass
class RabbitMQ:
    """A running server."""

    url: str
    folder: Path
    variables: dict[str, str]
    _spare: list[str] = field(default_factory=list)
    _made: int = 0

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl`, which takes seconds; return what it says."""
        done = subprocess.run(
            [f"{_PROGRAMS}/rabbitmqctl", "-q", "-n", self.variables["RABBITMQ_NODENAME"], *words],
            env=self.variables, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def new_host(self) -> str:
        """Return the address of a new virtual host: in each, queues have names of their own."""
        if not self._spare:
            first, self._made = self._made, self._made + _HOSTS
            self._spare = [f"t{number}" for number in range(first, self._made)]
            steps = [_NEW_HOST.replace("NAME", each) for each in self._spare]
            self.control("eval", "".join(steps) + "ok.")
        return f"{self.url.rstrip('/')}/{self._spare.pop(0)}"


#: Virtual hosts that are made in one step.
_HOSTS = 20
_NEW_HOST = (
    'rabbit_vhost:add(<<"NAME">>, <<"tests">>), rabbit_auth_backend_internal:set_permissions('
    '<<"guest">>, <<"NAME">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>), '
)


@contextlib.contextmanager
def rabbitmq(*options: str) -> Iterator[RabbitMQ]:
    """Run a server; the options are Erlang's, such as ``-rabbit consumer_timeout 5000``."""
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
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(
            ["-kernel inet_dist_use_interface {127,0,0,1} +S 1:1", *options]
        ),
    }  # fmt: skip
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [program], env=variables, stdout=output, stderr=output, start_new_session=True
        )
    url = f"amqp://guest:guest@127.0.0.1:{port}//"
    try:
        wait_until(lambda: process.poll() is not None or _answers(url), "RabbitMQ's answer", 90)
        assert process.poll() is None, (folder / "output").read_text()
        yield RabbitMQ(url, folder, variables)
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
