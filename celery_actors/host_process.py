"""The process around a worker's loop: signals, streams, the supervisor's words, Celery's side."""

from __future__ import annotations

import contextlib
import faulthandler
import heapq
import inspect
import io
import json
import logging
import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from . import code, last_error, log_format, routing, runtime, tracing
from .actor_loop import SEEN_CALLS
from .assignment import ERROR_OFFSET, PROGRESS_BYTES, TAG, Assignment, NodeSettings
from .broker.app import on_broker_of
from .broker.celery_worker import CeleryWorker
from .broker.task_trace import load_user_app
from .current_call import CurrentCall, WorkerFacts, current_call
from .errors import RayError, StoreRolledBackError
from .executor import Outcome, Prepared
from .glimpse import failure_of
from .interrupts import Interrupts
from .mailbox import PATIENCE_SECONDS, Mailbox
from .messages import Lineage, call_id_of, lineage_of
from .records import RaisedAt
from .runtime import Runtime
from .store.wire import patiently

__all__ = ["EXIT_CANCELLED", "HostProcess"]

logger = logging.getLogger(__name__)

EXIT_CANCELLED = 93
_WORD_BYTES = 64 * 1024
#: Call ids in one word to the supervisor.
_IDS_IN_WORD = 500


class _TaggedStream(io.TextIOWrapper):
    """Standard output that says, before text, which driver and which call it belongs to."""

    tag: Callable[[], str]
    _written = ""

    def write(self, text: str) -> int:
        """Write text, with a tag line before it where the tag has changed."""
        tag = self.tag()
        if tag != self._written and text:
            self._written = tag
            super().write(f"{TAG}{tag}\n")
        return super().write(text)


#: The signals that mean something else to us than to other processes.
_OURS = (signal.SIGTERM, signal.SIGINT)


