"""From another broker into the store: what Celery clients send to our queues on RabbitMQ.

A node consumes there the queues of its actors and the shared queues that it has room for, and
moves each message into the store's queue of the same name. It acknowledges a message once it is
there, so a node that dies loses none, and the store knows a message that is delivered again. No
message is held for longer than that takes: neither RabbitMQ's ``consumer_timeout`` nor a quorum
queue's delivery limit is met. One message at a time and queue, so their order stays.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.messaging import Consumer
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
)

from ..errors import RayError

__all__ = ["Ingress"]

logger = logging.getLogger(__name__)

#: Seconds between two looks for queues that are new or gone.
LOOK_SECONDS = 0.5
#: Seconds before a lost connection is tried again.
AGAIN_SECONDS = 1.0


class Ingress:
    """Moves messages of one node's queues, in a thread of its own.

    Args:
        app: the user's app: its broker, and how it declares queues.
        queues: returns the names of the queues to consume now.
        move: puts a message, by its id, into a queue of the store, once.
    """

    def __init__(
        self, app: Celery, queues: Callable[[], Iterable[str]],
        move: Callable[[str, str, bytes], None],
    ) -> None:  # fmt: skip
        self._app = app
        self._queues = queues
        self._move = move
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ca-ingress", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was not moved yet stays with the broker."""
        self._over.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        lost = (*self._app.connection_for_read().recoverable_connection_errors, RayError, OSError)
        while not self._over.is_set():
            try:
                with self._app.connection_for_read() as connection:
                    self._serve(connection)
            except lost as error:
                if not self._over.is_set():
                    logger.warning("the broker or the store is away (%s); trying again", error)
                self._over.wait(AGAIN_SECONDS)

    def _serve(self, connection: Connection) -> None:
        connection.connect()
        consumers: dict[str, tuple[Any, Consumer]] = {}  # the channel, and who consumes on it
        looked = 0.0
        try:
            while not self._over.is_set():
                if time.monotonic() - looked > LOOK_SECONDS:
                    looked = time.monotonic()
                    self._follow(connection, consumers, set(self._queues()))
                    connection.heartbeat_check()
                try:
                    connection.drain_events(timeout=LOOK_SECONDS / 2)
                except TimeoutError:
                    continue
        finally:
            for _, consumer in consumers.values():
                consumer.cancel()

    def _follow(
        self, connection: Connection, consumers: dict[str, tuple[Any, Consumer]],
        wanted: set[str],
    ) -> None:  # fmt: skip
        """Consume the queues that are wanted now, and no others."""
        for name in [name for name in consumers if name not in wanted]:
            channel, consumer = consumers.pop(name)
            consumer.cancel()
            channel.close()
        for name in wanted - consumers.keys():
            consumers[name] = self._consume(connection, name)

    def _consume(self, connection: Connection, name: str) -> tuple[Any, Consumer]:
        # As the user's app declares it when it sends there: two declarations must be the same.
        queue = self._app.amqp.queues[name]
        channel = connection.channel()
        consumer = Consumer(
            channel, [queue], no_ack=False, accept=None, prefetch_count=1,
            on_message=lambda message: self._take(name, message),
        )  # fmt: skip
        if (queue.queue_arguments or {}).get("x-queue-type") == "quorum":
            bind_queue_to_native_delayed_delivery_exchange(connection, queue)
        consumer.consume()
        return channel, consumer

    def _take(self, queue: str, message: Any) -> None:
        call_id = str(message.headers.get("id") or message.properties.get("correlation_id") or "")
        if not call_id:
            logger.error("a message without an id on %s was rejected", queue)
            message.reject()
            return
        self._move(queue, call_id, _as_stored(message, queue, call_id))
        message.ack()


def _as_stored(message: Any, queue: str, call_id: str) -> bytes:
    """Return a message in the shape that kombu's Redis transport stores."""
    body = message.body
    data: bytes = body.encode() if isinstance(body, str) else bytes(body)
    properties = {
        "correlation_id": call_id, "reply_to": message.properties.get("reply_to"),
        "delivery_mode": 2, "priority": 0, "delivery_tag": call_id, "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": queue},
    }  # fmt: skip
    stored = {
        "body": b64encode(data).decode(), "content-type": message.content_type,
        "content-encoding": message.content_encoding, "headers": message.headers,
        "properties": properties,
    }  # fmt: skip
    return json.dumps(stored, default=str).encode()
