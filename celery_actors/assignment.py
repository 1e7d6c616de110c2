"""What a node tells the workers it forks, and the form in which they print."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from . import routing
from .config import Address, KeyRing
from .need import Need
from .watching import Watching

__all__ = ["PROGRESS_BYTES", "TAG", "Assignment", "LogBatch", "NodeSettings"]

#: The page that a worker shares with its supervisor: the position of the call that began last, how
#: often that call ran again after an exception (64-bit integers), the moment at which the hard
#: limit of a running call ends the process (a double, `time.monotonic`; 0: none), whether a call
#: runs (an integer), and the moment until which the node's lease surely lasts (a double; written by
#: the supervisor).
PROGRESS_BYTES = 40
#: Begins a line on a worker's output that names the driver and the label of what follows.
TAG = "\x1eca:"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What every worker of a node shares; inherited through the fork, never written anywhere."""

    address: Address
    ring: KeyRing
    node_id: str
    host: str
    task_events: bool
    result_seconds: int
    ip: str = "127.0.0.1"
    cache: Path = Path()  # unpacked packages of runtime environments; removed with the node
    app: Any = None  # the Celery app, made before the fork
    user_app: str = ""  # the user's own, by the name that `-A` takes
    watching: Watching = field(default_factory=Watching)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One worker's work."""

    worker_id: str
    queue: str
    epoch: str
    owner: str
    session: str  # its process's name: what it keeps alive ends with it
    label: str  # the readable half of the Celery worker name
    position: int = 0
    actor_id: str = ""  # empty: a shared worker
    meta: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    resident: bool = True
    need: Need = field(default_factory=Need)
    devices: tuple[int | str, ...] = ()  # the GPUs, as `get_gpu_ids` returns them
    queues: tuple[str, ...] | None = (
        None  # stands for its node, and these are what that could serve
    )
    lent: bool = False  # stands in for a worker that waits in a `get`; ends when that goes on

    @property
    def env(self) -> str:
        """The name of the runtime environment; empty: the node's own."""
        return self.need.env

    def shown_as(self, host: str) -> dict[str, str]:
        """Return what each line of the worker's log says of it."""
        return {
            "node": host, "worker": self.label, "actor_id": self.actor_id,
            "actor_class": self.meta.get("class", "") if self.actor_id else "",
        }  # fmt: skip

    @property
    def keys(self) -> routing.ActorKeys:
        """The keys of the mailbox."""
        if self.actor_id:
            return routing.ActorKeys(self.queue, self.actor_id)
        return routing.worker_keys(self.worker_id)


class LogBatch(msgspec.Struct):
    """Lines that one process printed: published on its driver's log channel."""

    label: str
    pid: int
    stream: int  # 1 standard output, 2 standard error
    lines: list[str]
    node: str = ""
    flushed: bool = False  # the answer to a driver's request: everything before is out
