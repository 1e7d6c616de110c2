"""Stores of other kinds, as real processes: with TLS, and with a replica and sentinels."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.integration.matrix import NAME, free_port, make_certificates, tls_words
from tests.integration.support import Server, new_key, require_redis_server, wait_until


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ca-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def tls_server() -> Iterator[Server]:
    """Run Debian's redis-server with TLS and a password; `ca.pem` is in its folder."""
    with _folder() as folder:
        port, key = free_port(), new_key()
        ca = make_certificates(folder)
        words = [
            *tls_words(folder, port),
            "--save",
            "",
            "--dir",
            str(folder),
            "--requirepass",
            "pw",
        ]
        with subprocess.Popen(
            [require_redis_server(), *words], stdout=subprocess.DEVNULL
        ) as process:
            server = Server(
                process, folder, f"rediss://:pw@localhost:{port}/0?ssl_ca_certs={ca}", key
            )
            try:
                wait_until(lambda: answers(server.url), "an answer of the server")
                yield server
            finally:
                process.kill()


def answers(url: str) -> bool:
    """Tell whether a server answers."""
    with contextlib.closing(redis.Redis.from_url(url, retry=None)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


@dataclass
class Replicated:
    """A primary, a replica and sentinels; what a node or a driver needs to know of them."""

    servers: dict[int, subprocess.Popen[bytes]]  # by port
    sentinels: dict[int, subprocess.Popen[bytes]]
    folder: Path
    url: str
    key: str
    options: str = ""  # of a plain client's address

    environment = Server.environment
    broker = ""  # beside the store there is none

    def at(self, port: int) -> redis.Redis:
        """Return a plain client of one server or sentinel."""
        scheme = "rediss" if self.options else "redis"
        return redis.Redis.from_url(f"{scheme}://127.0.0.1:{port}/0{self.options}")

    def primary(self) -> int:
        """Return the port of the server that the sentinels call primary."""
        for port in self.sentinels:
            with contextlib.closing(self.at(port)) as sentinel:
                found = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
                return int(found[1])
        raise LookupError("no sentinel")

    def client(self) -> redis.Redis:
        """Return a plain client of the present primary."""
        return self.at(self.primary())

    def wait_replicated(self) -> None:
        """Wait until the replica has everything that was written before."""
        with contextlib.closing(self.client()) as client:
            client.incr("test:written")
            assert client.wait(1, 10_000) == 1, "the replica follows"
            client.delete("test:written")
            assert client.wait(1, 10_000) == 1

    def signal(self, port: int, number: signal.Signals) -> None:
        """Send a signal to one server."""
        self.servers[port].send_signal(number)
        if number == signal.SIGKILL:
            self.servers[port].wait()

    def wait_failed_over(self, old: int) -> int:
        """Wait until the sentinels name another primary, and it accepts writes; return its port."""
        new = wait_until(lambda: self.primary() != old and self.primary(), "a failover", 30)
        wait_until(lambda: self.role(new) == "master", "the new primary accepts writes")
        return int(new)

    def follows(self, primary: int) -> bool:
        """Tell whether a replica has caught up with this server."""
        with contextlib.closing(self.at(primary)) as client:
            try:
                about = client.info("replication")
            except redis.RedisError:
                return False
        return "slave0" in about and about["slave0"]["state"] == "online"

    def role(self, port: int) -> str:
        with contextlib.closing(self.at(port)) as client:
            try:
                return str(client.info("replication")["role"])
            except redis.ConnectionError:  # who changes its role closes its connections
                return ""

    def settled(self) -> bool:
        """Tell whether every sentinel knows the replica and the other sentinels."""
        for port in self.sentinels:
            with contextlib.closing(self.at(port)) as sentinel:
                try:
                    (found,) = sentinel.execute_command("SENTINEL", "MASTERS")
                except (redis.RedisError, ValueError):
                    return False
            about = (
                found
                if isinstance(found, dict)
                else dict(zip(found[::2], found[1::2], strict=True))
            )
            about = {_text(name): _text(value) for name, value in about.items()}
            others = len(self.sentinels) - 1
            if (about["num-slaves"], about["num-other-sentinels"]) != ("1", str(others)):
                return False
        return True


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextlib.contextmanager
def replicated(*options: str, tls: bool = False, sentinels: int = 3) -> Iterator[Replicated]:
    """Run a primary, its replica and sentinels, of which most have to agree on a failover."""
    program = require_redis_server()
    with _folder() as folder, contextlib.ExitStack() as stack:
        first, second, *ports = (free_port() for _ in range(2 + sentinels))
        more = f"?ssl_ca_certs={make_certificates(folder)}" if tls else ""

        def start(port: int, *words: str) -> subprocess.Popen[bytes]:
            home = folder / str(port)
            home.mkdir()
            listen = tls_words(folder, port) if tls else ["--port", str(port)]
            with (home / "log").open("wb") as log:
                process = subprocess.Popen(
                    [program, *words, *listen, "--dir", str(home)], stdout=log, stderr=log
                )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        words = ["--save", "", "--appendonly", "yes", "--repl-diskless-sync-delay", "0", *options]
        servers = {first: start(first, *words)}
        servers[second] = start(second, *words, "--replicaof", "127.0.0.1", str(first))
        watching: dict[int, subprocess.Popen[bytes]] = {}
        scheme = "sentinels" if tls else "sentinel"
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        url = f"{scheme}://{hosts}/{NAME}/0{more}"
        found = Replicated(servers, watching, folder, url, new_key(), more)
        # First, or the sentinels would hear of the replica ten seconds later.
        wait_until(lambda: found.follows(first), "the replica follows", 30)
        for port in ports:
            config = folder / f"{port}.conf"
            config.write_text(
                f"sentinel monitor {NAME} 127.0.0.1 {first} {sentinels // 2 + 1}\n"
                f"sentinel down-after-milliseconds {NAME} 1000\n"
                f"sentinel failover-timeout {NAME} 3000\n"
            )
            watching[port] = start(port, str(config), "--sentinel")
        wait_until(found.settled, "the sentinels know the replica and each other", 30)
        yield found
