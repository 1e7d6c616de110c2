"""The parent of a node's workers: starts, watches and ends them, and renews the node's lease.

One thread, one poll: the fork server, the workers' control sockets and output, the store's bells.
The store is asked once a second and whenever a bell rings.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from .. import directory, routing, store_check
from ..assignment import Assignment, LogBatch, NodeSettings
from ..errors import GROUP_REMOVED, ClusterUnreachableError
from ..gpu import Devices
from ..log_format import secrets_of
from ..placement import Grant, Ledger
from ..registry import SESSION_MS
from ..shared_memory import SharedFolder
from ..store import Scripts, ScriptsMissingError, Store, StoreError, Tick, silence_of
from ..store.wire import patiently
from .bells import Bells
from .beside import Beside
from .buffer_server import BufferServer
from .console import console_of
from .draining import Draining
from .facts import Facts, Tally, Window, facts_of
from .intake import Intake, sent_by_others
from .outgrown import end_outgrown
from .output import Output
from .presence import Presence, view_of
from .printed import Printed
from .process import WorkerProcess, launch
from .pulse import Pulse
from .reconcile import Reconcile
from .recovery import Lost, describe_exit, end_session, node_lost
from .reservations import Reservations
from .rouser import Rouser
from .stranded import Stranded
from .words import cancellation, drain_seconds
from .zygote import ZygoteLink

__all__ = ["Supervisor", "SupervisorOptions"]

logger = logging.getLogger(__name__)

LEASE_MS = 3_000
TICK_SECONDS = 1.0
#: Seconds before the end of the lease from which on a process asks the store whether it still owns
#: what it is about to begin: longer than a word to the store is under way.
MARGIN_SECONDS = 1.0
#: Seconds for which running calls may go on after SIGTERM.
STOP_SECONDS = 30.0
#: Seconds in which `load-scripts` may start beside a node that must not load them itself.
LOADER_SECONDS = 15.0
_STORE_TROUBLE = (ClusterUnreachableError, StoreError)


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """What a node has."""

    num_cpus: float
    devices: Devices
    resources: dict[str, float]
    memory: int = 0  # bytes
    labels: dict[str, str] = field(default_factory=dict)
    lifeline: int | None = None  # a pipe whose end says that the driver is gone
    ready: int | None = None  # a pipe to write one line to when the node serves
    memory_per_actor: int = 0  # bytes; 0: any
    beside: Sequence[str] = ()  # the command of a Celery worker that runs with the node
    beside_environ: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None  # of the local cluster, whose program removes it as it ends


class Supervisor:
    """One run of one node."""

    def __init__(
        self, settings: NodeSettings, options: SupervisorOptions, zygote: ZygoteLink,
        shared: SharedFolder | None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._options = options
        self._zygote = zygote
        self._buffers = BufferServer(settings, shared) if shared is not None else None
        self._store = Store(settings.address)
        secrets = secrets_of(settings.address, settings.ring)
        self._printed = Printed(self._store, settings.node_id, settings.host, secrets)
        self._ttl = settings.result_seconds
        self._incarnation = settings.node_id
        self._workers: dict[str, WorkerProcess] = {}
        me = view_of(
            settings, options.devices, num_cpus=options.num_cpus, memory=options.memory,
            resources=options.resources, labels=options.labels,
        )  # fmt: skip
        self._stranded = Stranded(self._store, self._incarnation, self._ttl)
        self._reconcile = Reconcile(self._store, self._incarnation, settings.host, self._ttl)
        self._rouser = Rouser(self._store)
        self._pulse = Pulse(self._store, self._incarnation, self._workers.values)
        self._reservations = Reservations(self._store, me, self._free, self._end_in)
        self._intake = Intake(
            self._store, me, options.devices, self._reservations, self._stranded,
            sent_by_others(me), self._workers.values, self._start,
        )  # fmt: skip
        self._presence = Presence(
            settings, me, self._intake, self._reservations, self._workers, shared
        )
        self._selector = selectors.DefaultSelector()
        self._bells = Bells(
            settings.address, self._incarnation, self._on_words, self._watch, self._unwatch
        )
        self.window, self.tally = Window(self._facts), Tally()
        self._console = console_of(settings.watching.log_format, settings.host, secrets)
        self._beside = Beside(options.beside, options.beside_environ)
        self._draining: Draining | None = None
        self._abandoned = False
        self._renewed = self._steady_since = time.monotonic()
        self._trusted = 0.0  # until when our processes may count on the lease

    # -- life ------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._watch(wake_read, lambda: self._empty(wake_read))
        self._watch(self._zygote, self._on_zygote)
        self._watch(self.window, self.window.answer)
        if self._options.lifeline is not None:
            self._watch(self._options.lifeline, self._on_driver_gone)
        patiently(lambda: Scripts.load(self._store.run), LOADER_SECONDS, (ScriptsMissingError,))
        # Not before: the fork server and the workers have output of their own.
        logging.getLogger().addHandler(self._printed.own)
        store_check.warn(self._store, embedded=self._options.folder is not None)
        self._bells.tick()
        self._tick(first=True)
        if self._buffers is not None:
            self._buffers.start()
        if self._options.ready is not None:
            os.write(
                self._options.ready, json.dumps({"node_id": self._incarnation}).encode() + b"\n"
            )
            os.close(self._options.ready)
        next_tick = time.monotonic() + TICK_SECONDS
        alive = True
        while alive and not self._abandoned:
            if self._draining is not None:
                if not self._workers and not self._beside.runs:
                    break
                self._draining.look(self._workers.values())
                self._beside.end(self._draining.over)
            self._poll(max(0.0, next_tick - time.monotonic()))
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_SECONDS
                alive = self._safe_tick()
        if self._abandoned or not alive:
            self._drain("its driver ended" if alive else "it lost its place", 0.0, serves=False)
        self._leave(settled=alive and not self._abandoned)
        return 0 if alive else 1

    def _on_signal(self, number: int, _frame: Any) -> None:
        self._drain(signal.Signals(number).name, STOP_SECONDS, serves=False)

    def _drain(self, why: str, seconds: float, *, serves: bool) -> None:
        """Begin to end; again: with another patience."""
        self._draining = Draining(why, seconds, serves=serves)
        self._presence.draining = True

    def _on_driver_gone(self) -> None:
        # The store ends with the driver, too: nothing is left to be settled there.
        self._abandoned = True

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
            # An earlier callback may have closed it, and its number may be in use again.
            if self._selector.get_map().get(key.fd) is key:
                key.data()

    # -- the store -------------------------------------------------------------------------

    def _on_words(self, words: set[bytes]) -> None:
        for word in words:
            if word.startswith(b"flush:"):
                self._flush_output(word[6:].decode(errors="replace"))
            elif word.startswith(b"{"):
                self._cancel(word)
            elif word.startswith(routing.DRAIN.encode()):
                self._on_drain(word)
        if b"kill" in words:
            self._safe_tick()
        else:
            self._look()

    def _on_drain(self, word: bytes) -> None:
        seconds = drain_seconds(word)
        if seconds is not None:
            logger.info("this node drains, for %g s at most", seconds)
            self._drain("celery_actors drain", seconds, serves=True)
            self._safe_tick()  # and say so

    def _safe_tick(self) -> bool:
        """Tick; False when this node has lost its place and must end its workers."""
        try:
            self._bells.tick()
            alive = self._tick()
        except _STORE_TROUBLE as error:
            if (folder := self._options.folder) is not None and not folder.exists():
                self._abandoned = True  # the program has ended, and its server with it
                return True
            self._presence.not_told()
            self._reconcile.hasten()
            self._steady_since = time.monotonic()
            # Its lease is over long before; until the end of its patience the store's fence keeps
            # its workers from committing what is not theirs.
            alive = self._steady_since - self._renewed < self._settings.address.patience
            logger.warning("%s", error)
        if not alive:
            logger.error(
                "this node lost its lease: another one took it for dead, or the store lost writes. "
                "Its workers end now"
            )
        return alive

    def _tick(self, *, first: bool = False) -> bool:
        names = [
            routing.lease_key(self._incarnation), routing.NODES,
            routing.kill_key(self._incarnation), routing.SESSIONS, routing.DYING,
            routing.gone_key(self._incarnation),
        ]  # fmt: skip
        if (face := self._presence.face()) is not None:
            self._start(face, None)
        asked = time.monotonic()
        heard = self._store.scripts.tick(
            names, self._incarnation, LEASE_MS, self._presence.news(), first, routing.lease_key("")
        )
        if not heard.alive:
            return False
        now = time.monotonic()
        if now - self._renewed > LEASE_MS / 1000:
            self._steady_since = now
        self._renewed = now
        self._trusted = asked + LEASE_MS / 1000 - MARGIN_SECONDS
        for worker in self._workers.values():
            worker.trust(self._trusted)
        if self._options.memory_per_actor:
            limit = self._options.memory_per_actor
            end_outgrown(self._workers.values(), limit, self._settings.host)
        if self._draining is None:
            self._beside.look()
        for actor_id in heard.kills:
            self._kill_actor(actor_id)
        self._judge(heard, now)
        with contextlib.suppress(StoreError):  # a full store keeps no lines, and its node lives
            self._printed.flush_own()
        self._look()
        present = self._present()
        self._reconcile.bury(heard.dying)
        self._reconcile.look(present)
        self._rouser.look(present)
        self._pulse.look(now)
        return True

    def _judge(self, heard: Tick, now: float) -> None:
        """Take over what lost nodes owned; end what lost drivers had made."""
        # After a pause of ours or of the store, others may be as alive as we are and only not
        # have renewed yet: judge them after one whole lease of theirs, and after the time that some
        # need longer than others to find a new primary.
        steady = now - self._steady_since - (silence_of(self._settings.address) or 0)
        if steady >= LEASE_MS / 1000:
            for incarnation in heard.dead:
                logger.warning("node %s is lost; taking over what it owned", incarnation)
                node_lost(self._store, incarnation, self._ttl)
        if steady >= SESSION_MS / 1000:
            for session in heard.expired:
                logger.warning("driver %s is lost; ending its actors", session)
                end_session(self._store, session, self._ttl)

    def _present(self) -> list[Assignment]:
        return [worker.assignment for worker in self._workers.values()]

    def _free(self) -> dict[str, int]:
        return self._intake.free()

    def _facts(self) -> Facts:
        """Return what watchers may know; the node's face is no worker of theirs."""
        workers = [facts_of(worker) for worker in self._workers.values() if not worker.is_face]
        draining = self._draining is not None
        return Facts(self._renewed, draining, *self._intake.shows(), workers)

    def _end_in(self, books: Ledger) -> bool:
        """End what runs on a reservation that is over; tell whether something still does."""
        inside = [worker for worker in self._workers.values() if worker.books is books]
        for worker in inside:
            mine = worker.assignment
            if mine.actor_id:
                directory.end(self._store, mine.actor_id, mine.queue, GROUP_REMOVED, self._ttl)
            worker.signal(signal.SIGKILL)
        return bool(inside)

    def _kill_actor(self, actor_id: str) -> None:
        mine = [w for w in self._workers.values() if w.assignment.actor_id == actor_id]
        for worker in mine:
            worker.signal(signal.SIGKILL)
        if not mine:
            self._store.run("SREM", routing.kill_key(self._incarnation), actor_id)

    def _cancel(self, raw: bytes) -> None:
        """Pass a cancellation on to the workers that may have the call."""
        word = cancellation(raw)
        for worker in self._workers.values():
            if word is not None and worker.assignment.queue in word.queues:
                worker.tell(msgspec.to_builtins(word))

    def _look(self) -> None:
        try:
            if self._draining is None:
                self._intake.look()
            else:
                self._intake.resume()
        except _STORE_TROUBLE as error:
            self._reconcile.hasten()
            logger.warning("looking for work failed, the next tick tries again: %s", error)

    # -- workers ---------------------------------------------------------------------------

    def _start(self, assignment: Assignment, grant: Grant | None) -> None:
        worker = launch(self._zygote, assignment, grant, self._publish, self._console)
        worker.trust(self._trusted)
        self._workers[assignment.worker_id] = worker
        self.tally.begins(facts_of(worker))
        self._watch(worker.control, lambda: self._on_word(worker))
        for output in worker.outputs:
            self._watch(output, self._output_callback(output))

    def _output_callback(self, output: Output) -> Callable[[], None]:
        def pump() -> None:
            if not output.pump():
                self._unwatch(output)

        return pump

    def _on_word(self, worker: WorkerProcess) -> None:
        word = worker.hear()
        if word is None:
            self._unwatch(worker.control)
        elif "drain" in word:
            self._drain(str(word["drain"]), STOP_SECONDS, serves=False)
        elif "awaits" in word:
            self._intake.part(worker)
            self._look()
        elif "begun" in word:
            self._look()
        elif "blocked" in word or "ready" in word:
            self._lend(worker)
            self._look()

    def _lend(self, worker: WorkerProcess) -> None:
        """Let other calls have the CPUs of a worker that waits for them: recursion must go on.

        Resident workers hold no allocation: the intake counts those that wait.
        """
        grant = worker.grant
        if grant is None or worker.blocked == worker.has_lent:
            return
        worker.has_lent = worker.blocked
        change = grant.ledger.lend_cpus if worker.blocked else grant.ledger.take_cpus
        change(grant.allocation)

    def _publish(self, assignment: Assignment, job: str, batch: LogBatch) -> None:
        if not self._abandoned:
            with contextlib.suppress(*_STORE_TROUBLE):  # prints are not worth a crash
                self._printed.take(assignment, job, batch)

    def _flush_output(self, job: str) -> None:
        for worker in self._workers.values():
            for output in worker.outputs:
                output.pump()
                output.flush(job)
        with contextlib.suppress(*_STORE_TROUBLE):
            done = LogBatch("", 0, 0, [], self._settings.host, flushed=True)
            self._store.run("PUBLISH", routing.log_channel(job), msgspec.json.encode(done))

    def _on_zygote(self) -> None:
        word = self._zygote.receive()
        if word is None:
            logger.error("the fork server ended; this node cannot go on")
            self._drain("its fork server ended", 0.0, serves=False)
            self._unwatch(self._zygote)
            self._workers.clear()  # they end with it
        elif "started" in word:
            self._workers[str(word["started"])].began(int(word["pid"]))
        else:
            worker = self._workers.pop(str(word["ended"]))
            self._ended(worker, int(word["status"]))
            self._look()

    def _ended(self, worker: WorkerProcess, status: int) -> None:
        for source in (worker.control, *worker.outputs):
            self._unwatch(source)
        worker.close()
        position, tries, overdue = worker.note()
        cause = worker.init_failed or worker.left or worker.rolled_back
        if overdue and not cause:
            cause = "its call ran longer than its deadline, so the process was ended"
        if worker.rolled_back:
            logger.error("worker %s: %s", worker.assignment.label, worker.rolled_back)
        drained = False
        if self._draining is not None and self._draining.has_told(worker):
            drained = True
            cause = cause or self._draining.cause(worker, self._settings.host)
        cause = cause or worker.outgrown or describe_exit(status, worker.pid, self._settings.host)
        lost = Lost(
            cause, position, bool(worker.init_failed), worker.frozen, bool(worker.left), tries,
            bool(worker.rolled_back), worker.seen, drained,
        )  # fmt: skip
        self.tally.ends(facts_of(worker), position, frozen=bool(worker.frozen))
        self._pulse.note(worker)
        os.close(worker.progress)
        if worker.grant is not None:
            worker.hand_back(worker.grant.ledger)
        if self._abandoned or worker.is_face:
            return
        self._reconcile.ended(worker, lost, self._present())

    # -- the end ---------------------------------------------------------------------------

    def _leave(self, *, settled: bool) -> None:
        """End what still runs, at once; with ``settled`` leave nothing to other nodes."""
        while self._workers and self._draining is not None:
            self._draining.look(self._workers.values())
            self._poll(0.2)
        self._beside.leave()
        if settled:
            with contextlib.suppress(*_STORE_TROUBLE):
                mine = self._incarnation
                self._store.run("UNLINK", routing.lease_key(mine), routing.vitals_key(mine))
                node_lost(self._store, mine, self._ttl)
        logging.getLogger().removeHandler(self._printed.own)
        if self._buffers is not None:
            self._buffers.stop()
        self._zygote.sock.close()
        self._store.close()
        if self._draining is not None:
            logger.info("this node has ended: %s", self._draining.why)
