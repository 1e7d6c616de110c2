"""A worker process as its supervisor holds it: pipes, progress page, what it has said."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..assignment import PROGRESS_BYTES, Assignment, LogBatch
from ..placement import Grant, Ledger
from .console import Console
from .output import Output
from .zygote import ZygoteLink

__all__ = ["WorkerProcess", "launch"]

logger = logging.getLogger(__name__)

_WORD_BYTES = 64 * 1024


@dataclass(slots=True)
class WorkerProcess:
    """One worker, from the request for a fork to the end of its process."""

    assignment: Assignment
    control: socket.socket
    progress: int  # descriptor of a page in which it notes the position of the running call
    outputs: list[Output]
    grant: Grant | None
    pid: int = 0
    ready: bool = False
    begun: bool = False  # user code runs in it: an actor's constructor, perhaps for long
    blocked: bool = False
    awaits: bool = False  # an argument is not ready, and no user code runs before it is
    parted: Grant | None = None  # what it held before it waited so; it gets the same again
    has_lent: bool = False  # it waits in a `get`, and others have its CPUs meanwhile
    retiring: bool = False
    init_failed: str = ""
    frozen: str = ""  # why its actor must stand still
    left: str = ""  # why it ends by its own wish
    outgrown: str = ""  # it used too much memory, and was ended for that
    rolled_back: str = ""  # what the store has lost of its work: it ends for that
    seen: set[str] | None = None  # then: the calls in its queue that had begun, where it knows
    born: float = field(default_factory=time.monotonic)

    @property
    def is_resident(self) -> bool:
        """True for a worker of the default shared queue."""
        return not self.assignment.actor_id and self.assignment.resident

    def note(self) -> tuple[int, int, bool]:
        """Return what it noted: position and further tries of the last call, hard limit reached."""
        position, tries, limit = struct.unpack("<qqd", os.pread(self.progress, 24, 0))
        return position, tries, 0 < limit <= time.monotonic()

    def trust(self, until: float) -> None:
        """Let it know how long the node's lease surely lasts (``time.monotonic``)."""
        os.pwrite(self.progress, struct.pack("<d", until), 32)

    @property
    def is_starting(self) -> bool:
        """True until it serves, or until user code runs in it."""
        return not (self.ready or self.begun or self.awaits or self.parted)

    @property
    def takes_next(self) -> bool:
        """True where it is about to take the next call of its queue, or to end."""
        return not (self.busy or self.blocked or self.awaits or self.parted)

    @property
    def books(self) -> Ledger | None:
        """The books that what it holds, or will hold again, is from."""
        held = self.grant or self.parted
        return held.ledger if held is not None else None

    def hand_back(self, books: Ledger) -> None:
        """Enter in books that it holds nothing any more: its own, or a copy to try something in."""
        if self.grant is not None:
            if self.has_lent:
                books.take_cpus(self.grant.allocation)
            books.release(self.grant.allocation)

    @property
    def is_face(self) -> bool:
        """True for the process that stands for the node."""
        return self.assignment.queues is not None

    @property
    def busy(self) -> bool:
        """True while it runs a call."""
        return os.pread(self.progress, 8, 24) != bytes(8)

    def began(self, pid: int) -> None:
        """Note that its process runs; one that was to retire before is told now."""
        self.pid = pid
        for output in self.outputs:
            output.pid = pid
        if self.retiring:
            self.signal(signal.SIGTERM)

    def retire(self) -> None:
        """Have it end with the call that it runs, or as soon as it has started."""
        self.retiring = True
        self.signal(signal.SIGTERM)

    def hear(self) -> dict[str, Any] | None:
        """Return the next word of the worker; None at the end of its line."""
        try:
            data = self.control.recv(_WORD_BYTES)
        except ConnectionResetError:  # it died with words of ours unread; its own are still there
            data = self.control.recv(_WORD_BYTES)
        if not data:
            return None
        word: dict[str, Any] = json.loads(data)
        self.ready = self.ready or bool(word.get("ready"))
        if word.get("thief"):
            logger.warning(
                "%s: somebody else takes calls off %s, whose only consumer is its process: a "
                "Celery worker with -Q %s? Stop it. What it takes before it runs here fails there",
                self.assignment.label, self.assignment.queue, self.assignment.queue,
            )  # fmt: skip
        self.init_failed = word.get("init_failed", self.init_failed)
        self.frozen = word.get("frozen", self.frozen)
        self.left = word.get("left", self.left)
        self.rolled_back = word.get("rolled_back", self.rolled_back)
        if "seen" in word:
            self.seen = {*(self.seen or ()), *word["seen"]}
        self.begun = self.begun or bool(word.get("begun"))
        self.blocked = word.get("blocked", self.blocked)
        self.awaits = word.get("awaits", self.awaits)
        return word

    def tell(self, word: dict[str, Any]) -> None:
        """Send a word to the process, without waiting for it.

        One that is paused has room for some hundred words. What comes then is lost, and whoever
        cancels says so again; a node that waited would lose its lease, and all of its workers.
        """
        with contextlib.suppress(OSError):  # also if it has ended: recovery answers its calls
            self.control.send(json.dumps(word).encode(), socket.MSG_DONTWAIT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process has started and not ended."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """Take in the last words and output of a process that has ended, then close the pipes."""
        with contextlib.suppress(OSError):
            self.control.setblocking(False)
            while self.hear() is not None:
                pass
        for output in self.outputs:
            output.pump()
            output.close()
        self.control.close()


def launch(
    zygote: ZygoteLink,
    assignment: Assignment,
    grant: Grant | None,
    publish: Callable[[Assignment, str, LogBatch], None],
    console: Console,
) -> WorkerProcess:
    """Ask the fork server for a worker."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    progress = os.memfd_create("ca-progress", os.MFD_CLOEXEC)
    os.ftruncate(progress, PROGRESS_BYTES)
    job, label = assignment.meta.get("job", ""), assignment.meta.get("class", assignment.label)
    outputs = [
        Output(out_read, 1, label, job, partial(publish, assignment), console),
        Output(err_read, 2, label, job, partial(publish, assignment), console),
    ]
    zygote.spawn(assignment, [theirs.fileno(), out_write, err_write, progress])
    theirs.close()
    os.close(out_write)
    os.close(err_write)
    return WorkerProcess(assignment, ours, progress, outputs, grant)
