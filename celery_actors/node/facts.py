"""What a node knows of itself, for watchers in other threads."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from .. import routing
from ..routing import ActorKeys
from .process import WorkerProcess

__all__ = ["Facts", "Tally", "Window", "WorkerFacts", "facts_of"]


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker of a node."""

    worker_id: str
    pid: int
    keys: ActorKeys  # of its mailbox
    first: int  # calls that its mailbox had settled before it
    serves: bool  # it has started
    busy: bool  # it runs a call; known where calls run one at a time
    actor_id: str = ""  # empty: it runs functions
    actor_class: str = ""
    actor: str = ""  # its name, or how its id begins
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """One node at one moment. Amounts of resources are units of 1/10,000."""

    renewed: float  # when the lease was (``time.monotonic``)
    draining: bool
    total: Mapping[str, int]
    free: Mapping[str, int]
    sent: Sequence[
        str
    ]  # label and JSON of each need under which anybody may send, registered or not
    workers: Sequence[WorkerFacts]


def facts_of(worker: WorkerProcess) -> WorkerFacts:
    """Return what watchers may know of a worker."""
    mine = worker.assignment
    _, name = routing.split_name_field(mine.meta.get("name", ""))
    return WorkerFacts(
        mine.worker_id, worker.pid, mine.keys, mine.position, worker.ready, worker.busy,
        mine.actor_id, mine.meta.get("class", "") if mine.actor_id else "",
        name or mine.actor_id[:8], int(mine.meta.get("restarts", 0)),
    )  # fmt: skip


class Tally:
    """Counts that only grow, as long as the node runs. Thread-safe.

    Calls are counted by how far their mailboxes are, so no call pays for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}  # worker that runs -> how far its mailbox was
        self._settled: Counter[str] = Counter()  # by class; '' functions
        self._restarts: Counter[str] = Counter()
        self._frozen: Counter[str] = Counter()

    def begins(self, worker: WorkerFacts) -> None:
        """Count a process that starts."""
        with self._lock:
            self._seen[worker.worker_id] = worker.first
            if worker.actor_id:
                self._restarts[worker.actor_class] += bool(worker.restarts)

    def settled(self, worker: WorkerFacts, calls: int) -> None:
        """Take note of how many calls a worker's mailbox has settled so far.

        Whoever looked before it ended, and says so afterwards, is not listened to.
        """
        with self._lock:
            before = self._seen.get(worker.worker_id, calls)
            if calls > before:
                self._seen[worker.worker_id] = calls
                self._settled[worker.actor_class] += calls - before

    def ends(self, worker: WorkerFacts, position: int, *, frozen: bool) -> None:
        """Count what a process had done that has ended; ``position``: of its last call."""
        self.settled(worker, position - worker.busy)
        with self._lock:
            del self._seen[worker.worker_id]
            self._frozen[worker.actor_class] += frozen

    def totals(self) -> tuple[Counter[str], Counter[str], Counter[str]]:
        """Return calls settled, restarts, and actors that have come to stand still: by class."""
        with self._lock:
            return self._settled.copy(), self._restarts.copy(), self._frozen.copy()


class Window:
    """Lets other threads see what belongs to the supervisor's, which answers between its work."""

    def __init__(self, describe: Callable[[], Facts]) -> None:
        self._describe = describe
        self._asked: deque[Future[Facts]] = deque()
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._read

    def answer(self) -> None:
        """Answer those who have asked; the supervisor's thread does so."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 512)
        while self._asked:
            self._asked.popleft().set_result(self._describe())

    def look(self, seconds: float) -> Facts | None:
        """Return the facts; None where the supervisor has no time for an answer."""
        question: Future[Facts] = Future()
        self._asked.append(question)
        with contextlib.suppress(BlockingIOError):  # it has been told often enough
            os.write(self._write, b"?")
        try:
            return question.result(seconds)
        except TimeoutError:
            return None
