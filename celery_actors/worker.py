"""The worker process: forked warm, one actor or one shared queue, until it is told to stop."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import io
import json
import logging
import mmap
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any

from . import code, routing, runtime
from .actor_loop import ActorLoop, Aside
from .assignment import TAG, Assignment, NodeSettings
from .broker.celery_worker import CeleryWorker
from .directory import spec_context
from .errors import ClusterUnreachableError, FencedError, RayError
from .executor import Executor, Outcome, Prepared
from .mailbox import Mailbox
from .runtime import Runtime
from .shared_loop import SharedLoop

__all__ = ["run_worker"]

logger = logging.getLogger(__name__)

EXIT_DONE, EXIT_INIT_FAILED, EXIT_FENCED = 0, 90, 91


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


class _Process:
    """The process around a loop: signals, the line to the supervisor, Celery's side."""

    def __init__(
        self, settings: NodeSettings, assignment: Assignment, control: socket.socket, progress: int
    ) -> None:
        self.settings = settings
        self.assignment = assignment
        self.stopping = False
        self._control = control
        self._progress = mmap.mmap(progress, 8)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._job = assignment.meta.get("job", "")
        self._label = assignment.meta.get("class", "worker")
        self._celery: CeleryWorker | None = None
        self.runtime: Runtime | None = None

    # -- Host ------------------------------------------------------------------------------

    def started(self, position: int) -> None:
        """Note the position where a crash leaves it readable for the supervisor."""
        struct.pack_into("<q", self._progress, 0, position)

    def clear_wakeups(self) -> None:
        """Empty the wake-up pipe; look for a word from the supervisor."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 512):
                pass

    def wake(self) -> None:
        """Make the main thread look around; callable from any thread and signal handler."""
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
        tag = prepared.message.tag
        if not self.assignment.actor_id:
            self._job, self._label = tag.job, label
        if self._celery is not None:
            self._celery.begin(prepared.message.call_id, label)

    def end(self, prepared: Prepared, outcome: Outcome, seconds: float) -> None:  # noqa: ARG002
        """Note the end of the call."""
        if self._celery is not None:
            error = None if outcome.succeeded else "see the result"
            result = (prepared.message.call_id, "…", "", error)
            self._celery.end(prepared.message.task, result)

    # -- the process -----------------------------------------------------------------------

    def tell(self, **words: Any) -> None:
        """Send a word to the supervisor."""
        with contextlib.suppress(OSError):  # the supervisor is gone: we are about to be, too
            self._control.send(json.dumps(words).encode())

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
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("celery").setLevel(logging.WARNING)
        signal.signal(signal.SIGTERM, lambda *_: self.drain())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the node, which drains us
        settings = self.settings
        self.runtime = Runtime(
            settings.address, settings.ring, job=self._job or None,
            namespace=self.assignment.meta.get("namespace", ""), node_id=settings.node_id,
            result_seconds=settings.result_seconds,
        )  # fmt: skip
        self.runtime.calls.self_queue = self.assignment.queue
        runtime.set_current(self.runtime)
        return self.runtime

    def mailbox(self, source: str) -> Mailbox:
        """Return the mailbox of the assignment."""
        mine = self.assignment
        return Mailbox(
            self.settings.address, mine.keys, source=source, epoch=mine.epoch, owner=mine.owner,
            position=mine.position, ttl=self.settings.result_seconds, wake_fd=self._wake_read,
            mark=mine.meta.get("max_restarts", "0") != "0",
            peek_seconds=10 if mine.resident else 1,
        )  # fmt: skip

    def start_celery(self) -> None:
        """Start the Celery worker beside us.

        Not for a lent worker, which lives for one nested call: two hundred of them would announce
        themselves and take leave for nothing. Its calls are still reported where events are on.
        """
        mine = self.assignment
        if mine.lent and not self.settings.task_events:
            return
        queue = mine.queue
        self._celery = CeleryWorker(
            self.settings.app, routing.worker_name(mine.label, self.settings.host), queue,
            task_events=self.settings.task_events, on_shutdown=self.drain,
        )  # fmt: skip
        self._celery.start()

    def close(self) -> None:
        """End the helpers of the process, as far as they answer."""
        if self._celery is not None:
            self._celery.stop()
        if self.runtime is not None:
            self.runtime.close()
        sys.stdout.flush()
        sys.stderr.flush()


def run_worker(
    settings: NodeSettings, assignment: Assignment, control: socket.socket, progress: int
) -> int:
    """Run one worker to its end and return the exit status. The main thread runs user code."""
    process = _Process(settings, assignment, control, progress)
    try:
        context = process.set_up()
        if assignment.actor_id:
            return _run_actor(process, context)
        return _run_shared(process, context)
    except FencedError as error:
        logger.warning("%s: %s; this process ends", assignment.label, error)
        return EXIT_FENCED
    except ClusterUnreachableError as error:
        logger.error("%s: %s", assignment.label, error)  # noqa: TRY400 - the message says it all
        return EXIT_FENCED
    finally:
        process.close()


def _adopt(context: Runtime, job: str) -> None:
    """Work for this driver from now on: its modules can be imported, its names are found."""
    context.job = job
    raw = context.store.get(routing.session_key(job)) if job else None
    if raw is not None:
        driver = json.loads(raw)
        sys.path.extend(entry for entry in driver["path"] if entry not in sys.path)
        importlib.invalidate_caches()
        context.namespace = driver["namespace"]


def _construct(context: Runtime, mine: Assignment) -> tuple[Any, dict[str, Any]]:
    """Run the constructor; return the instance and what its handles can call."""
    _adopt(context, mine.meta.get("job", ""))
    context.namespace = mine.meta["namespace"]
    cls = code.load_code(mine.meta["code"], context.fetch_code, context.sealer)
    spec = context.store.get(mine.keys.spec)
    if spec is None:
        raise RayError("the creation record is not in the store any more")
    args, kwargs, methods = context.sealer.open(spec, spec_context(mine.actor_id))
    args, kwargs = _resolve(context, args, kwargs)
    return cls(*args, **kwargs), methods


def _run_actor(process: _Process, context: Runtime) -> int:
    mine = process.assignment
    keys = mine.keys
    try:
        instance, methods = _construct(context, mine)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the constructor raises ends the actor
        text = "".join(traceback.format_exception(error))[-16_000:]
        title = f"{mine.meta['class']}.__init__"
        process.tell(init_failed=f"{title} raised {type(error).__name__}: {error}\n{text}")
        return EXIT_INIT_FAILED
    fields: dict[str, Any] = {"st": "alive", "pid": os.getpid(), "node": process.settings.node_id}
    if not context.store.scripts.mark(keys.meta, mine.epoch, mine.owner, fields):
        return EXIT_FENCED
    process.tell(ready=True)

    def find(method: str) -> tuple[Callable[..., Any], str] | None:
        if method not in methods:
            return None
        label = routing.task_name(mine.meta["class"], method)
        if method == "__ray_ready__":
            return (lambda: True), label
        return getattr(instance, method), label

    process.start_celery()
    mailbox = process.mailbox("")
    executor = Executor(context, mine.actor_id)
    aside = Aside(context, keys, mine.epoch, mine.owner)
    loop = ActorLoop(context, mailbox, executor, process, find, aside, process.wake)
    return _serve(loop, mailbox)


def _resolve(context: Runtime, args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    """Replace references among constructor arguments by their values."""
    from .object_ref import ObjectRef

    refs = [value for value in (*args, *kwargs.values()) if isinstance(value, ObjectRef)]
    if refs:
        context.results.wait(refs, len(refs), None, fail_fast=True)

    def value(given: Any) -> Any:
        return context.results.value(given) if isinstance(given, ObjectRef) else given

    return [value(a) for a in args], {name: value(v) for name, v in kwargs.items()}


def _run_shared(process: _Process, context: Runtime) -> int:
    mine = process.assignment
    keys = mine.keys
    functions: dict[str, Callable[..., Any]] = {}

    def load(prepared: Prepared) -> tuple[Callable[..., Any], str]:
        tag = prepared.message.tag
        if tag.job and tag.job != context.job:
            _adopt(context, tag.job)
        function = functions.get(tag.code)
        if function is None:
            if not tag.code:
                raise RayError(
                    f"{prepared.message.task} was sent without code; call it by .remote()"
                )
            function = functions[tag.code] = code.load_code(
                tag.code, context.fetch_code, context.sealer
            )
        return function, prepared.message.task

    def give_back(keep: int) -> None:
        need = "" if mine.resident else routing.need_of_queue(mine.queue)
        names = [keys.queue, keys.meta, mine.queue]
        context.store.scripts.give_back(names, mine.epoch, mine.owner, keep, need, routing.BELL)

    def lend(blocked: bool) -> None:
        process.tell(blocked=blocked)

    process.tell(ready=True)
    process.start_celery()
    mailbox = process.mailbox(mine.queue)
    executor = Executor(context, mine.queue)
    loop = SharedLoop(context, mailbox, executor, process, load, give_back, lend, mine.resident)
    status = _serve(loop, mailbox)
    give_back(0)
    return status


def _serve(loop: ActorLoop | SharedLoop, mailbox: Mailbox) -> int:
    try:
        loop.run()
        loop.finish()
    finally:
        mailbox.close()
    return EXIT_DONE