def _as_any_process() -> None:
    """Let signals end what user code forks, such as the processes of a ``multiprocessing.Pool``.

    They are blocked meanwhile: one that comes right after the fork would meet our handler.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)


class HostProcess:
    """The process around a loop: signals, the line to the supervisor, Celery's side."""

    def __init__(
        self, settings: NodeSettings, assignment: Assignment, control: socket.socket, progress: int
    ) -> None:
        self.settings = settings
        self.assignment = assignment
        self.stopping = self.awakened = False
        self.leaving = ""
        self.crashed: SystemExit | None = None
        self._control = control
        self._progress = mmap.mmap(progress, PROGRESS_BYTES)
        self.interrupts = Interrupts(lambda when: struct.pack_into("<d", self._progress, 16, when))
        self._noting = threading.Lock()
        self._alarms: list[float] = []
        self._alarms_changed = threading.Condition()
        self._types: dict[str, Any] = {}
        self.function_names: dict[str, str] = {}  # content hash -> name of a loaded function
        self._go = threading.Event()  # the node has given us what our work needs
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._job = assignment.meta.get("job", "")
        self._label = assignment.meta.get("class", "worker")
        self._celery: CeleryWorker | None = None
        self._message = b""  # of the running call, where there is no Celery side
        self._app: Any = None
        self.runtime: Runtime | None = None
        self.knows: Callable[[str, bool], str] | None = None  # the loop's word on a call

    # -- Host ------------------------------------------------------------------------------

    def started(self, position: int) -> None:
        """Note the position where a crash leaves it readable for the supervisor."""
        struct.pack_into("<qq", self._progress, 0, position, 0)
        struct.pack_into("<q", self._progress, 24, 1)

    def retried(self, count: int) -> None:
        """Note there that the running call runs again because of what it raised."""
        struct.pack_into("<q", self._progress, 8, count)

    def lease_lasts(self) -> bool:
        """Tell whether the node surely has its lease: then nobody has taken over what it owns."""
        (until,) = struct.unpack_from("<d", self._progress, 32)
        return time.monotonic() < float(until)

    def load_type(self, digest: str) -> Any:
        """Return a class by its content hash."""
        if digest not in self._types and self.runtime is not None:
            fetch = self.runtime.fetch_code
            self._types[digest] = code.load_code(digest, fetch, self.runtime.sealer)
        return self._types[digest]

    def wake_at(self, when: float) -> None:
        """Make the main thread look around at a moment (``time.monotonic``)."""
        with self._alarms_changed:
            if not self._alarms:
                threading.Thread(target=self._ring, name="ca-alarm", daemon=True).start()
            heapq.heappush(self._alarms, when)
            self._alarms_changed.notify()

    def _ring(self) -> None:
        """Wake the main thread at each moment asked for, as long as there are any."""
        with self._alarms_changed:
            while self._alarms:
                left = self._alarms[0] - time.monotonic()
                if left > 0:
                    self._alarms_changed.wait(left)
                    continue
                heapq.heappop(self._alarms)
                self.wake()

    def leave(self, why: str) -> None:
        """End the process once the running calls have ended; the actor stays ended."""
        self.leaving = self.leaving or why
        self.tell(left=self.leaving)

    def crash(self, request: SystemExit) -> None:
        """End the process: a call asked for it."""
        self.crashed = request
        self.wake()

    @contextlib.contextmanager
    def awaiting(self) -> Iterator[None]:
        """Around a wait for arguments, before user code runs: the node has our resources meanwhile.

        Raises:
            SystemExit: the node ends. The call has not begun: another process takes it.
        """
        mine = self.assignment
        if not mine.need.amounts or (mine.resident and not mine.actor_id):
            yield
            return
        self._go.clear()
        self.tell(awaits=True)
        try:
            yield
        finally:
            self.tell(awaits=False)
            while not self._go.wait(0.2):
                if self.stopping:
                    raise SystemExit(0)

    def clear_wakeups(self) -> None:
        """Empty the wake-up pipe; look for a word from the supervisor."""
        self.awakened = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 512):
                pass

    def wake(self) -> None:
        """Make the main thread look around; callable from any thread and signal handler."""
        self.awakened = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"w")

    def drain(self) -> None:
        """Finish the running call, then stop."""
        self.stopping = True
        self.wake()

    def is_revoked(self, call_id: str) -> bool:
        """Ask Celery's list of revoked tasks."""
        return self._celery is not None and self._celery.is_revoked(call_id)

    def begin(self, prepared: Prepared, label: str) -> None:
        """Note the running call for prints, `inspect active` and events."""
        message = prepared.message
        tag = message.tag
        name = message.options.name or label
        function_name = self.function_names.get(tag.code, label)
        current_call.set(CurrentCall(message.call_id, name, function_name))
        if not self.assignment.actor_id:
            self._job, self._label = tag.job, label
        if self._celery is not None:
            self._celery.begin(message.call_id, label, message.raw)
        else:
            self._message = message.raw
        if tracing.current is not None:
            tracing.current.begin(message, label)

    def end(self, prepared: Prepared, outcome: Outcome, seconds: float) -> None:  # noqa: ARG002
        """Note the end of the call."""
        struct.pack_into("<q", self._progress, 24, 0)
        if tracing.current is not None:
            tracing.current.end(prepared.message.call_id, succeeded=outcome.succeeded)
        record = outcome.answer.record
        if not outcome.succeeded:
            record = outcome.failure
            if failure := failure_of(record):
                with self._noting:  # calls may end in several threads
                    last_error.write(self._progress, ERROR_OFFSET, time.time(), failure.line)
        if self._celery is not None:
            self._celery.end(prepared.message, record, succeeded=outcome.succeeded)

    def find_app(self) -> Any:
        """Return the user's Celery app where the node has one (`-A`), else the cluster's own.

        Raises:
            ImportError, …: the user's modules raise.
        """
        if self._app is None:
            name = self.settings.user_app
            host = routing.worker_name(self.assignment.label, self.settings.host)
            self._app = load_user_app(name, host, self.settings.app) if name else self.settings.app
        return self._app

    def load_user_app(self) -> None:
        """Import the user's app before the user's code runs here: its signals' receivers are there.

        Raises:
            ImportError, …: as ``find_app``.
        """
        if self.settings.user_app:
            self.find_app()

    def show_as(self, instance: Any) -> None:
        """Let an actor's prints carry its own repr where its class defines one, as in Ray."""
        if not inspect.isfunction(type(instance).__repr__):  # object's, or a built-in base's
            return
        try:
            self._label = " ".join(repr(instance).split()) or self._label
        except Exception:  # a broken repr must not end the actor
            logger.exception("%s: its __repr__ failed; prints carry the class", self._label)

    # -- the process -----------------------------------------------------------------------

    def tell(self, **words: Any) -> None:
        """Send a word to the supervisor."""
        with contextlib.suppress(OSError):  # the supervisor is gone: we are about to be, too
            self._control.send(json.dumps(words).encode())

    def rolled_back(self, error: StoreRolledBackError) -> None:
        """Tell the supervisor that the store has lost what this process did, and which calls.

        What is in the queue now tells only an actor's process apart: calls that had begun here, and
        others that have come into their places.
        """
        self.tell(rolled_back=str(error))
        if self.knows is None or self.runtime is None or not self.assignment.actor_id:
            return
        words = ("LRANGE", self.assignment.keys.queue, -SEEN_CALLS, -1)
        waiting = [call_id_of(raw) for raw in self.runtime.store.run(*words)]
        begun = [found for found in waiting if self.knows(found, False) == "FINISHED"]
        for start in range(0, max(1, len(begun)), _IDS_IN_WORD):
            self.tell(seen=begun[start : start + _IDS_IN_WORD])

    def _hear(self) -> None:
        """Take in the supervisor's words: calls to cancel."""
        while True:
            try:
                data = self._control.recv(_WORD_BYTES)
            except OSError:
                return
            if not data:
                return
            try:
                word = json.loads(data)
                if "go" in word:
                    self._go.set()
                else:
                    self._cancel(word)
            except Exception:  # a deaf process could not be told of the next one
                logger.exception("a cancellation failed")

    def _cancel(self, word: dict[str, Any]) -> None:
        """Stop a call and what it has called; tell who asked what becomes of it here."""
        call_id, once, context = word["cancel"], word.get("once", ""), self.runtime
        if context is None:
            return
        canceller = context.canceller
        # Held from here on: a call that is stopped drops its references.
        children = context.results.children(call_id) if word["recursive"] else []
        try:
            if word["force"] and self.interrupts.is_running(call_id):
                canceller.cancel_all(children, once)
                logger.warning("call %s is cancelled with force", call_id)
                os._exit(EXIT_CANCELLED)
            runs = self.interrupts.cancel(call_id, once)
            self.wake()
            if self.knows is not None and (found := self.knows(call_id, runs)):
                canceller.answer(word["channel"], call_id, found)
            if word["recursive"]:
                canceller.cancel_all({*children, *context.results.children(call_id)}, once)
        except RayError as error:
            logger.warning("the cancellation of %s: %s", call_id, error)

    def set_up(self) -> Runtime:
        """Prepare streams, signals and the connection to the cluster."""
        os.environ.update(self.assignment.environ)
        # The Celery thread and the flusher must get a word in while a method computes; Python's
        # default lets a thread wait for 5 ms.
        sys.setswitchinterval(0.001)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            tagged = _TaggedStream(
                stream.buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True
            )
            tagged.tag = lambda: f"{self._job}:{self._label}"
            setattr(sys, name, tagged)
        faulthandler.enable(file=2)
        settings = self.settings
        log_format.set_up(
            settings.watching.log_format, self.assignment.shown_as(settings.host),
            log_format.secrets_of(settings.address, settings.ring), marked=True,
        )  # fmt: skip
        logging.getLogger("celery").setLevel(logging.WARNING)
        signal.signal(signal.SIGTERM, lambda *_: self.drain())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the node, which drains us
        os.register_at_fork(
            before=partial(signal.pthread_sigmask, signal.SIG_BLOCK, _OURS),
            after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, _OURS),
            after_in_child=_as_any_process,
        )
        make = partial(
            Runtime, settings.address, settings.ring, job=self._job or None,
            session=self.assignment.session,
            namespace=self.assignment.meta.get("namespace", ""), node_id=settings.node_id,
            result_seconds=settings.result_seconds, away_seconds=PATIENCE_SECONDS,
        )  # fmt: skip
        self.runtime = patiently(make, PATIENCE_SECONDS)
        self.runtime.find_app = self.find_app
        self.runtime.calls.self_queue = self.assignment.queue
        self.runtime.results.parent = _parent
        self.runtime.calls.lineage = self._lineage
        self.runtime.worker = _facts(self.assignment)
        if self.assignment.need.captures:
            self.runtime.capacity.captured = self.assignment.need.group[0]
        self.runtime.is_cancelled = self.interrupts.is_cancelled
        runtime.set_current(self.runtime)
        if settings.watching.otel:
            from .otel import instrument_worker

            instrument_worker()
        threading.Thread(target=self._hear, name="ca-control", daemon=True).start()
        return self.runtime

    def place(self, instance: object = None) -> RaisedAt:
        """Return where exceptions of this process, or of its actor, are raised."""
        mine = self.assignment
        own = inspect.isfunction(type(instance).__repr__)  # else object's, or a built-in base's
        shown = None
        if own:
            try:
                shown = repr(instance)
            except Exception:
                logger.exception("the __repr__ of %s failed; errors name the class", self._label)
        return RaisedAt(os.getpid(), self.settings.ip, mine.actor_id or None, shown)

    def mailbox(self, source: str, *, overlapping: bool = False) -> Mailbox:
        """Return the mailbox of the assignment; where calls overlap, none begins in line."""
        mine = self.assignment
        return Mailbox(
            self.settings.address, mine.keys, source=source, epoch=mine.epoch, owner=mine.owner,
            position=mine.position, ttl=self.settings.result_seconds, wake_fd=self._wake_read,
            mark=self._marks() and not overlapping, lease_lasts=self.lease_lasts,
            peek_seconds=10 if mine.resident else 1, only_rings=overlapping,
            on_thief=lambda: self.tell(thief=True),
        )  # fmt: skip

    def _marks(self) -> bool:
        """Tell whether calls are marked before they begin: those that could run once more.

        Not in a durable actor: what has not committed has had no effect.
        """
        about = self.assignment.meta
        return about.get("max_restarts", "0") != "0" and not about.get("durable")

    def _lineage(self) -> Lineage:
        """Return where calls come from that the running call makes."""
        parent = _parent()
        raw = self._message if self._celery is None else self._celery.message_of(parent)
        return Lineage(lineage_of(raw).root_id or parent, parent)

    def start_celery(self) -> None:
        """Start the Celery worker beside us.

        Not for a lent worker, which lives for one nested call: two hundred of them would announce
        themselves and take leave for nothing. Its calls are still reported where events are on.
        """
        mine = self.assignment
        if mine.lent and not self.settings.task_events:
            return
        queue, app = mine.queue, self.settings.app
        if self.settings.user_app:
            app = on_broker_of(self.find_app(), app)
        self._celery = CeleryWorker(
            app, routing.worker_name(mine.label, self.settings.host), [queue],
            task_events=self.settings.task_events, on_shutdown=self.drain,
            cancel=self.interrupts.cancel,
            show_arguments=self.settings.show_arguments,
        )  # fmt: skip
        self._celery.start()

    def close(self) -> None:
        """End the helpers of the process, as far as they answer."""
        if tracing.current is not None:
            tracing.current.close()
        if self._celery is not None:
            self._celery.stop()
        if self.runtime is not None:
            self.runtime.close()
        sys.stdout.flush()
        sys.stderr.flush()


def _facts(mine: Assignment) -> WorkerFacts:
    """Return what user code may ask about this process."""
    return WorkerFacts(
        mine.worker_id, mine.need.plain, mine.devices, mine.need.group[0], mine.actor_id,
        routing.split_name_field(mine.meta.get("name", ""))[1], int(mine.meta.get("restarts", 0)),
    )  # fmt: skip


def _parent() -> str:
    """Return the id of the call that the present code belongs to."""
    call = current_call.get()
    return call.call_id if call is not None else ""
