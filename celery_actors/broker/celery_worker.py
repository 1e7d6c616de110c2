"""A genuine Celery worker in a background thread, whose task consumer is our loop.

Heartbeats, events and remote control are Celery's own. The main thread belongs to user code, so a
long method never makes the worker look offline.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from celery import Celery, bootsteps
from celery.apps.worker import Worker
from celery.platforms import EX_FAILURE
from celery.utils.time import utcoffset
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.consumer.connection import Connection
from celery.worker.consumer.consumer import Evloop
from celery.worker.consumer.control import Control
from celery.worker.consumer.events import Events
from celery.worker.consumer.heart import Heart
from kombu.asynchronous import set_event_loop
from kombu.entity import Queue

from ..messages import lineage_of

__all__ = ["CeleryWorker", "preload"]

logger = logging.getLogger(__name__)

#: What Celery imports only when a worker starts.
_LATE_IMPORTS = (
    "billiard.connection",
    "billiard.dummy",
    "billiard.pool",
    "billiard.reduction",
    "celery.app.log",
    "celery.backends.redis",
    "celery.concurrency.solo",
    "celery.events.dispatcher",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.control",
    "celery.worker.pidbox",
    "kombu.pidbox",
    "kombu.transport.redis",
)
#: Seconds between heartbeats. Flower calls a worker offline after twice this; Celery's own 2 s
#: would cost 500 idle actors 250 messages a second.
HEARTBEAT_SECONDS = 5.0
#: Seconds after which a Celery side that has met an error starts again.
AGAIN_SECONDS = 5.0
#: Seconds for which task events are gathered into one message.
EVENT_SECONDS = 0.05
#: Calls whose events are kept until the worker's Celery side is up.
EARLY_EVENTS = 1_000


#: Seconds after which the worker announces itself. Its start takes tens of milliseconds of
#: processor time, and calls that wait for a restarted actor come first.
CALM_SECONDS = 0.05


class _TaskSource:
    """Stands where Celery keeps its kombu consumer: names the queue, consumes nothing."""

    def __init__(self, queues: Sequence[str]) -> None:
        self.serve(queues)
        self.on_message: Any = None

    def serve(self, queues: Sequence[str]) -> None:
        """Name the queues."""
        self.queues = [Queue(queue, routing_key=queue, no_declare=True) for queue in queues]

    def consume(self) -> None:
        """Consuming is the mailbox's work, in the main thread."""

    def cancel(self) -> None:
        """Nothing to cancel."""

    close = cancel


class _Qos:
    """A prefetch count that never changes."""

    value = prev = 1

    def update(self) -> None:
        """Nothing to update."""


class MailboxTasks(bootsteps.StartStopStep):
    """The consumer step that stands for our mailbox."""

    requires = (Events,)

    def start(self, c: Any) -> None:
        """Tell the rest of the worker which queue it serves."""
        c.task_consumer = _TaskSource(c.controller.mailbox_queues)
        c.qos = _Qos()
        c.qos_global = False

    def info(self, _c: Any) -> dict[str, int]:
        """For `inspect stats`."""
        return {"prefetch_count": 1}


class EarlyEvents(bootsteps.StartStopStep):
    """Sends what happened before the worker could say so."""

    requires = (Heart,)

    def start(self, c: Any) -> None:
        """Plan one flush."""
        c.hub.call_soon(c.controller.flush_events)


class MailboxControl(Control):
    """Celery's remote control, started after our step instead of Celery's own."""

    requires = (MailboxTasks,)
    name = "celery_actors.Control"


class MailboxConsumer(Consumer):
    """Celery's consumer without its task consumer, mingle and gossip."""

    class Blueprint(bootsteps.Blueprint):
        """The steps of a worker whose calls come by a mailbox."""

        name = "Consumer"
        default_steps = (
            Connection, Events, Heart, EarlyEvents, MailboxTasks, MailboxControl, Evloop,
        )  # fmt: skip

        def shutdown(self, parent: Any) -> None:
            """Shut every step down."""
            self.send_all(parent, "shutdown")


