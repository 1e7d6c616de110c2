"""Hosts of a test's own: network namespaces on one bridge, made with Debian's iproute2."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.waits import wait_until


def ip(*words: str) -> str:
    """Run `ip`; return what it says."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def require_rights() -> None:
    """Skip where this process may not make network namespaces; fail in CI where `ip` is missing."""
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    if shutil.which("ip") is None:
        if os.environ.get("CI"):
            pytest.fail("ip is missing (Debian: iproute2), and in CI nothing is skipped")
        pytest.skip("ip is not installed (Debian: iproute2)")
    probe = f"ca-{os.getpid()}-probe"
    done = subprocess.run(
        ["ip", "netns", "add", probe], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"this process may not make network namespaces: {done.stderr.strip()}")
    ip("netns", "delete", probe)


@dataclass(frozen=True)
class Host:
    """A network namespace with an address on the common bridge."""

    namespace: str
    address: str
    port: str  # on the bridge

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | int,
        folder: Path, *, talks: bool = False,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """Start a program on this host; one that ``talks`` has pipes for its words."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *words],
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else output,
            stderr=output, env=dict(environment), cwd=folder,
        )  # fmt: skip

    def cut_off(self, bridge: Host) -> None:
        """Take the cable out at the other end: nothing is refused, nothing arrives."""
        ip("-n", bridge.namespace, "link", "set", self.port, "nomaster")

    def pids(self) -> list[int]:
        """Return the processes of this host."""
        return [int(word) for word in ip("netns", "pids", self.namespace).split()]


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[dict[str, Host]]:
    """Make hosts by their names; the bridge is on the first one. On leaving, all of it is gone."""
    prefix = f"ca-{os.getpid()}-"
    made: dict[str, Host] = {}
    try:
        for number, name in enumerate(names, start=1):
            host = Host(prefix + name, f"10.77.0.{number}", f"to-{name}")
            ip("netns", "add", host.namespace)
            made[name] = host
            ip("-n", host.namespace, "link", "set", "lo", "up")
        first = made[names[0]]
        ip("-n", first.namespace, "link", "add", "bridge", "type", "bridge")
        ip("-n", first.namespace, "address", "add", f"{first.address}/24", "dev", "bridge")
        ip("-n", first.namespace, "link", "set", "bridge", "up")
        for name in names[1:]:
            _connect(made[name], first)
        yield made
    finally:
        for host in made.values():
            for pid in host.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for host in made.values():
            wait_until(lambda host=host: not host.pids(), f"nothing runs in {host.namespace}")
            ip("netns", "delete", host.namespace)


def _connect(host: Host, first: Host) -> None:
    ip(
        "link", "add", "eth0", "netns", host.namespace, "type", "veth", "peer", "name", host.port,
        "netns", first.namespace,
    )  # fmt: skip
    ip("-n", first.namespace, "link", "set", host.port, "master", "bridge", "up")
    ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
    ip("-n", host.namespace, "link", "set", "eth0", "up")
