"""What processes with devices claim, each kept by a lock that the kernel frees when it dies.

A process reads its own real environment, and says in a file that it holds locked for its life which
devices it was shown. It does so under one lock per place (a node's name: its devices are the same
ones after a restart), and looks at the others' files there before it lets go. Whoever is still
locked is alive, so no two processes can share a device for a moment without one of them seeing it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import celery_actors as ca

UNIT = 10_000
VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Claim:
    """One living process and the devices that it sees; ``share``: of each, of 10,000."""

    node: str
    pid: int
    devices: tuple[str, ...]
    share: int

    @property
    def place(self) -> str:
        """The name of its node, which a fresh run of that node has again."""
        return self.node.rpartition("-")[0]


# -- in the process --------------------------------------------------------------------------

_kept: list[IO[str]] = []


def claim(folder: str, gpus: int, *, ask_child: bool) -> Claim:
    """Say what this process sees, and note every fault; ``gpus``: units that were asked for."""
    context = ca.get_runtime_context()
    seen = _environment(ask_child=ask_child)
    mine = Claim(context.get_node_id(), os.getpid(), seen, min(gpus, UNIT))
    faults = _faults(mine, gpus, round(context.get_assigned_resources().get("GPU", 0) * UNIT))
    place = Path(folder) / mine.place
    place.mkdir(exist_ok=True)
    with _locked(place):
        file = (place / f"{os.getpid()}-{time.monotonic_ns()}").open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(asdict(mine)))
        file.flush()
        _kept.append(file)
        faults += overcommitted(_living(place))
    if faults:
        with (Path(folder) / "faults").open("a") as notes:
            notes.writelines(f"{fault}\n" for fault in faults)
    return mine


def _environment(*, ask_child: bool) -> tuple[str, ...]:
    """Return the devices that C code in this process sees, or what a child inherits."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    value = (getenv(VARIABLE.encode()) or b"").decode()
    if ask_child:  # before the lock is taken: a child would keep it
        inherited = subprocess.run(["printenv", VARIABLE], capture_output=True, check=False).stdout
        value = value if inherited.decode().strip() == value else f"{value}/{inherited!r}"
    return tuple(filter(None, value.split(",")))


def _faults(mine: Claim, gpus: int, assigned: int) -> list[str]:
    """Return what contradicts what was asked for."""
    found = []
    if _kept:
        found.append(f"a process with devices was used again: {mine}")
    if len(mine.devices) != max(1, gpus // UNIT) or len(set(mine.devices)) != len(mine.devices):
        found.append(f"{gpus} units were asked for, and the environment shows {mine}")
    if list(mine.devices) != [str(device) for device in ca.get_gpu_ids()]:
        found.append(f"get_gpu_ids() says {ca.get_gpu_ids()}, and the environment shows {mine}")
    if assigned != gpus:
        found.append(f"{gpus} units were asked for, and {assigned} were assigned: {mine}")
    return found


# -- for everybody ---------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    with (place / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_held(path: Path) -> bool:
    """Tell whether the process that made this file lives."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _living(place: Path) -> list[Claim]:
    """Return the claims at a place; under its lock, so all of them lived when it was taken."""
    found = []
    for path in place.glob("[0-9]*"):
        if _is_held(path):
            try:
                words = json.loads(path.read_text())
            except ValueError:  # killed while it wrote: the lock of the place was let go first
                continue
            found.append(
                Claim(words["node"], words["pid"], tuple(words["devices"]), words["share"])
            )
    return found


def living(folder: Path) -> list[Claim]:
    """Return the claims of the processes that live, place by place."""
    found = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        with _locked(place):
            found += _living(place)
    return sorted(found, key=lambda each: (each.place, each.pid))


def clear_dead(folder: Path) -> int:
    """Remove the files of processes that have ended; return how many there were."""
    count = 0
    for place in [path for path in folder.iterdir() if path.is_dir()]:
        with _locked(place):
            for path in place.glob("[0-9]*"):
                if not _is_held(path):
                    path.unlink()
                    count += 1
    return count


def overcommitted(claims: list[Claim]) -> list[str]:
    """Return a sentence for each device of which more than the whole is given out."""
    units: Counter[tuple[str, str]] = Counter()
    for each in claims:
        for device in each.devices:
            units[each.place, device] += each.share
    return [
        f"device {device} of {place} is given out {given} times in 10,000: "
        f"{[each for each in claims if each.place == place and device in each.devices]}"
        for (place, device), given in units.items() if given > UNIT
    ]  # fmt: skip


def faults(folder: Path) -> list[str]:
    """Return what processes have found wrong."""
    notes = folder / "faults"
    return notes.read_text().splitlines() if notes.exists() else []
