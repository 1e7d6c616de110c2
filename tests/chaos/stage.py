"""What a chaos run is made of: one store on an append-only file, nodes, callers, all processes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import redis

from tests.integration.support import ROOT, is_alive, wait_until

from .caller import Orders
from .network import Network

__all__ = ["Caller", "Node", "Stage", "StoreServer", "stage"]

#: The store's port: the bridge is the run's own, so any will do.
_PORT = 6390
#: How the names of the actors' processes begin.
_ACTORS = ("Account-", "Overlapping-")


@dataclass
class StoreServer:
    """The store's server; started again on what its file says."""

    program: str
    folder: Path
    network: Network | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens: on the bridge of the run, or on a Unix socket."""
        if self.network is not None:
            return f"redis://{self.network.address}:{_PORT}/0"
        return f"unix://{self.folder}/store.sock"

    def start(self) -> None:
        """Start it, also once more after a kill."""
        place = (
            ["--port", "0", "--unixsocket", str(self.folder / "store.sock")]
            if self.network is None
            else ["--port", str(_PORT), "--bind", self.network.address, "--protected-mode", "no"]
        )
        command = [
            self.program, *place, "--dir", str(self.folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", "everysec",
            "--client-output-buffer-limit", "pubsub", "0", "0", "0",
        ]  # fmt: skip
        with (self.folder / "store.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def client(self, patience: float = 2.0) -> redis.Redis:
        """Return a plain client that tries once."""
        return redis.Redis.from_url(
            self.url, socket_timeout=patience, socket_connect_timeout=patience,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        )  # fmt: skip

    def answers(self) -> bool:
        """Tell whether it answers now."""
        with contextlib.closing(self.client()) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class Node:
    """One place for nodes: a fresh node takes it when one has ended."""

    name: str
    words: list[str]  # before the command
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Tell whether a node is there."""
        return self.process is not None and self.process.poll() is None

    def family(self) -> list[psutil.Process]:
        """Return the processes of the node: supervisor, fork server, workers."""
        if self.process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(self.process.pid)
            return [supervisor, *supervisor.children(recursive=True)]
        return []

    def fork_server(self) -> int:
        """Return the process that its workers are forked from; 0: there is none."""
        if self.process is None:
            return 0
        children = _children(self.process.pid)
        return next((pid for pid in children if _comm(pid) == "ca-zygote"), 0)

    def workers(self) -> list[psutil.Process]:
        """Return its actors' processes. Read from the kernel's own list: it is asked for often."""
        found = []
        for pid in _children(self.fork_server()):
            if _comm(pid).startswith(_ACTORS):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.append(psutil.Process(pid))
        return found


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended
        return []


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@dataclass
class Caller:
    """One caller's process."""

    name: str
    process: subprocess.Popen[str]

    def says(self, word: str) -> None:
        """Wait for a word of its."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.strip() != word:
            raise RuntimeError(f"caller {self.name} said {line!r} instead of {word!r}")

    def tell(self, word: str) -> None:
        """Send it a word."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: its next word will be missing
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()


@dataclass
class Stage:
    """Everything that a run starts, in one folder."""

    folder: Path
    store: StoreServer
    network: Network | None
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    nodes: list[Node] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """Return the environment of nodes and callers."""
        words = {
            "CELERY_ACTORS_KEYS": self.key, "PYTHONPATH": str(ROOT),
            "CELERY_ACTORS_SHARED_MEMORY": str(self.folder / "shm"), "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        return {**os.environ, **words}

    def add_nodes(self, count: int) -> None:
        """Start nodes and wait until each is known."""
        for number in range(count):
            words = self.network.words(number) if self.network is not None else []
            name = f"node{number}"
            self.nodes.append(Node(name, words, self.folder / f"{name}.log"))
            self.start_node(self.nodes[-1])
        with contextlib.closing(self.store.client()) as client:
            wait_until(lambda: client.hlen("ca:nodes") == count, "every node is listed", 60)

    def start_node(self, node: Node) -> None:
        """Start a node in its place."""
        with node.log.open("ab") as log:
            node.process = subprocess.Popen(
                [*node.words, sys.executable, "-m", "celery_actors", "worker", "--address",
                 self.store.url, "--num-cpus", "1", "--hostname", node.name, "--result-seconds",
                 "600"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(),
                cwd=self.folder,
            )  # fmt: skip

    def add_callers(self, orders: Sequence[Orders]) -> None:
        """Start callers and wait until every actor has answered each."""
        for each in orders:
            with (self.folder / f"{each.name}.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.chaos.caller", json.dumps(asdict(each))],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                    env=self.environment(), cwd=ROOT,
                )  # fmt: skip
            self.callers.append(Caller(each.name, process))
        for caller in self.callers:
            caller.says("ready")

    def has_settled(self, client: redis.Redis) -> bool:
        """Tell whether the nodes that run are those that the store knows, with leases."""
        told = {name: json.loads(about) for name, about in client.hgetall("ca:nodes").items()}
        alive = {about["pid"] for name, about in told.items()
                 if client.exists(f"ca:node:{name.decode()}")}  # fmt: skip
        running = {node.process.pid for node in self.nodes if node.runs and node.process}
        return len(running) == len(self.nodes) and alive == running == {
            about["pid"] for about in told.values()
        }  # fmt: skip

    def end_nodes(self, seconds: float = 60.0) -> list[str]:
        """Tell every node to end; return what went wrong with that."""
        faults = []
        families = {node.name: [each.pid for each in node.family()] for node in self.nodes}
        for node in self.nodes:
            if node.process is not None:
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            if node.process is None:
                continue
            try:
                status = node.process.wait(seconds)
            except subprocess.TimeoutExpired:
                faults.append(f"{node.name} did not end within {seconds:g} s of SIGTERM")
                continue
            if status != 0:
                faults.append(f"{node.name} ended with status {status}")
        ends = time.monotonic() + 10
        for name, pids in families.items():
            while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < ends:
                time.sleep(0.05)
            faults += [f"process {pid} of {name} is left" for pid in left]
        return faults

    def kill_all(self) -> None:
        """End what still runs, whatever state it is in."""
        for node in self.nodes:
            for each in reversed(node.family()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            if node.process is not None:
                node.process.wait()
        for caller in self.callers:
            caller.process.kill()
            caller.process.communicate()
        self.store.stop()


@contextlib.contextmanager
def stage(folder: Path, program: str, network: Network | None) -> Iterator[Stage]:
    """Start a store; whatever happens, leave no process."""
    (folder / "shm").mkdir()
    found = Stage(folder, StoreServer(program, folder, network), network)
    found.store.start()
    try:
        wait_until(found.store.answers, "an answer of the store", 20)
        yield found
    finally:
        found.kill_all()
