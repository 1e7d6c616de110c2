"""For tests of programs that use celery_actors: signals between calls, and faults on demand.

The fixtures ``local_cluster`` and ``shared_cluster`` come with the installed pytest plug-in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from . import directory, registry, runtime
from .errors import ActorDiedError
from .handle import ActorHandle
from .remote import remote
from .session import ClusterContext, init, is_initialized, shutdown

__all__ = ["Semaphore", "SignalActor", "kill_worker", "pause_worker", "running_cluster"]

T = TypeVar("T")


@contextlib.contextmanager
def running_cluster(num_cpus: float = 2) -> Iterator[ClusterContext]:
    """Start a local cluster and leave it at the end.

    Raises:
        RuntimeError: this process is in a cluster already.
    """
    if is_initialized():
        raise RuntimeError(
            "this process is in a cluster already: an earlier test or fixture did not call "
            "shutdown(), or a test asks for local_cluster where shared_cluster runs"
        )
    context = init("local", num_cpus=num_cpus)
    try:
        yield context
    finally:
        shutdown()


@remote(num_cpus=0)
class SignalActor:
    """An event that calls wait for and a test sends."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._waiting = 0

    async def send(self, clear: bool = False) -> None:
        """Let everybody through; with ``clear`` only those who wait now."""
        self._event.set()
        if clear:
            self._event.clear()

    async def clear(self) -> None:
        """Make those who come from now on wait."""
        self._event.clear()

    async def wait(self, should_wait: bool = True) -> None:
        """Wait until the signal is sent."""
        if should_wait:
            self._waiting += 1
            try:
                await self._event.wait()
            finally:
                self._waiting -= 1

    async def cur_num_waiters(self) -> int:
        """Return how many calls wait."""
        return self._waiting


@remote(num_cpus=0)
class Semaphore:
    """A number of places that calls take and give back."""

    def __init__(self, value: int = 1) -> None:
        self._places = asyncio.Semaphore(value)

    async def acquire(self) -> None:
        """Take a place; wait until there is one."""
        await self._places.acquire()

    async def release(self) -> None:
        """Give a place back."""
        self._places.release()

    async def locked(self) -> bool:
        """Tell whether every place is taken."""
        return self._places.locked()


def kill_worker(actor: ActorHandle[Any], *, timeout: float = 15.0) -> int:
    """Kill the process of an actor, as the kernel would for want of memory; return its pid.

    Returns once the process is gone. Waits for an actor that is only starting.

    Raises:
        ActorDiedError: the actor is dead. TimeoutError: it did not start or end in time.
        RuntimeError: the process is on another machine.
    """
    pid = _pid_of(actor, timeout)
    with contextlib.suppress(ProcessLookupError):  # it ended by itself, this very moment
        os.kill(pid, signal.SIGKILL)
    _wait_for(lambda: not _runs(pid), f"the process {pid} to end", timeout)
    return pid


@contextlib.contextmanager
def pause_worker(actor: ActorHandle[Any], *, timeout: float = 15.0) -> Iterator[int]:
    """Freeze the process of an actor inside the ``with`` block; gives its pid.

    Raises:
        ActorDiedError: the actor is dead. TimeoutError: it did not start in time. RuntimeError:
            the process is on another machine.
    """
    pid = _pid_of(actor, timeout)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):  # somebody killed it meanwhile
            os.kill(pid, signal.SIGCONT)


def _pid_of(actor: ActorHandle[Any], timeout: float) -> int:
    store = runtime.current().store
    who = actor._identity  # noqa: SLF001 - the package's own handle

    def alive() -> directory.ActorRecord | None:
        record = directory.find(store, who.actor_id, who.queue)
        if record is None or record.state == "DEAD":
            why = record.meta.get("cause", "") if record is not None else "it is not known"
            raise ActorDiedError(f"{actor!r} has no process: {why}", who.actor_id)
        # The record of a process that has just died says "alive" until its node has looked.
        return record if record.state == "ALIVE" and runs_here(record) else None

    def runs_here(record: directory.ActorRecord) -> bool:
        listed = {node.node_id: node.about for node in registry.records(store)}
        host = listed.get(record.incarnation, {}).get("hostname", socket.gethostname())
        if host != socket.gethostname():
            raise RuntimeError(f"the process of {actor!r} is on {host}, out of reach of this one")
        return _runs(int(record.meta["pid"]))

    return int(_wait_for(alive, f"{actor!r} to start", timeout).meta["pid"])


def _runs(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait_for(state: Callable[[], T], what: str, timeout: float) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := state()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(0.005)
    return found
