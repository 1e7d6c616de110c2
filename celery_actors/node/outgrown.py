"""Ends actors that use more memory than a node allows each: a crash, under their restart rules."""

from __future__ import annotations

import signal
from collections.abc import Iterable

import psutil

from .process import WorkerProcess

__all__ = ["end_outgrown"]


def end_outgrown(workers: Iterable[WorkerProcess], limit: int, host: str) -> None:
    """Kill the actors' processes that have more than ``limit`` bytes of memory of their own.

    What they share does not count: mapped files, and large values in shared memory.
    """
    for worker in workers:
        if not worker.assignment.actor_id or not worker.pid or worker.outgrown:
            continue
        used = _own_bytes(worker.pid)
        if used > limit:
            worker.outgrown = (
                f"its process {worker.pid} on {host} was ended: it used {_mib(used)} of memory, "
                f"more than the {_mib(limit)} of --max-memory-per-actor"
            )
            worker.signal(signal.SIGKILL)


def _own_bytes(pid: int) -> int:
    try:
        found = psutil.Process(pid).memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(found.rss - getattr(found, "shared", 0))


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
