"""Celery's task events of a cluster, as Flower and ``celery events`` hear them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from ..errors import ClusterUnreachableError

__all__ = ["EventListener"]

logger = logging.getLogger(__name__)

#: Seconds between two rounds in which workers are asked to send events: new ones come.
ASK_SECONDS = 5.0
#: Seconds that they have for a reply.
REPLY_SECONDS = 1.0
#: Seconds for which events that are under way are waited for at the end.
LAST_SECONDS = 0.3
_TROUBLE = (OperationalError, KombuError, OSError)


class EventListener:
    """Hears the events of calls for a while, and has workers send them that do not yet.

    Args:
        take: gets each event, in the thread that listens.
    """

    def __init__(self, app: Celery, take: Callable[[dict[str, Any]], None]) -> None:
        self._app = app
        self._take = take
        self._over = threading.Event()
        self._ask_again = threading.Event()
        #: Workers that send events because we have asked them to, and stop with us.
        self.turned_on: set[str] = set()
        self.listens = threading.Event()
        #: Hears after each round how many workers have answered: these send events now.
        self.on_round: Callable[[int], None] = lambda _workers: None

    def stop(self) -> None:
        """Let ``run`` end; callable from any thread and signal handler."""
        self._over.set()
        self._ask_again.set()

    def run(self, seconds: float | None = None) -> None:
        """Listen until ``stop``, or for so long.

        Raises:
            ClusterUnreachableError: the broker does not answer.
        """
        end = None if seconds is None else time.monotonic() + seconds
        try:
            with self._app.connection_for_read() as connection:
                connection.ensure_connection(max_retries=1)
                receiver = self._app.events.Receiver(connection, handlers={"*": self._on_event})
                with receiver.consumer_context(wakeup=True) as (own, _channel, _consumers):
                    self.listens.set()
                    with self._having_events_sent():
                        while not self._over.is_set() and (end is None or time.monotonic() < end):
                            _drain(own)
                        last = time.monotonic() + LAST_SECONDS
                        while time.monotonic() < last:
                            _drain(own)
        except _TROUBLE as error:
            raise ClusterUnreachableError(
                f"Celery's events cannot be heard, the broker does not answer: {error}"
            ) from None

    def _on_event(self, event: dict[str, Any]) -> None:
        if event.get("type") == "worker-online":
            self._ask_again.set()
        self._take(event)

    @contextlib.contextmanager
    def _having_events_sent(self) -> Iterator[None]:
        """Have every worker send events; at the end no more than before."""
        thread = threading.Thread(target=self._ask, name="ca-events", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()
            if self.turned_on:
                self._app.control.broadcast("disable_events", destination=list(self.turned_on))

    def _ask(self) -> None:
        while not self._over.is_set():
            self._ask_again.clear()
            try:
                replies = self._app.control.broadcast(
                    "enable_events", reply=True, timeout=REPLY_SECONDS
                )
            except _TROUBLE as error:
                logger.warning("workers could not be asked for events: %s", error)
                replies = []
            for reply in replies or ():
                for worker, word in reply.items():
                    if "already" not in str(word.get("ok", "already")):
                        self.turned_on.add(worker)
            self.on_round(len(replies or ()))
            self._ask_again.wait(ASK_SECONDS)


def _drain(connection: Any) -> None:
    with contextlib.suppress(TimeoutError):
        connection.drain_events(timeout=0.1)