class ActiveCall:
    """A running call as Celery's remote control knows it: what `inspect active` shows."""

    # Celery gives each active request the event dispatcher of its new connection.
    __slots__ = (
        "__weakref__", "_cancel", "begun", "call_id", "eventer", "hostname", "label", "raw",
    )  # fmt: skip

    def __init__(
        self, hostname: str, call_id: str, label: str, raw: bytes, cancel: Callable[[str], Any]
    ) -> None:
        self.hostname = hostname
        self._cancel = cancel
        self.call_id = call_id
        self.label = label
        self.raw = raw  # its message
        self.begun = time.time()

    id = property(lambda self: self.call_id)
    name = property(lambda self: self.label)

    def terminate(self, _pool: Any, signal: Any = None) -> None:  # noqa: ARG002 - Celery's signature
        """Stop it, as `revoke(terminate=True)` asks: in its process, which goes on."""
        self._cancel(self.call_id)

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002 - Celery's signature
        """As celery.worker.request.Request.info."""
        return {
            "id": self.call_id, "name": self.label, "type": self.label, "args": [], "kwargs": {},
            "hostname": self.hostname, "time_start": self.begun, "acknowledged": False,
            "delivery_info": {}, "worker_pid": os.getpid(),
        }  # fmt: skip


class _Worker(Worker):
    """Celery's worker program, without what belongs to a program of its own."""

    mailbox_queues: Sequence[str] = ()
    flush_events: Callable[[], None]

    def on_before_init(self, quiet: bool = False, **_options: Any) -> None:
        """Leave out the check for root: it guards pickle, which these workers never accept."""
        self.quiet = quiet

    def setup_logging(self, **_options: Any) -> bool:
        """Leave logging as the process has set it up, and with it the environment.

        Celery writes what it has chosen into ``os.environ``. In a thread that corrupts the
        environment of a program which the user's code starts in the same moment: ``EFAULT``.
        """
        return True

    def install_platform_tweaks(self, worker: Any) -> None:
        """Leave the signals to the main thread."""

    def set_process_status(self, info: str) -> None:
        """Leave the process title as the fork server set it."""


