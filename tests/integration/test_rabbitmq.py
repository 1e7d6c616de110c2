"""Actors behind RabbitMQ's queues, classic and quorum: its timeouts and limits are never met.

The settings and the policy are those of docs/how-to/rabbitmq.md.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from amqp.exceptions import PreconditionFailed
from kombu import Connection

import celery_actors as ca
from tests.integration import matrix
from tests.integration.actors import Counter, pass_gate
from tests.integration.gates import Gate
from tests.integration.rabbitmq import RabbitMQ, rabbitmq
from tests.integration.support import Node, Server, family, node_on, redis_server
from tests.integration.test_passive import Sleeper, put_to_rest
from tests.waits import wait_until

pytestmark = [pytest.mark.own_store("starts RabbitMQ itself"), pytest.mark.debian_redis]

#: Milliseconds for which RabbitMQ lets a message be unacknowledged here, and between its looks.
TIMEOUT, LOOK = 3000, 500
SETTINGS: dict[str, dict[str, Any]] = {
    "classic": {},
    "quorum": {
        "task_default_queue_type": "quorum",
        "task_create_missing_queue_type": "quorum",
        "task_create_missing_queue_exchange_type": "topic",  # for Celery's delays on quorum queues
    },
}


@ca.remote(durable=True, lifetime="detached", name="book")
class Book:
    """Writes down what it is told; what it has written is never lost and never doubled."""

    def __init__(self) -> None:
        self.lines: list[int] = []

    def add(self, number: int) -> int:
        self.lines.append(number)
        return len(self.lines)

    def hold(self, gate: str) -> str:
        return pass_gate(gate)

    def all(self) -> list[int]:
        return self.lines


@ca.remote
def twice(number: int) -> int:
    return 2 * number


@dataclass
class Office:
    """A store, a broker, and an app of both kinds' names."""

    server: Server
    rabbit: RabbitMQ
    host: str
    kind: str
    settings: dict[str, Any]

    @contextlib.contextmanager
    def node(self, name: str) -> Iterator[Node]:
        told = matrix.variables_of(self.settings)
        with node_on(self.server, name=name, variables=told) as found:
            yield found

    def kinds(self) -> dict[str, str]:
        """Return the queues of functions and actors that the broker has, and what kind each is."""
        words = ("list_queues", "-p", self.host, "--no-table-headers", "name", "type")
        queues = dict(line.split() for line in self.rabbit.control(*words).splitlines())
        return {name: kind for name, kind in queues.items()
                if name.startswith("ca.") and not name.endswith(".ingress")}  # fmt: skip


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitMQ]:
    words = f"-rabbit consumer_timeout {TIMEOUT} -rabbit channel_tick_interval {LOOK}"
    with rabbitmq(words) as found:
        yield found


@pytest.fixture(params=list(SETTINGS))
def office(request: pytest.FixtureRequest, rabbit: RabbitMQ) -> Iterator[Office]:
    """An app of the user's that this driver has joined; there is no node yet."""
    with redis_server(kind="") as server:
        server.broker = rabbit.new_host()
        more = SETTINGS[request.param]
        settings = matrix.settings_of(server.broker, server.url, **more)
        app = matrix.make_app(settings)
        ca.init(app=app, keys=server.key, namespace="default")
        try:
            host = server.broker.rpartition("/")[2]
            yield Office(server, rabbit, host, request.param, settings)
        finally:
            ca.shutdown()
            matrix.close(app)


def test_calls_are_moved_once_in_order_and_answered(office: Office):
    with office.node("one"):
        book = Book.remote()
        results = [book.add.delay(number) for number in range(200)]
        doubled = [twice.delay(number) for number in range(20)]
        assert [each.get(timeout=30) for each in results] == list(range(1, 201))
        assert ca.get(book.all.remote(), timeout=20) == list(range(200))
        assert [each.get(timeout=30) for each in doubled] == [2 * number for number in range(20)]
        late = book.add.apply_async((200,), countdown=1.5)
        assert late.get(timeout=30) == 201
        assert {*office.kinds().values()} == {office.kind}
        assert {"ca.actor.default.book", "ca.tasks.cpu1"} <= {*office.kinds()}
        ca.kill(book)


def home_of(book: Any, nodes: list[Node]) -> Node:
    pid = ca.get(book.__ray_call__.remote(lambda _self: os.getpid()), timeout=30)
    return next(node for node in nodes if pid in family(node.process.pid))


