"""Ends the nodes of this machine: gently, or by force and then what they owned is given back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

import psutil

from . import registry, routing
from .errors import NodeDiedError
from .node.recovery import node_lost
from .registry import NodeRecord
from .runtime import RESULT_SECONDS
from .shared_memory import host_id
from .store import Store

__all__ = ["nodes_here", "stop"]

#: What a node calls its process (see ``node.zygote.set_title``).
_TITLE = "ca-node"
#: Seconds for a process to be gone after SIGKILL.
_KILLED_SECONDS = 10.0


def nodes_here(store: Store) -> list[NodeRecord]:
    """Return the living nodes of a cluster whose processes run on this machine."""
    here = host_id()
    return [
        record for record in registry.records(store)
        if record.alive and record.about.get("host_id") == here and _process(record) is not None
    ]  # fmt: skip


def _process(record: NodeRecord) -> psutil.Process | None:
    """Return a node's process; None where its number belongs to something else."""
    try:
        process = psutil.Process(int(record.about["pid"]))
        return process if process.name() == _TITLE else None
    except psutil.NoSuchProcess:
        return None


def stop(
    store: Store, nodes: Sequence[NodeRecord], seconds: float, *, force: bool,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """End nodes of this machine and wait until they are gone.

    Args:
        store: of their cluster.
        nodes: from ``nodes_here``.
        seconds: how long to wait for those that end gently.
        force: kill them; what they owned goes to other nodes at once.
        say: is told what is waited for.

    Raises:
        NodeDiedError: one is still there after that time.
    """
    number = signal.SIGKILL if force else signal.SIGTERM
    processes = {record.node_id: _process(record) for record in nodes}
    for process in filter(None, processes.values()):
        process.send_signal(number)
    until = time.monotonic() + (_KILLED_SECONDS if force else seconds)
    said = ""
    while left := [name for name, process in processes.items() if process and _runs(process)]:
        if time.monotonic() > until:
            raise NodeDiedError(
                f"{', '.join(left)} still {'runs' if len(left) == 1 else 'run'}: running calls may "
                "take long. Wait longer (--timeout), or end them with --force"
            )
        if (waits := f"waiting for {', '.join(left)}") != said:
            said = waits
            say(waits)
        time.sleep(0.05)
    for record in nodes if force else ():
        store.run("UNLINK", routing.lease_key(record.node_id))  # nobody renews it any more
        node_lost(store, record.node_id, RESULT_SECONDS)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
