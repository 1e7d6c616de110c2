"""One chaos run: set up, break and call, come to rest, judge."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import census

from .caller import Orders
from .cast import KINDS
from .checker import judge
from .history import Writer
from .nemesis import Nemesis
from .network import Network, NoNetworkError, network
from .plan import plan
from .record import read
from .report import Report, report
from .stage import Stage, stage
from .watcher import Watcher

__all__ = ["Setting", "folder_in_memory", "network_if_possible", "run"]

#: Where the store writes: in memory, where a write is never put off because a disk is slow. What
#: ``appendfsync everysec`` puts off, up to two seconds, even a kill of the server alone would lose.
_MEMORY = Path("/dev/shm")
#: What the log of a node says of a process that another one has taken an actor from.
_FENCED = "another process owns"


@dataclass(frozen=True)
class Setting:
    """How large a run is, and what it runs on."""

    seconds: float
    seed: int
    program: str  # the store's server
    nodes: int = 3
    actors: int = 50
    callers: int = 10
    window: int = 16  # calls that a caller has under way at once
    pause: float = 0.03  # seconds between two calls of one caller

    @property
    def title(self) -> str:
        """Return it in words."""
        return (
            f"{self.seconds:g} s, seed {self.seed}: {self.nodes} nodes, {self.actors} actors, "
            f"{self.callers} callers on {Path(self.program).name}"
        )


def run(folder: Path, setting: Setting, net: Network | None) -> Report:
    """Run once; return the figures and what is wrong."""
    kinds = [*KINDS]
    slots = {f"slot{number}": kinds[number % len(kinds)] for number in range(setting.actors)}
    with stage(folder, setting.program, net) as found:
        found.add_nodes(setting.nodes)
        found.add_callers([
            Orders(f"c{number}", found.store.url, str(folder), setting.seed + number, slots,
                   setting.window, setting.pause)
            for number in range(setting.callers)
        ])  # fmt: skip
        faults = Writer(folder / "faults.jsonl", "nemesis")
        seen = Writer(folder / "seen.jsonl", "watcher")
        nemesis, watcher = Nemesis(found, faults), Watcher(found.store, seen)
        began = time.monotonic()
        watcher.start()
        for caller in found.callers:
            caller.tell("call")
        nemesis.start(plan(setting.seed, setting.seconds, with_network=net is not None))
        nemesis.finish()
        lasted = time.monotonic() - began
        wrong = nemesis.faults + _come_to_rest(found)
        watcher.stop()
        wrong += _left_behind(found)
        faults.close()
        seen.close()
        fenced = sum(node.log.read_text().count(_FENCED) for node in found.nodes)
    record = read(folder)
    verdict = judge(record)
    verdict.faults += wrong
    return report(setting.title, lasted, record, verdict, nemesis.hits, nemesis.missed, fenced)


def _come_to_rest(found: Stage) -> list[str]:
    """Let everything end; return what does not, or is left behind."""
    wrong = []
    for caller in found.callers:
        caller.tell("stop")
    for caller in found.callers:
        caller.says("stopped")
    for caller in found.callers:
        caller.tell("leave")
        if caller.process.wait(60) != 0:
            wrong.append(f"caller {caller.name} ended with status {caller.process.returncode}")
    return wrong + found.end_nodes()


def _left_behind(found: Stage) -> list[str]:
    """Count what is there when nobody is left: nothing, but what the store forgets by itself."""
    shared = found.folder / "shm"
    ends = time.monotonic() + census.PATIENCE_SECONDS
    with contextlib.closing(found.store.client(10)) as client:
        while True:
            left = {
                "keys": census.lasting_keys(client),
                "connections": census.connections(client),
                "processes": census.processes(shared),
                "shared memory": [path.name for path in shared.iterdir()],
            }
            if not any(left.values()) or time.monotonic() > ends:
                return [f"left behind: {sort}: {names}" for sort, names in left.items() if names]
            time.sleep(0.1)


@contextlib.contextmanager
def folder_in_memory() -> Iterator[Path]:
    """Give a folder for a run, with a short path."""
    base = str(_MEMORY) if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="ca-chaos-", dir=base) as folder:
        yield Path(folder)


@contextlib.contextmanager
def network_if_possible(nodes: int) -> Iterator[tuple[Network | None, str]]:
    """Give a network for so many nodes, or None and why there is none."""
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(network(nodes)), ""
        except NoNetworkError as error:
            found = None, str(error)
        yield found