class CeleryWorker:
    """One Celery worker, beside the main thread that serves its queue."""

    def __init__(
        self, app: Celery, hostname: str, queues: Sequence[str], *, task_events: bool,
        on_shutdown: Callable[[], None], cancel: Callable[[str], Any] = lambda _call_id: None,
    ) -> None:  # fmt: skip
        self._app = app
        self._cancel = cancel
        self.hostname = hostname
        self._queues = queues
        self._task_events = task_events
        self._on_shutdown = on_shutdown
        self._active: dict[str, ActiveCall] = state.requests  # where `revoke` looks for them
        self._worker: Any = None
        self._events: deque[tuple[Any, ...]] = deque()
        self._flush_planned = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ca-celery", daemon=True)

    def start(self) -> None:
        """Start the worker's thread; returns before the worker is visible to others."""
        self._thread.start()

    def _run(self) -> None:
        """Serve until somebody ends it; a failure here must not end what the main thread does."""
        if self._over.wait(CALM_SECONDS):
            return
        while not self._serve() and not self._over.wait(AGAIN_SECONDS):
            logger.warning("the Celery side of %s starts again", self.hostname)
        if not self._over.is_set():
            self._on_shutdown()  # Celery's remote control said so

    def _serve(self) -> bool:
        """Run one worker to its end; False where it failed."""
        set_event_loop(None)
        try:
            worker = self._worker = _Worker(
                app=self._app, hostname=self.hostname, pool_cls="solo", concurrency=1, quiet=True,
                without_mingle=True, without_gossip=True, task_events=self._task_events,
                heartbeat_interval=HEARTBEAT_SECONDS, loglevel="WARNING", optimization=None,
                consumer_cls=MailboxConsumer, queues=[],
            )  # fmt: skip
            worker.mailbox_queues = self._queues
            worker.flush_events = self._flush_events
            worker.start()
        except Exception:
            logger.exception("the Celery side of %s ended", self.hostname)
            return False
        return bool(
            worker.exitcode != EX_FAILURE
        )  # which says that it has met an error, and logged it

    def serve(self, queues: Sequence[str]) -> None:
        """Name other queues from now on."""
        self._queues = queues
        if self._worker is not None:
            self._worker.mailbox_queues = queues  # for the next connection
            source = getattr(getattr(self._worker, "consumer", None), "task_consumer", None)
            if source is not None:
                source.serve(queues)

    def stop(self) -> None:
        """Say good-bye to watchers and end the thread."""
        self._over.set()
        if self._thread.is_alive():
            state.should_stop = 0
            hub = getattr(self._worker, "hub", None)
            if hub is not None:
                hub.call_soon(lambda: None)
            self._thread.join(timeout=3)

    def is_revoked(self, call_id: str) -> bool:
        """Tell whether `revoke` has named this call."""
        return bool(state.revoked) and call_id in state.revoked

    # -- called by the main thread around each call ----------------------------------------

    def begin(self, call_id: str, label: str, raw: bytes) -> None:
        """Note a running call."""
        active = ActiveCall(self.hostname, call_id, label, raw, self._cancel)
        self._active[call_id] = active
        state.active_requests.add(active)

    def message_of(self, call_id: str) -> bytes:
        """Return the message of a running call; empty for any other."""
        active = self._active.get(call_id)
        return b"" if active is None else active.raw

    def end(self, label: str, result: tuple[Any, ...]) -> None:
        """Count the call; ``result`` describes it for the task events: first its id."""
        active = self._active.pop(result[0])
        state.active_requests.discard(active)
        state.total_count[label] += 1
        state.all_total_count[0] += 1
        if self._wants_events():
            lineage = lineage_of(active.raw)
            self._events.append((active.begun, time.time(), label, lineage, *result))
            if not self._flush_planned and self._dispatcher() is not None:
                self._flush_planned = True
                hub = self._worker.consumer.hub
                hub.call_soon(lambda: hub.call_later(EVENT_SECONDS, self._flush_events))

    def _wants_events(self) -> bool:
        """Tell whether somebody wants to hear of calls: an option, or remote control since."""
        dispatcher = self._dispatcher()
        if dispatcher is None:  # not up yet: keep the first calls for it
            return self._task_events and len(self._events) < EARLY_EVENTS
        return not dispatcher.groups or "task" in dispatcher.groups

    def _dispatcher(self) -> Any:
        consumer = getattr(self._worker, "consumer", None)
        dispatcher = getattr(consumer, "event_dispatcher", None)
        return dispatcher if dispatcher is not None and dispatcher.enabled else None

    def _flush_events(self) -> None:
        self._flush_planned = False
        calls, self._events = self._events, deque()
        dispatcher = self._dispatcher()
        if not calls or dispatcher is None:
            return
        encoded = _encode_events(calls, self.hostname, dispatcher.clock)
        with dispatcher.mutex:
            dispatcher.producer.publish(
                encoded, routing_key="task.multi", exchange=dispatcher.exchange.name,
                content_type="application/json", content_encoding="utf-8",
                headers=dispatcher.headers, delivery_mode=dispatcher.delivery_mode,
            )  # fmt: skip


def _encode_events(calls: deque[tuple[Any, ...]], hostname: str, clock: Any) -> str:
    """Return the received, started and succeeded or failed events of the calls, as JSON."""
    pid, offset = os.getpid(), utcoffset()
    events: list[dict[str, Any]] = []
    for begun, ended, label, lineage, call_id, arguments, outcome, error in calls:
        common = {"uuid": call_id, "hostname": hostname, "pid": pid, "utcoffset": offset}
        received = {
            "type": "task-received", "timestamp": begun, "name": label, "args": arguments,
            "kwargs": "{}", "root_id": lineage.root_id or call_id,
            "parent_id": lineage.parent_id or None, "retries": 0, "eta": None,
            "expires": None, "clock": clock.forward(), **common,
        }  # fmt: skip
        started = {"type": "task-started", "timestamp": begun, "clock": clock.forward(), **common}
        finished = {"timestamp": ended, "clock": clock.forward(), **common}
        if error is None:
            finished |= {"type": "task-succeeded", "result": outcome, "runtime": ended - begun}
        else:
            finished |= {"type": "task-failed", "exception": outcome, "traceback": error}
        events += (received, started, finished)
    return msgspec.json.encode(events).decode()


def preload(app: Celery) -> None:
    """Import and finalize everything a forked worker needs, so that a fork is all it takes."""
    for name in _LATE_IMPORTS:
        importlib.import_module(name)
    app.finalize()
    app.loader.import_default_modules()
    _ = app.amqp, app.control, app.events, app.log, app.Worker
