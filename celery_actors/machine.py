"""What processors and memory this process may use: the machine's, less what its group is denied."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["available_cpus", "available_memory"]

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def available_cpus(
    processors: int | None = None, *, membership: Path = MEMBERSHIP, mount: Path = MOUNT
) -> int:
    """Return how many processors this process may keep busy; at least one.

    The affinity mask (which ``cpuset`` limits too), or less where a control group has a quota.
    A part of a processor is left out, as Ray does: a node that offered it whole would be slowed
    down under load. Half a processor still counts as one, or the node could run nothing.

    Sources: kernel documentation, "Control Group v2", ``cpu.max``; "CFS Bandwidth Control",
    ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``.

    Args:
        processors: those of the affinity mask; None: asked for.
        membership: the control groups of this process, as ``/proc/self/cgroup`` lists them.
        mount: the folder in which control groups are mounted.
    """
    if processors is None:
        # macOS has neither masks nor control groups.
        masked = hasattr(os, "sched_getaffinity")
        processors = len(os.sched_getaffinity(0)) if masked else os.cpu_count() or 1
    quotas = (_quota(folder) for folder in _folders("cpu", membership, mount))
    return max(1, math.floor(min([processors, *quotas])))


def available_memory(
    physical: int | None = None, *, membership: Path = MEMBERSHIP, mount: Path = MOUNT
) -> int:
    """Return how many bytes of memory this process and its group may use.

    The memory of the machine, or less where a control group has a limit. "No limit" is the word
    ``max`` in version 2, and in version 1 a number beyond any machine's memory.

    Sources: kernel documentation, "Control Group v2", ``memory.max``; "Memory Resource
    Controller", ``memory.limit_in_bytes``.

    Args:
        physical: the memory of the machine in bytes; None: asked for.
        membership: the control groups of this process, as ``/proc/self/cgroup`` lists them.
        mount: the folder in which control groups are mounted.
    """
    if physical is None:
        import psutil  # late: only nodes need it

        physical = int(psutil.virtual_memory().total)
    limits = [physical]
    for folder in _folders("memory", membership, mount):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += _numbers(folder / name)[:1]
    return min(limits)


def _folders(controller: str, membership: Path, mount: Path) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, from its own up to the root.

    A limit binds all groups below its own, so each folder may hold the smallest.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2; beside version 1 it is mounted one folder deeper
            roots = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            roots = [mount / controllers, mount / controller]
        else:
            continue
        # Inside a container the path may be the host's, or lead out of the mounted tree: its
        # folders are missing then, and the root is the container's own group.
        parts = [part for part in PurePosixPath(path).parts if part not in {"/", ".."}]
        for root in roots:
            for depth in range(len(parts), -1, -1):
                yield root.joinpath(*parts[:depth])


def _quota(folder: Path) -> float:
    """Return the processors that a group may keep busy; infinite: no limit."""
    allowed = _numbers(folder / "cpu.max") or [
        number
        for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        for number in _numbers(folder / name)
    ]
    match allowed:
        case [quota, period]:
            return quota / period
    return math.inf


def _numbers(file: Path) -> list[int]:
    """Return the positive numbers of a file; none if it is missing or says "max" or -1."""
    try:
        words = file.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []
