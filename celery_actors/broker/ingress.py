"""From another broker into the store: what Celery clients send to our queues on RabbitMQ.

A node consumes there the queues of its actors and the shared queues that it has room for, and
moves each message into the store's queue of the same name. It acknowledges a message once it is
there, so a node that dies loses none, and the store knows a message that is delivered again. No
message is held for longer than that takes: neither RabbitMQ's ``consumer_timeout`` nor a quorum
queue's delivery limit is met. One message at a time and queue, so their order stays.

Of two consumers, the second could move a message before the first has moved the one before it. So
an actor's queue has one consumer at a time. RabbitMQ's own *single active consumer* is an argument
of the queue, which every producer would have to declare, too, or be refused. A lock does the same,
whatever kind of queue it is: a queue of one connection alone (*exclusive*), which the broker
removes when that connection ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amqp.exceptions import AccessRefused, ChannelError, ResourceLocked
from celery import Celery
from kombu.connection import Connection
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from .. import routing
from ..errors import RayError

__all__ = ["Ingress"]

logger = logging.getLogger(__name__)

#: Seconds between two looks for queues that are new or gone.
LOOK_SECONDS = 0.5
#: Seconds before a lost connection, or a queue that the broker refused, is tried again.
AGAIN_SECONDS = 1.0
#: Seconds for which a queue that does not exist is not asked for again.
ABSENT_SECONDS = 5.0
#: Seconds between two signs of life. After two that are missing the broker gives what a node held
#: to the next one: without them a host that lost its power would hold a message for hours.
HEARTBEAT_SECONDS = 10


class Ingress:
    """Moves messages of one node's queues, in a thread of its own.

    Args:
        app: the user's app: its broker, and how it declares queues.
        queues: returns the queues to consume now, and whether each has one consumer at a time.
        resting: returns some queues that nobody consumes until there is a message.
        is_over: tells of a queue that is no longer wanted whether it can be removed.
        move: puts a message, by its id, into a queue of the store, once.
    """

    def __init__(
        self, app: Celery, queues: Callable[[], Mapping[str, bool]],
        resting: Callable[[], Iterable[str]], is_over: Callable[[str], bool],
        move: Callable[[str, str, bytes], None],
    ) -> None:  # fmt: skip
        self._app = app
        self._queues = queues
        self._resting = resting
        self._is_over = is_over
        self._move = move
        self._over = threading.Event()
        self._taken: dict[str, _Intake] = {}  # on the present connection
        self._refused: dict[str, tuple[float, str]] = {}  # queues: until when, and why
        self._thread = threading.Thread(target=self._run, name="ca-ingress", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was not moved yet stays with the broker."""
        self._over.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        seconds = min(self._app.conf.broker_heartbeat or 0, HEARTBEAT_SECONDS)
        connection = self._app.connection_for_read(heartbeat=seconds)
        # Also those that kombu calls irrecoverable: a broker's rights and queues can be mended.
        lost = (*connection.connection_errors, *connection.channel_errors, RayError, OSError)
        while not self._over.is_set():
            try:
                with connection.clone() as used:
                    self._serve(used)
            except lost as error:
                if not self._over.is_set():
                    logger.warning("the broker or the store is away (%s); trying again", error)
                self._over.wait(AGAIN_SECONDS)

    def _serve(self, connection: Connection) -> None:
        self._taken = {}  # what another connection had ended with it
        connection.connect()
        looked = 0.0
        while not self._over.is_set():
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                self._follow(connection, dict(self._queues()))
                connection.heartbeat_check()
            try:
                connection.drain_events(timeout=LOOK_SECONDS / 2)
            except TimeoutError:
                continue
        for intake in self._taken.values():
            intake.let_go()

    def _follow(self, connection: Connection, wanted: dict[str, bool]) -> None:
        """Consume the queues that are wanted now, and no others."""
        refused = connection.channel_errors
        wanted |= dict.fromkeys(self._with_messages(connection, self._resting()), True)
        for name in self._taken.keys() - wanted.keys():
            self._taken.pop(name).let_go(for_good=self._is_over(name))
        for name, alone in wanted.items():
            if name in self._taken or self._put_off(name):
                continue
            intake = _Intake(connection, self._app, name, alone=alone, move=self._move)
            try:
                if intake.begin():
                    self._taken[name] = intake
                self._refused.pop(name, None)
            except refused as error:
                _, known = self._refused.get(name, (0.0, ""))
                self._refused[name] = time.monotonic() + AGAIN_SECONDS, str(error)
                if str(error) != known:
                    logger.warning("the broker refuses %s (%s); trying again", name, error)

    def _put_off(self, name: str) -> bool:
        """Tell whether a queue that was refused is not to be tried again yet."""
        until, _ = self._refused.get(name, (0.0, ""))
        return time.monotonic() < until

    def _with_messages(self, connection: Connection, names: Iterable[str]) -> list[str]:
        """Return those of the queues whose actor rests that have a message for it.

        What is moved wakes the actor: from the next look on its node, which may be another, wants
        the queue. Until then it is this node's, as if the actor were here.
        """
        found: list[str] = []
        if not (names := list(names)):
            return found
        with connection.channel() as channel:
            for name in names:
                if name in self._taken or self._put_off(name):
                    continue
                try:
                    if channel.queue_declare(queue=name, passive=True).message_count:
                        found.append(name)
                except ChannelError as error:
                    _check_absent(error)
                    self._refused[name] = time.monotonic() + ABSENT_SECONDS, ""
        return found


