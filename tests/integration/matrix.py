"""What serves the clusters of the tests: ``CELERY_ACTORS_TEST_STORE=tls pytest …``.

``redis`` and ``valkey``: that server, and a node beside it. ``tls``: Redis, which speaks TLS to
nodes and drivers. ``sentinel``: Redis, found by asking a sentinel. ``rabbitmq``: Redis for actors
and results, and an app of the user's whose broker is RabbitMQ, which the node (``-A``) and the
drivers (``init(app=…)``) share. Not set: the embedded Valkey, and Debian's Redis on a Unix socket.

Tests look and harm through the server's Unix socket, whatever serves the cluster.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from celery_actors.address import Address
from celery_actors.broker.app import close_app
from tests.integration.rabbitmq import RabbitMQ
from tests.waits import wait_until

KINDS = ("redis", "valkey", "tls", "sentinel", "rabbitmq")
#: What serves every cluster of the tests; '' where each test has the one that it asks for.
KIND = os.environ.get("CELERY_ACTORS_TEST_STORE", "")
if KIND and KIND not in KINDS:
    raise ValueError(f"CELERY_ACTORS_TEST_STORE must be one of {', '.join(KINDS)}, got {KIND!r}")

#: Kinds whose servers have no users of `deploy/users.acl`, whatever the run says.
NAMELESS = ("tls", "sentinel")
#: What the sentinels call the primary.
NAME = "prime"
#: The app of the node.
PROJECT = "tests.integration.projects.matrix"
#: The broker of this test run, started before its first test.
broker: RabbitMQ | None = None
#: Servers that were started as `KIND` says, and those of them that run.
begun = live = 0
#: The apps of this process's drivers: their connections are closed after the last test.
apps: list[Any] = []


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificates(folder: Path) -> Path:
    """Make an authority and a certificate for this machine, with `openssl`; return the former's."""
    ca, ca_key, asked = folder / "ca.pem", folder / "ca.key", folder / "server.csr"
    names = folder / "names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for words in (
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority",
         "-keyout", ca_key, "-out", ca],
        ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server",
         "-keyout", folder / "server.key", "-out", asked],
        ["x509", "-req", "-in", asked, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
         "-extfile", names, "-out", folder / "server.pem"],
    ):  # fmt: skip
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    return ca


def tls_words(folder: Path, port: int) -> list[str]:
    """Return the options of a server, or of a sentinel, that speaks TLS alone."""
    return [
        "--port", "0", "--tls-port", str(port), "--tls-cert-file", str(folder / "server.pem"),
        "--tls-key-file", str(folder / "server.key"), "--tls-ca-cert-file", str(folder / "ca.pem"),
        "--tls-auth-clients", "no", "--tls-replication", "yes",
    ]  # fmt: skip


@functools.cache
def certificates() -> Path:
    """Return the folder of this run's certificates."""
    folder = Path(tempfile.mkdtemp(prefix="ca-tls-"))
    make_certificates(folder)
    return folder


def celery_settings(url: str, broker_url: str = "") -> dict[str, Any]:
    """Return how a Celery project says the address of a store, as broker and for results.

    What stands before its keys is said in the options. Another broker takes the former's place.
    """
    address = Address.parse(url)
    at = address.celery_url.partition("?")[0]
    options = {"global_keyprefix": address.prefix} if address.prefix else {}
    found: dict[str, Any] = {}
    if address.service:
        at = url.removesuffix(f"/{NAME}/0") + "/0"
        options |= {"master_name": NAME}
    elif address.is_encrypted:
        tls = {**address.tls_options, "ssl_cert_reqs": "required"}
        found = {"broker_use_ssl": tls, "redis_backend_use_ssl": tls}
    return {
        "broker_url": broker_url or at, "result_backend": at,
        "broker_transport_options": {} if broker_url else options,
        "result_backend_transport_options": options, **found,
    }  # fmt: skip


class Face:
    """How one server is reached as `KIND` says."""

    def __init__(self, program: str, folder: Path, kind: str = KIND) -> None:
        self._program = program
        self._folder = folder
        self._kind = kind
        self._port = free_port() if kind in ("tls", "sentinel") else 0
        #: The address of a broker beside the store; '' where that is the store.
        self.broker = ""

    def words(self) -> list[str]:
        """Return the options of the server."""
        if self._kind == "tls":
            return tls_words(certificates(), self._port)
        return ["--port", str(self._port)]

    @contextlib.contextmanager
    def url(self, plain: str) -> Iterator[str]:
        """Give the address for nodes and drivers, of a server that answers."""
        global begun, live  # noqa: PLW0603 - of this test run
        begun, live = begun + (self._kind == KIND), live + (self._kind == KIND)
        try:
            if self._kind == "tls":
                yield f"rediss://localhost:{self._port}/0?ssl_ca_certs={certificates() / 'ca.pem'}"
            elif self._kind == "sentinel":
                with self._sentinel() as port:
                    yield f"sentinel://127.0.0.1:{port}/{NAME}/0"
            else:
                if self._kind == "rabbitmq":
                    assert broker is not None, "tests/integration/conftest.py starts it"
                    self.broker = broker.new_host()
                yield plain
        finally:
            live -= self._kind == KIND

    @contextlib.contextmanager
    def _sentinel(self) -> Iterator[int]:
        port, home = free_port(), self._folder / "sentinel"
        home.mkdir()
        config = home / "config"
        config.write_text(f"sentinel monitor {NAME} 127.0.0.1 {self._port} 1\n")
        with subprocess.Popen(
            [self._program, str(config), "--sentinel", "--port", str(port), "--dir", str(home)],
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                wait_until(lambda: _knows(port), "the sentinel knows the primary")
                yield port
            finally:
                process.kill()
        shutil.rmtree(home)


def _knows(port: int) -> bool:
    with contextlib.closing(redis.Redis(port=port, retry=None)) as client:
        try:
            return bool(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME))
        except redis.RedisError:
            return False


def settings_of(broker_url: str, store_url: str, **more: Any) -> dict[str, Any]:
    """Return the settings of the user's app, whose broker is not its store."""
    return {**celery_settings(store_url, broker_url),
            "broker_connection_retry_on_startup": True, **more}  # fmt: skip


def make_app(settings: dict[str, Any]) -> Any:
    """Return the app as a driver has it."""
    app = Celery("matrix", set_as_current=False)
    app.conf.update(settings)
    apps.append(app)
    return app


def variables_of(settings: dict[str, Any]) -> dict[str, str]:
    """Return by what a node is told them: see `PROJECT`."""
    return {"MATRIX_SETTINGS": json.dumps(settings)}


def close(app: Any) -> None:
    """Close what an app of `make_app` keeps open."""
    apps.remove(app)
    close_app(app)
