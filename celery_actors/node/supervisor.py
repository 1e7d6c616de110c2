"""The parent of a node's workers: takes work its resources allow, starts, watches and ends it.

One thread, one poll: the fork server, the workers' control sockets and output, the store's bells.
The store is asked once a second and whenever a bell rings.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .. import gpu, routing
from ..assignment import Assignment, LogBatch, NodeSettings
from ..errors import ClusterUnreachableError
from ..options import FunctionOptions
from ..placement import UNIT, Allocation, Ledger, Need
from ..store import Scripts, Store, StoreError, Wire
from ..store.wire import PUSH, pack
from .output import Output
from .recovery import Lost, actor_lost, describe_exit, end_session, node_lost, shared_lost
from .zygote import ZygoteLink

__all__ = ["Supervisor", "SupervisorOptions"]

logger = logging.getLogger(__name__)

LEASE_MS = 3_000
TICK_SECONDS = 1.0
#: Seconds without a renewed lease after which a node ends its workers: well before another node
#: may take them over.
FENCE_SECONDS = 2.0
#: Workers that may be starting at once; more would only share the same processors.
STARTING = 4
_DRAIN_SECONDS = 30.0
_RESIDENT = FunctionOptions().need


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """What a node has."""

    num_cpus: float
    num_gpus: int
    resources: dict[str, float]
    lifeline: int | None = None  # a pipe whose end says that the driver is gone
    ready: int | None = None  # a pipe to write one line to when the node serves


def _environment(need: Need, allocation: Allocation | None) -> dict[str, str]:
    """Return the variables of a worker: its devices, and threads for the CPUs it holds."""
    environ = gpu.environment(allocation.gpu_ids) if allocation else {}
    if "OMP_NUM_THREADS" not in os.environ:
        environ["OMP_NUM_THREADS"] = str(max(1, need.cpus // UNIT))
    return environ


@dataclass(slots=True)
class _Worker:
    assignment: Assignment
    control: socket.socket
    progress: int
    outputs: list[Output]
    allocation: Allocation | None
    pid: int = 0
    ready: bool = False
    blocked: bool = False
    retiring: bool = False
    killed: bool = False
    init_failed: str = ""
    born: float = field(default_factory=time.monotonic)

    @property
    def is_resident(self) -> bool:
        return not self.assignment.actor_id and self.assignment.resident

    @property
    def progress_value(self) -> int:
        return int.from_bytes(os.pread(self.progress, 8, 0), "little")


class Supervisor:
    """One run of one node."""

    def __init__(
        self, settings: NodeSettings, options: SupervisorOptions, zygote: ZygoteLink
    ) -> None:
        self._settings = settings
        self._options = options
        self._zygote = zygote
        self._store = Store(settings.address)
        self._ttl = settings.result_seconds
        self._incarnation = settings.node_id
        self._ledger = Ledger.of(options.num_cpus, options.num_gpus, options.resources)
        self._workers: dict[str, _Worker] = {}
        self._needs: dict[str, Need] = {}
        self._selector = selectors.DefaultSelector()
        self._bells: Wire | None = None
        self._stop = False
        self._abandoned = False
        self._reason = ""
        self._renewed = self._steady_since = time.monotonic()
        self._surplus_since = 0.0

    # -- life ------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._watch(wake_read, lambda: self._empty(wake_read))
        self._watch(self._zygote, self._on_zygote)
        if self._options.lifeline is not None:
            self._watch(self._options.lifeline, self._on_driver_gone)
        Scripts.load(self._store.run)
        self._connect_bells()
        self._tick(first=True)
        if self._options.ready is not None:
            os.write(
                self._options.ready, json.dumps({"node_id": self._incarnation}).encode() + b"\n"
            )
            os.close(self._options.ready)
        self._look()
        next_tick = time.monotonic() + TICK_SECONDS
        status = 0
        while not self._stop:
            self._poll(max(0.0, next_tick - time.monotonic()))
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_SECONDS
                if not self._safe_tick():
                    status = 1
                    break
        self._drain(graceful=status == 0 and not self._abandoned)
        return status

    def _on_signal(self, number: int, _frame: Any) -> None:
        self._stop = True
        self._reason = signal.Signals(number).name

    def _on_driver_gone(self) -> None:
        # The store ends with the driver, too: nothing is left to be settled there.
        self._stop = self._abandoned = True
        self._reason = "the driver ended"

    @staticmethod
    def _empty(fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 512)

    def _watch(self, source: Any, callback: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, callback)

    def _unwatch(self, source: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)

    def _poll(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            if key.fd in self._selector.get_map():  # an earlier callback may have closed it
                key.data()

    # -- the store -------------------------------------------------------------------------

    def _connect_bells(self) -> None:
        self._bells = Wire(self._settings.address)
        channels = (routing.BELL, routing.node_channel(self._incarnation))
        self._bells.send(pack(("SUBSCRIBE", *channels)))
        self._watch(self._bells, self._on_bell)

    def _on_bell(self) -> None:
        assert self._bells is not None
        try:
            pushes = self._bells.receive(0)
        except ClusterUnreachableError:
            self._unwatch(self._bells)
            self._bells.close()
            self._bells = None
            return
        words = {reply[2] for reply in pushes if isinstance(reply, PUSH) and reply[0] == b"message"}
        for word in words:
            if word.startswith(b"flush:"):
                self._flush_output(word[6:].decode())
        if b"kill" in words:
            self._safe_tick()
        self._look()

    def _safe_tick(self) -> bool:
        """Tick; False when this node has lost its place and must end its workers."""
        try:
            if self._bells is None:
                self._connect_bells()
            alive = self._tick()
        except ClusterUnreachableError as error:
            alive = time.monotonic() - self._renewed < FENCE_SECONDS + 8
            logger.warning("%s", error)
        if not alive:
            logger.error("this node lost its lease; its workers end now")
        return alive

    def _tick(self, *, first: bool = False) -> bool:
        names = [
            routing.lease_key(self._incarnation), routing.NODES,
            routing.kill_key(self._incarnation), routing.SESSIONS,
        ]  # fmt: skip
        alive, kills, dead, sessions = self._store.scripts.tick(
            names, self._incarnation, LEASE_MS, self._describe(), first, routing.lease_key("")
        )
        if not alive:
            return False
        now = time.monotonic()
        if now - self._renewed > LEASE_MS / 1000:
            self._steady_since = now
        self._renewed = now
        if now - self._steady_since < LEASE_MS / 1000:
            # The store was away, or we were: others may be as alive as we are, and only have not
            # renewed yet.
            dead = []
        for actor_id in kills:
            self._kill_actor(actor_id)
        for incarnation in dead:
            logger.warning("node %s is lost; taking over what it owned", incarnation)
            node_lost(self._store, incarnation, self._ttl)
        for session in sessions:
            end_session(self._store, session, self._ttl)
        self._look()
        return True

    def _describe(self) -> str:
        held = {name: amount for name, amount in self._ledger.total.items()}
        return json.dumps({
            "host": self._settings.host, "pid": os.getpid(), "total": held,
            "free": self._ledger.free, "workers": len(self._workers),
        })  # fmt: skip

    def _kill_actor(self, actor_id: str) -> None:
        for worker in self._workers.values():
            if worker.assignment.actor_id == actor_id and worker.pid and not worker.killed:
                worker.killed = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
        if not any(w.assignment.actor_id == actor_id for w in self._workers.values()):
            self._store.run("SREM", routing.kill_key(self._incarnation), actor_id)

    # -- placement -------------------------------------------------------------------------

    def _look(self) -> None:
        """Take what the resources allow."""
        if self._stop:
            return
        try:
            self._take_work()
        except (ClusterUnreachableError, StoreError) as error:
            logger.warning("looking for work failed, the next tick tries again: %s", error)

    def _take_work(self) -> None:
        raw = self._store.hash(routing.NEEDS)
        self._needs = {
            label: Need(tuple((name, amount) for name, amount in json.loads(amounts)))
            for label, amounts in raw.items()
        }
        self._fill_resident()
        for label, need in self._needs.items():
            while self._starting() < STARTING and self._claim_actor(label, need):
                pass
            self._serve_shared(label, need)

    def _starting(self) -> int:
        return sum(1 for worker in self._workers.values() if not worker.ready)

    def _claim_actor(self, label: str, need: Need) -> bool:
        if self._ledger.total.get("CPU", 0) == 0 and not need.amounts:
            return False  # Ray: an actor without a stated need is placed on a node that has a CPU
        allocation = self._ledger.acquire(need)
        if allocation is None:
            return False
        owner = f"{self._incarnation}|{secrets.token_hex(4)}"
        claim = self._store.scripts.claim(
            routing.creation_queue(label), routing.owned_key(self._incarnation),
            routing.lease_key(self._incarnation), owner, routing.PREFIX,
        )  # fmt: skip
        if claim is None:
            self._ledger.release(allocation)
            return False
        meta = claim.meta
        name = meta.get("name", "").partition("\x1f")[2] or None
        self._spawn(
            Assignment(
                worker_id=f"a-{claim.actor_id}-{owner[-8:]}", queue=claim.queue,
                epoch=claim.epoch, owner=owner, position=int(meta["ap"]), actor_id=claim.actor_id,
                label=routing.worker_label(meta["class"], name, claim.actor_id), meta=meta,
                environ=_environment(need, allocation),
            ),
            allocation,
        )  # fmt: skip
        return True

    def _fill_resident(self) -> None:
        """Keep one worker ready for each free CPU, one more for each that waits in a `get`."""
        resident = [w for w in self._workers.values() if w.is_resident and not w.retiring]
        blocked = sum(1 for worker in resident if worker.blocked)
        wanted = self._ledger.free.get("CPU", 0) // _RESIDENT.amounts[0][1] + blocked
        for _ in range(len(resident), wanted):
            self._spawn_shared(_RESIDENT, resident=True, allocation=None)
        if len(resident) <= wanted:
            self._surplus_since = 0.0
            return
        now = time.monotonic()
        self._surplus_since = self._surplus_since or now
        if now - self._surplus_since > TICK_SECONDS:
            idle = [w for w in resident if not w.blocked and w.ready]
            for worker in sorted(idle, key=lambda w: w.born)[wanted - blocked :]:
                worker.retiring = True
                os.kill(worker.pid, signal.SIGTERM)

    def _serve_shared(self, label: str, need: Need) -> None:
        if label == _RESIDENT.label:
            return
        queue = routing.shared_queue(label)
        waiting = int(self._store.run("LLEN", queue))
        serving = sum(
            1 for w in self._workers.values() if w.assignment.queue == queue and not w.ready
        )
        while serving < waiting and self._starting() < STARTING:
            allocation = self._ledger.acquire(need)
            if allocation is None:
                return
            self._spawn_shared(need, resident=False, allocation=allocation)
            serving += 1

    def _spawn_shared(self, need: Need, *, resident: bool, allocation: Allocation | None) -> None:
        worker_id = f"w-{secrets.token_hex(6)}"
        owner = f"{self._incarnation}|{worker_id}"
        queue = routing.shared_queue(need.label)
        words = ("ep", "1", "own", owner, "ap", 0, "go", 0, "source", queue, "st", "alive",
                 "resident", "1" if resident else "0")  # fmt: skip
        self._store.run("HSET", routing.worker_keys(worker_id).meta, *words)
        self._store.run("SADD", routing.owned_key(self._incarnation), worker_id)
        environ = _environment(need, allocation)
        self._spawn(
            Assignment(
                worker_id=worker_id, queue=queue, epoch="1", owner=owner, resident=resident,
                label=f"tasks-{need.label}-{worker_id[-4:]}", environ=environ,
                meta={"class": "task"},
            ),
            allocation,
        )  # fmt: skip

    def _spawn(self, assignment: Assignment, allocation: Allocation | None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        progress = os.memfd_create("ca-progress", os.MFD_CLOEXEC)
        os.ftruncate(progress, 8)
        job, label = assignment.meta.get("job", ""), assignment.meta.get("class", "")
        outputs = [
            Output(out_read, 1, label, job, self._publish),
            Output(err_read, 2, label, job, self._publish),
        ]
        worker = _Worker(assignment, ours, progress, outputs, allocation)
        self._workers[assignment.worker_id] = worker
        self._zygote.spawn(assignment, [theirs.fileno(), out_write, err_write, progress])
        theirs.close()
        os.close(out_write)
        os.close(err_write)
        self._watch(ours, lambda: self._on_word(worker))
        for output in outputs:
            self._watch(output, lambda output=output: self._on_output(output))  # type: ignore[misc] # mypy cannot infer a lambda's default

    # -- workers ---------------------------------------------------------------------------

    def _on_word(self, worker: _Worker) -> None:
        data = worker.control.recv(64 * 1024)
        if not data:
            self._unwatch(worker.control)
            return
        word = json.loads(data)
        worker.ready = worker.ready or bool(word.get("ready"))
        worker.init_failed = word.get("init_failed", worker.init_failed)
        if "blocked" in word:
            worker.blocked = word["blocked"]
            self._look()
        elif word.get("ready"):
            self._look()

    def _on_output(self, output: Output) -> None:
        if not output.pump():
            self._unwatch(output)

    def _publish(self, job: str, batch: LogBatch) -> None:
        batch.node = self._settings.host
        if self._abandoned:
            return
        with contextlib.suppress(ClusterUnreachableError):  # prints are not worth a crash
            self._store.run("PUBLISH", routing.log_channel(job), msgspec.json.encode(batch))

    def _flush_output(self, job: str) -> None:
        for worker in self._workers.values():
            for output in worker.outputs:
                output.pump()
        self._publish(job, LogBatch("", 0, 0, [], flushed=True))

    def _on_zygote(self) -> None:
        word = self._zygote.receive()
        if word is None:
            logger.error("the fork server ended; this node cannot go on")
            self._stop = True
            self._unwatch(self._zygote)
            return
        if "started" in word:
            worker = self._workers[str(word["started"])]
            worker.pid = int(word["pid"])
            for output in worker.outputs:
                output.pid = worker.pid
            return
        worker = self._workers.pop(str(word["ended"]))
        self._ended(worker, int(word["status"]))
        self._look()

    def _ended(self, worker: _Worker, status: int) -> None:
        self._unwatch(worker.control)
        with contextlib.suppress(OSError):
            worker.control.setblocking(False)
            while data := worker.control.recv(64 * 1024):
                worker.init_failed = json.loads(data).get("init_failed", worker.init_failed)
        for output in worker.outputs:
            self._unwatch(output)
            output.pump()
            output.close()
        mine = worker.assignment
        cause = worker.init_failed or describe_exit(status, worker.pid, self._settings.host)
        if self._stop and not worker.init_failed:
            cause = f"its node {self._settings.host} was stopped ({self._reason})"
        lost = Lost(cause, worker.progress_value, bool(worker.init_failed))
        worker.control.close()
        os.close(worker.progress)
        if worker.allocation is not None:
            self._ledger.release(worker.allocation)
        if self._abandoned:
            return
        try:
            if mine.actor_id:
                actor_lost(self._store, mine.actor_id, mine.queue, mine.owner, lost, self._ttl)
                names = (routing.kill_key(self._incarnation), routing.owned_key(self._incarnation))
                for name in names:
                    self._store.run("SREM", name, mine.actor_id)
            else:
                shared_lost(self._store, mine.worker_id, mine.owner, lost, self._ttl)
        except (ClusterUnreachableError, StoreError) as error:
            logger.warning("%s; another node takes over what worker %s left", error, mine.label)

    # -- the end ---------------------------------------------------------------------------

    def _drain(self, *, graceful: bool) -> None:
        """End the workers: politely first, where the node stops by itself."""
        number = signal.SIGTERM if graceful else signal.SIGKILL
        deadline = time.monotonic() + _DRAIN_SECONDS
        told: set[str] = set()
        self._stop = True
        while self._workers:
            if time.monotonic() > deadline:
                number = signal.SIGKILL
                told.clear()
            for worker_id, worker in list(self._workers.items()):
                if worker.pid and worker_id not in told:
                    told.add(worker_id)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker.pid, number)
            self._poll(0.2)
        with contextlib.suppress(ClusterUnreachableError):
            if graceful:
                node_lost(self._store, self._incarnation, self._ttl)
                self._store.run("UNLINK", routing.lease_key(self._incarnation))
        self._zygote.sock.close()
        self._store.close()
