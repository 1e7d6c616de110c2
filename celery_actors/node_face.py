"""A node as Celery's tools see it: ``node@host``, and the queues that it could serve at present.

It consumes nothing itself: its supervisor takes the work, and workers that it starts run it.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from typing import Any

from . import log_format, routing
from .assignment import Assignment, NodeSettings
from .broker.celery_worker import CeleryWorker

__all__ = ["run_face"]

_WORD_BYTES = 64 * 1024


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
    celery = CeleryWorker(
        settings.app,
        name,
        assignment.queues or (),
        task_events=settings.task_events,
        on_shutdown=drain,
    )
    celery.start()
    control.send(json.dumps({"ready": True}).encode())
    while data := control.recv(_WORD_BYTES):
        celery.serve(json.loads(data)["queues"])
    celery.stop()
    return 0
