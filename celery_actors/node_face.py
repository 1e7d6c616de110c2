"""A node as Celery's tools see it: ``node@host``, and the queues that it could serve at present.

It consumes nothing itself: its supervisor takes the work, and workers that it starts run it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
from collections.abc import Iterable
from typing import Any

from . import directory, log_format, routing
from .app_settings import address_of
from .assignment import Assignment, NodeSettings
from .broker.app import on_broker_of
from .broker.celery_worker import CeleryWorker
from .broker.ingress import Ingress
from .broker.task_trace import load_user_app
from .errors import ConfigurationError
from .mailbox import PATIENCE_SECONDS
from .store import Store

__all__ = ["run_face"]

logger = logging.getLogger(__name__)

_WORD_BYTES = 64 * 1024
#: Passive actors that one look at the other broker asks for, twice a second.
RESTING = 20


def run_face(settings: NodeSettings, assignment: Assignment, control: socket.socket) -> int:
    """Answer Celery's remote control for the node until its supervisor says so, or is gone."""

    def end(*_: Any) -> None:
        with contextlib.suppress(OSError):
            control.shutdown(socket.SHUT_RD)

    def drain() -> None:
        with contextlib.suppress(OSError):
            control.send(
                json.dumps({"drain": "it was told so by Celery's remote control"}).encode()
            )

    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGINT, lambda *_: None)
    log_format.set_up(
        settings.watching.log_format, assignment.shown_as(settings.host),
        log_format.secrets_of(settings.address, settings.ring), marked=True,
    )  # fmt: skip
    name = routing.worker_name(assignment.label, settings.host)
    app, ingress = _on_other_broker(settings, name)
    celery = CeleryWorker(
        app,
        name,
        assignment.queues or (),
        task_events=settings.task_events,
        on_shutdown=drain,
    )
    celery.start()
    if ingress is not None:
        ingress.serve(assignment.queues or ())
        ingress.start()
    control.send(json.dumps({"ready": True}).encode())
    while data := control.recv(_WORD_BYTES):
        queues = json.loads(data)["queues"]
        celery.serve(queues)
        if ingress is not None:
            ingress.serve(queues)
    if ingress is not None:
        ingress.stop()
    celery.stop()
    return 0


def _on_other_broker(settings: NodeSettings, name: str) -> tuple[Any, NodeIngress | None]:
    """Return the app for remote control, and what moves messages where the broker is no store."""
    app = settings.app
    if not settings.user_app:
        return app, None
    try:
        user_app = load_user_app(settings.user_app, name, app)
    except Exception:
        logger.exception("the Celery app %s (-A) cannot be imported", settings.user_app)
        return app, None
    _compare_prefixes(user_app, settings)
    found = on_broker_of(user_app, app)
    return found, NodeIngress(settings, user_app) if found is not app else None


def _compare_prefixes(user_app: Any, settings: NodeSettings) -> None:
    """Say so where the app and this node would not find each other in the same database."""
    try:
        of_app = address_of(user_app)
    except ConfigurationError:
        return  # an app with other settings than ours is asked for nothing but its tasks
    own = settings.address
    if of_app.place == own.place and of_app.prefix != own.prefix:
        logger.error(
            "the app %s has the global_keyprefix %r, and this node's address has %r: what the app "
            "sends does not arrive here. Start the node without an address, or with %s",
            settings.user_app, of_app.prefix, own.prefix, of_app.public,
        )  # fmt: skip


class NodeIngress:
    """What a node takes in from another broker: for its actors, and what it has room for."""

    def __init__(self, settings: NodeSettings, user_app: Any) -> None:
        self._store = Store(settings.address, away=PATIENCE_SECONDS)
        self._owned = routing.owned_key(settings.node_id)
        self._seconds = settings.result_seconds
        self._shared: tuple[str, ...] = ()
        self._cursor: Any = 0
        self._ingress = Ingress(
            user_app, self._queues, self._resting, self._is_over, self._move
        )  # fmt: skip

    def serve(self, queues: Iterable[str]) -> None:
        """Name the shared queues that the node has room for."""
        calls = routing.shared_queue("")
        self._shared = tuple(queue for queue in queues if queue.startswith(calls))

    def _queues(self) -> dict[str, bool]:
        owned = [each for each in self._store.texts("SMEMBERS", self._owned)
                 if not each.startswith("w-")]  # fmt: skip
        return dict.fromkeys(self._shared, False) | dict.fromkeys(self._queues_of(owned), True)

    def _resting(self) -> list[str]:
        """Return the queues of some passive actors: a message wakes one, and no node owns it."""
        words = ("SSCAN", routing.PASSIVE, self._cursor, "COUNT", RESTING)
        self._cursor, found = self._store.run(*words)
        return self._queues_of([each.decode() for each in found])

    def _queues_of(self, actors: list[str]) -> list[str]:
        found = self._store.run("HMGET", routing.ACTORS, *actors) if actors else []
        return [queue.decode() for queue in found if queue]

    def _is_over(self, queue: str) -> bool:
        """Tell whether nobody will serve this queue again: that of a name is its next actor's."""
        actor_id = routing.anonymous_actor(queue)
        if not actor_id:
            return False
        record = directory.find(self._store, actor_id, queue)
        return record is None or record.state == "DEAD"

    def _move(self, queue: str, call_id: str, message: bytes) -> None:
        mark = routing.ingress_key(call_id)
        if self._store.scripts.ingress(queue, mark, self._seconds, message):
            self._store.run("PUBLISH", routing.BELL, queue)

    def start(self) -> None:
        """Begin to move messages."""
        self._ingress.start()

    def stop(self) -> None:
        """End."""
        self._ingress.stop()
        self._store.close()
