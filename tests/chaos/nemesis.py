"""Breaks things as planned, heals them, and notes what truly broke."""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import psutil
import redis

from .history import Writer
from .plan import Fault
from .stage import Node, Stage

__all__ = ["Nemesis"]

#: Seconds after which a node that has ended by itself is started again.
_RESTART_SECONDS = 0.5
#: Seconds for which a fault waits for something that it can hit.
_PATIENCE_SECONDS = 5.0


class Nemesis:
    """Works through a plan in a thread of its own."""

    def __init__(self, stage: Stage, writer: Writer) -> None:
        self._stage = stage
        self._writer = writer
        self.hits: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.faults: list[str] = []  # of this thread itself
        self._heals: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._taken: set[str] = set()  # nodes and the store, while something is wrong with them
        self._thread = threading.Thread(target=self._guarded, name="nemesis")
        self._over = threading.Event()

    def start(self, faults: Iterable[Fault]) -> None:
        """Begin."""
        self._plan = faults
        self._thread.start()

    def finish(self) -> None:
        """Wait for the end of the plan; heal everything."""
        self._thread.join()

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - a thread tells it to nobody
            self.faults.append(f"the nemesis failed: {error!r}")

    def _run(self) -> None:
        began = time.monotonic()
        for fault in self._plan:
            while (left := began + fault.at - time.monotonic()) > 0:
                self._look()
                time.sleep(min(left, 0.05))
            self._apply(fault, time.monotonic() + _PATIENCE_SECONDS)
        while self._heals or not all(node.runs for node in self._stage.nodes):
            self._look()
            time.sleep(0.05)
        with contextlib.closing(self._stage.store.client()) as client:
            while not self._has_settled(client):
                self._look()
                time.sleep(0.1)

    def _has_settled(self, client: redis.Redis) -> bool:
        try:
            return self._stage.has_settled(client)
        except redis.RedisError:
            return False

    def _look(self) -> None:
        """Heal what is due; start a node again that has ended by itself."""
        while self._heals and self._heals[0][0] <= time.monotonic():
            heapq.heappop(self._heals)[2]()
        for node in self._stage.nodes:
            if not node.runs and node.name not in self._taken:
                status = node.process.returncode if node.process is not None else None
                self._note("node ended by itself", node=node.name, status=status)
                self._restart(node, _RESTART_SECONDS)

    def _later(self, seconds: float, heal: Callable[[], None], what: str = "") -> None:
        """Heal later; until then nothing else happens to ``what``: a node, or the store."""
        self._taken.add(what)

        def healed() -> None:
            self._taken.discard(what)
            heal()

        heapq.heappush(self._heals, (time.monotonic() + seconds, next(self._order), healed))

    def _restart(self, node: Node, seconds: float) -> None:
        self._later(seconds, lambda: self._stage.start_node(node), node.name)

    def _note(self, kind: str, **about: Any) -> None:
        self._writer.write("fault", "", kind, about)

    def _apply(self, fault: Fault, until: float) -> None:
        """Break something; where there is nothing to break, try again for some seconds."""
        draw = random.Random(fault.number)
        kind = fault.kind
        try:
            if kind.startswith(("store", "connections", "scripts")):
                about = self._to_the_store(fault, draw)
            else:
                about = self._to_a_node(fault, draw)
        except (redis.RedisError, psutil.Error, ProcessLookupError):
            about = None
        if about is None and time.monotonic() < until:
            self._later(0.2, lambda: self._apply(fault, until))
        elif about is None:
            self.missed[kind] += 1
        else:
            self.hits[kind] += 1
            self._note(kind, seconds=fault.seconds, **about)

    # -- nodes and actors ------------------------------------------------------------------

    def _to_a_node(self, fault: Fault, draw: random.Random) -> dict[str, Any] | None:
        free = [n for n in self._stage.nodes if n.runs and n.name not in self._taken]
        if fault.kind.startswith("actor"):
            workers = [(node, each) for node in free for each in node.workers()]
            return self._to_an_actor(fault, *draw.choice(workers)) if workers else None
        if len(free) < 2:
            return None  # some node always goes on
        node = draw.choice(free)
        about = {"node": node.name}
        if fault.kind == "node killed":
            assert node.process is not None
            node.process.kill()
            node.process.wait()
            self._restart(node, fault.seconds)
        elif fault.kind == "fork server killed":
            forks = node.fork_server()
            if not forks:
                return None
            os.kill(forks, signal.SIGKILL)
        elif fault.kind == "node paused":
            family = node.family()
            _signal(family, signal.SIGSTOP)
            self._later(fault.seconds, lambda: _signal(family, signal.SIGCONT), node.name)
        else:
            self._cut_off(node, fault)
        return about

    def _to_an_actor(self, fault: Fault, node: Node, process: psutil.Process) -> dict[str, Any]:
        if fault.kind == "actor killed":
            process.kill()
        else:
            process.suspend()
            self._later(fault.seconds, lambda: _signal([process], signal.SIGCONT))
        return {"node": node.name, "pid": process.pid}

    def _cut_off(self, node: Node, fault: Fault) -> None:
        network, number = self._stage.network, self._stage.nodes.index(node)
        assert network is not None
        how = fault.kind.removeprefix("cut off ")
        network.cut(number, how)

        def heal() -> None:
            network.heal(number, how)
            self._note("healed", node=node.name, how=how)

        self._later(fault.seconds, heal, node.name)

    # -- the store -------------------------------------------------------------------------

    def _to_the_store(self, fault: Fault, draw: random.Random) -> dict[str, Any] | None:
        store = self._stage.store
        if "store" in self._taken or store.process is None:
            return None
        if fault.kind == "store killed":
            store.stop()
            self._later(fault.seconds, store.start, "store")
        elif fault.kind == "store paused":
            pid = store.process.pid
            os.kill(pid, signal.SIGSTOP)
            self._later(fault.seconds, lambda: os.kill(pid, signal.SIGCONT), "store")
        else:
            with contextlib.closing(store.client(patience=0.5)) as client:
                return self._by_command(fault, client, draw)
        return {}

    def _by_command(
        self, fault: Fault, client: redis.Redis, draw: random.Random
    ) -> dict[str, Any] | None:
        if fault.kind == "store stalled":
            milliseconds = int(fault.seconds * 1000)
            client.execute_command("CLIENT", "PAUSE", milliseconds, "ALL")
            self._later(fault.seconds, lambda: None, "store")
            return {}
        if fault.kind == "scripts flushed":
            client.script_flush()
            return {}
        mine = client.client_id()
        others = [each["id"] for each in client.client_list() if int(each["id"]) != mine]
        chosen = draw.sample(others, min(len(others), draw.choice([1, 1, 2, 5, 20])))
        killed = sum(client.execute_command("CLIENT", "KILL", "ID", each) for each in chosen)
        return {"connections": killed} if killed else None


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)
