"""Counts what exists, so that a test can tell what is left behind: one list for all tests.

Of this test run: processes, also those whose parents are gone, and files in the folders of its own.
Of this process: threads and descriptors. Of a store: keys that nothing will ever remove, the queues
and bindings among them, and connections.
"""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import redis

from tests.waits import wait_empty

__all__ = [
    "SHARED_MEMORY",
    "Census",
    "connections",
    "driver_keys",
    "family",
    "is_alive",
    "lasting_keys",
    "leaving_nothing",
    "processes",
    "shared_memory",
    "take",
]

SHARED_MEMORY = Path(os.environ.get("CELERY_ACTORS_SHARED_MEMORY", "/dev/shm"))
#: kombu's own note of when bindings expire; the bounded list that an operator reads.
_KEPT = frozenset({b"_kombu.binding_deadlines", b"ca:dead-letters"})
#: Seconds that what ends may take to be gone.
PATIENCE_SECONDS = 15.0


class Census(NamedTuple):
    """Names of what exists at one moment, by sort."""

    processes: frozenset[str]
    threads: frozenset[str]
    descriptors: frozenset[str]
    files: frozenset[str]
    keys: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()

    def beyond(self, before: Census) -> dict[str, list[str]]:
        """Return what is here and was not there before, by sort."""
        added = {
            sort: sorted(here - there)
            for sort, here, there in zip(self._fields, self, before, strict=True)
        }
        return {sort: names for sort, names in added.items() if names}


def take(client: redis.Redis | None = None) -> Census:
    """Count now; with a client, in its store too."""
    gc.collect()  # what only a cycle holds is not left behind
    return Census(
        frozenset(processes()),
        frozenset(f"{thread.name} {thread.ident}" for thread in threading.enumerate()),
        frozenset(_descriptors()),
        frozenset(_files()),
        frozenset(lasting_keys(client)) if client is not None else frozenset(),
        frozenset(connections(client)) if client is not None else frozenset(),
    )


@contextlib.contextmanager
def leaving_nothing(
    seconds: float = PATIENCE_SECONDS, *, but: Collection[str] = ()
) -> Iterator[None]:
    """Wait, at the end of the block, until all is gone that was not there at its begin.

    ``but``: sorts that do not count.
    """
    before = take()
    yield

    def left() -> dict[str, list[str]]:
        found = take().beyond(before)
        return {sort: names for sort, names in found.items() if sort not in but}

    wait_empty(left, "nothing is left behind", seconds)


# -- this test run -----------------------------------------------------------------------------


def processes(folder: Path = SHARED_MEMORY) -> list[str]:
    """Return the processes of this test run, whoever is their parent now.

    They have its folder for shared memory in their environments, and no others have.
    """
    mark = f"CELERY_ACTORS_SHARED_MEMORY={folder}".encode()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            if mark in environment and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[int]:
    """Return a process and everything below it."""
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def shared_memory() -> set[str]:
    """Return the names in the shared-memory folder."""
    return {path.name for path in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.is_dir() else set()


def _files() -> Iterator[str]:
    """Return what is in this run's folders; the folder of local clusters itself may stay."""
    yield from (f"shared memory {name}" for name in shared_memory())
    for path in Path(tempfile.gettempdir()).iterdir():
        if path.name == f"celery_actors-{os.getuid()}":
            yield from (f"cluster {each.name}" for each in path.iterdir())
        else:
            yield path.name


# -- this process --------------------------------------------------------------------------------


def _descriptors() -> Iterator[str]:
    """Return what this process has open: a descriptor's number may be given out again."""
    kinds: Counter[str] = Counter()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            name = str(path.readlink())
            if name == "anon_inode:[eventpoll]":
                continue  # kombu leaves the pollers of its closed connections to the collector
            kinds[name] += 1
            yield f"{name} ({kinds[name]})"


# -- a store -------------------------------------------------------------------------------------


def lasting_keys(client: redis.Redis) -> list[str]:
    """Return the keys that nothing will ever remove: also queues, and kombu's bindings."""
    found = set(client.scan_iter(count=1000)) - _KEPT
    if client.zscore("_kombu.binding_deadlines", "celeryev") is not None:
        found.discard(b"_kombu.binding.celeryev")  # a Flower was here: kombu sweeps that in time
    return sorted(key.decode() for key in found if client.ttl(key) == -1)


def driver_keys(client: redis.Redis, session: str) -> list[str]:
    """Return what a driver still has in the store; what expires by itself is left out."""
    found = client.scan_iter(f"*{session}*", count=1000)
    named = [key.decode() for key in found if client.ttl(key) == -1]
    if client.zscore("ca:sessions", session) is not None:
        named.append("ca:sessions")
    living = client.hgetall("ca:actors")
    return named + [f"actor {actor.decode()}" for actor in living]


def connections(client: redis.Redis) -> list[str]:
    """Return the connections to the store but for the one that asks."""
    mine = str(client.client_id())
    return [f"{each['id']} {each['cmd']}" for each in client.client_list() if each["id"] != mine]