def _check_absent(error: ChannelError) -> None:
    """Raise what is not about a queue, or an exchange, that does not exist."""
    if int(error.reply_code or 0) != 404:  # of its own class only with RabbitMQ
        raise error


class _Intake:
    """One queue's consumer, on a channel of its own."""

    def __init__(
        self, connection: Connection, app: Celery, name: str, *, alone: bool,
        move: Callable[[str, str, bytes], None],
    ) -> None:  # fmt: skip
        self._connection = connection
        self._app = app
        self._name = name
        self._lock = routing.ingress_lock(name) if alone else ""
        self._move = move
        self._channel = connection.channel()
        self._is_over = False

    def begin(self) -> bool:
        """Consume; False: another node does still, and is to be waited for."""
        if self._lock and not self._locked():
            self._channel.close()
            return False
        try:
            # The lock of a connection that broke may be gone before its consumers are.
            if self._declare() and self._lock:
                self._release()
                return False
            self._consume()
        except BaseException:
            self._release()
            raise
        return True

    def let_go(self, *, for_good: bool = False) -> None:
        """End. What has been delivered and not moved is back in its place before others consume.

        The channel is closed and not cancelled: a quorum queue may deliver once more after that,
        and what is then refused goes to the end of the queue.

        ``for_good``: nobody will want the queue again, and it is removed if it is empty. Its
        exchange stays, where a producer has declared one: who publishes there in vain loses his
        channel, and with it other messages.
        """
        self._is_over = True
        self._channel.close()
        if for_good:
            with self._connection.channel() as channel, contextlib.suppress(ChannelError):
                # Quorum queues know no `if_empty`.
                if not channel.queue_declare(queue=self._name, passive=True).message_count:
                    channel.queue_delete(queue=self._name)
        self._release()

    def _locked(self) -> bool:
        try:
            self._channel.queue_declare(
                queue=self._lock, exclusive=True, durable=False, auto_delete=False
            )
        except ResourceLocked:
            return False
        return True

    def _release(self) -> None:
        self._channel.close()
        if self._lock and self._connection.connected:
            with self._connection.channel() as channel:
                channel.queue_delete(queue=self._lock)

    def _declare(self) -> int:
        """Return how many consume the queue; it is made as the app would, where there is none.

        One that exists may be what another program's app has declared, with other arguments.
        """
        queue = self._app.amqp.queues[self._name]
        try:
            found = self._channel.queue_declare(queue=self._name, passive=True)
        except ChannelError as error:
            _check_absent(error)
            # Not its exchange, which producers declare who send by it.
            queue(self._channel).queue_declare()
            consumers = 0
        else:
            consumers = int(found.consumer_count)
        if (queue.queue_arguments or {}).get("x-queue-type") == "quorum":
            _bind_to_delayed_delivery(self._connection, self._app, queue)
        return consumers

    def _consume(self) -> None:
        self._channel.basic_qos(0, 1, False)
        words = {"queue": self._name, "no_ack": False, "callback": self._take}
        if not self._lock:
            self._channel.basic_consume(**words)
            return
        try:
            # Where the kind of queue knows it, this keeps out a stock worker that serves it.
            self._channel.basic_consume(**words, exclusive=True)
        except AccessRefused:  # as with x-single-active-consumer, which needs it even less
            self._channel.basic_qos(0, 1, False)
            self._channel.basic_consume(**words)

    def _take(self, delivered: Any) -> None:
        if self._is_over:
            return
        message = self._channel.message_to_python(delivered)
        headers, properties = message.headers or {}, message.properties
        call_id = str(headers.get("id") or properties.get("correlation_id") or "")
        if not call_id:
            logger.error("a message without an id on %s was rejected", self._name)
            message.reject()
            return
        self._move(self._name, call_id, _as_stored(message, self._name, call_id))
        message.ack()


def _bind_to_delayed_delivery(connection: Connection, app: Celery, queue: Any) -> None:
    """Let a message with a countdown find its way here, where Celery sends it another way.

    It does so to a topic exchange, on quorum queues. A direct exchange needs nothing.
    """
    if queue.exchange.type == "direct":
        return
    with connection.channel() as channel:
        queue(channel).declare()
    try:
        bind_queue_to_native_delayed_delivery_exchange(connection, queue)
    except ChannelError as error:  # no stock worker has declared the exchanges yet
        _check_absent(error)
        kind = app.conf.broker_native_delayed_delivery_queue_type
        declare_native_delayed_delivery_exchanges_and_queues(connection, kind)
        bind_queue_to_native_delayed_delivery_exchange(connection, queue)


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
