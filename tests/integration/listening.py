"""Hears the events of a cluster, as Flower does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery


@contextlib.contextmanager
def capturing(app: Celery) -> Iterator[list[dict[str, Any]]]:
    """Collect the events of a cluster in a thread, as Flower does."""
    found: list[dict[str, Any]] = []
    stop = threading.Event()

    def capture() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": found.append})
            with receiver.consumer_context(wakeup=True) as (own_connection, _channel, _consumers):
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        own_connection.drain_events(timeout=0.1)

    thread = threading.Thread(target=capture, name="events")
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def of_type(events: list[dict[str, Any]], kind: str) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [event for event in events if event["type"] == kind]