def test_a_node_killed_between_messages_loses_none_and_doubles_none(office: Office):
    with office.node("one") as one, office.node("two") as two:
        book = Book.remote()
        home = home_of(book, [one, two])
        results = [book.add.delay(number) for number in range(100)]
        results[20].get(timeout=30)
        home.kill()  # with some in the store, and some with the broker
        results += [book.add.delay(number) for number in range(100, 200)]
        assert [each.get(timeout=60) for each in results] == list(range(1, 201))
        assert ca.get(book.all.remote(), timeout=20) == list(range(200))
        ca.kill(book)


def test_a_call_may_take_longer_than_the_brokers_consumer_timeout(office: Office, gate: Gate):
    with office.node("one") as node:
        book = Book.remote()
        long = book.hold.delay(gate.path)
        after = book.add.delay(1)
        gate.wait_reached()
        with Connection(office.server.broker) as other:
            # Who holds a message as a stock worker with late acknowledgements does is cut off.
            queue = other.channel().queue_declare("held", auto_delete=False).queue
            other.Producer().publish("late", routing_key=queue)
            other.channel().basic_consume(queue, callback=lambda _: None)
            with pytest.raises(PreconditionFailed, match="timed out"):
                wait_until(lambda: _drained(other), "the broker's patience is over", 30)
        gate.open()
        assert [long.get(timeout=30), after.get(timeout=30)] == ["passed", 1]
        assert book.add.delay(2).get(timeout=30) == 2
        assert "away" not in node.log.read_text(), "its connection has never been closed"
        ca.kill(book)


def _drained(connection: Connection) -> None:
    with contextlib.suppress(TimeoutError):
        connection.drain_events(timeout=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("office", ["quorum"], indirect=True)
def test_a_call_may_outlive_more_nodes_than_the_delivery_limit(office: Office, gate: Gate):
    limit = json.dumps({"delivery-limit": 2})
    office.rabbit.control("set_policy", "-p", office.host, "limit", ".*", limit,
                          "--apply-to", "queues")  # fmt: skip
    book = Book.options(max_task_retries=-1).remote()
    long = book.hold.delay(gate.path)
    results = []
    for number in range(4):
        with office.node(f"node{number}") as node:
            gate.wait_reached(times=number + 1)
            results.append(book.add.delay(number))
            node.kill()
    with Connection(office.server.broker) as other:
        words = {"x-queue-type": "quorum"}
        other.channel().queue_declare("held", durable=True, auto_delete=False, arguments=words)
        other.Producer().publish("late", routing_key="held")
        for _ in range(3):  # a stock worker that is killed in the middle of a call, as often
            with other.channel() as channel:
                wait_until(lambda: channel.basic_get("held"), "the message comes again")
        with other.channel() as channel:
            wait_until(lambda: _is_gone(channel), "the broker has dropped the message")
    with office.node("last"):
        gate.wait_reached(times=5)
        gate.open()
        assert long.get(timeout=30) == "passed"
        assert [each.get(timeout=30) for each in results] == [1, 2, 3, 4]
        ca.kill(book)


def _is_gone(channel: Any) -> bool:
    found = channel.queue_declare("held", passive=True)
    return bool(found.message_count == 0 and channel.basic_get("held") is None)


def test_a_message_wakes_an_actor_without_a_process(office: Office):
    with office.node("one"):
        actor = Sleeper.options(name="resting").remote(start=1)
        assert actor.add.delay().get(timeout=30) == 2
        put_to_rest(actor)
        assert actor.add.delay(2).get(timeout=30) == 4
        ca.kill(actor)


@pytest.mark.parametrize("office", ["classic"], indirect=True)
def test_the_queue_of_an_actor_without_a_name_goes_with_it_or_by_a_policy(office: Office):
    def own_queues() -> list[str]:
        return [name for name in office.kinds() if "Book-" in name]

    with office.node("one") as node:
        actor = Book.options(name=None, lifetime=None).remote()
        assert actor.add.delay(1).get(timeout=30) == 1
        assert len(own_queues()) == 1
        ca.kill(actor)
        wait_until(lambda: own_queues() == [], "its queue is removed", 30)
        left = Counter.remote()
        assert left.add.delay(1).get(timeout=30) == 1
        node.kill()
    pattern = r"^ca\.actor\.[^.]*-[0-9a-f]{32}$"
    expiry = json.dumps({"expires": 1000})
    words = ("set_policy", "-p", office.host, "--apply-to", "queues", "forgotten", pattern, expiry)
    office.rabbit.control(*words)
    wait_until(lambda: not [name for name in office.kinds() if "Counter-" in name], "gone", 30)
