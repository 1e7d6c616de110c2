"""What is in an actor's queue on RabbitMQ is moved once and in order, whoever comes and goes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, NotFound
from celery import Celery
from kombu import Connection, Exchange, Queue

from celery_actors import routing
from celery_actors.broker import ingress
from celery_actors.broker.ingress import Ingress
from tests.integration.rabbitmq import RabbitMQ, rabbitmq
from tests.waits import wait_until

pytestmark = pytest.mark.own_store("runs RabbitMQ alone")

DESK = routing.actor_queue("default", "desk")
#: How the user's app declares the queue.
KINDS: Mapping[str, dict[str, Any]] = {
    "classic": {},
    "quorum": {"x-queue-type": "quorum"},
    "classic-single": {"x-single-active-consumer": True},
    "quorum-single": {"x-queue-type": "quorum", "x-single-active-consumer": True},
}


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitMQ]:
    with rabbitmq() as found:
        yield found


@pytest.fixture(params=list(KINDS))
def app(request: pytest.FixtureRequest, rabbit: RabbitMQ) -> Iterator[Celery]:
    """The user's app, with a queue of a kind."""
    with making(rabbit, KINDS[request.param]) as found:
        yield found


@pytest.fixture
def classic(rabbit: RabbitMQ) -> Iterator[Celery]:
    """The user's app as most are: it says nothing of queues."""
    with making(rabbit, {}) as found:
        yield found


@contextlib.contextmanager
def making(rabbit: RabbitMQ, arguments: dict[str, Any]) -> Iterator[Celery]:
    app = Celery("office", broker=rabbit.new_host(), set_as_current=False)
    desk = Queue(DESK, Exchange(DESK), DESK, queue_arguments=arguments)
    app.conf.update(task_queues=[desk], task_ignore_result=True)
    try:
        yield app
    finally:
        app.amqp.producer_pool.force_close_all()
        app.pool.force_close_all()
        app.close()


def send(app: Celery, count: int, queue: str = DESK, begin: int = 0) -> list[str]:
    """Send messages from one producer; return their ids, in order."""
    ids = [f"{queue} {number}" for number in range(begin, begin + count)]
    for call_id in ids:
        app.send_task("Desk.file", task_id=call_id, queue=queue)
    return ids


def counts(app: Celery, queue: str = DESK) -> tuple[int, int]:
    """Return the messages that wait in a queue, and its consumers."""
    with app.connection_for_read() as connection, connection.channel() as channel:
        try:
            _, messages, consumers = channel.queue_declare(queue, passive=True)
        except NotFound:
            return 0, 0
        return messages, consumers


class Taker:
    """A node's ingress into a store, a list, that several share; its moves can be held up."""

    def __init__(self, app: Celery, store: list[str]) -> None:
        self.store = store
        self.wanted: dict[str, bool] = {}
        self.resting: list[str] = []
        self.looks = 0
        self.holds = threading.Event()
        self.may_move = threading.Event()
        self.over: set[str] = set()
        self.ingress = Ingress(
            app, self._queues, lambda: self.resting, lambda name: name in self.over, self._move
        )

    def _queues(self) -> dict[str, bool]:
        self.looks += 1
        return dict(self.wanted)

    def _move(self, _queue: str, call_id: str, message: bytes) -> None:
        self.holds.set()
        self.may_move.wait()
        assert message
        if call_id not in self.store:  # as the store does by its marks
            self.store.append(call_id)

    def wait_looked(self, times: int = 3) -> None:
        until = self.looks + times
        wait_until(lambda: self.looks >= until, f"{times} more looks")


@pytest.fixture
def takers() -> Iterator[list[Taker]]:
    """What a test has started; it ends with it."""
    found: list[Taker] = []
    yield found
    for taker in found:
        taker.may_move.set()
        taker.ingress.stop()


def begin(takers: list[Taker], app: Celery, *, held: bool = False, alone: bool = True) -> Taker:
    """Start a node's ingress into the store of the others."""
    taker = Taker(app, takers[0].store if takers else [])
    taker.wanted = {DESK: alone}
    if not held:
        taker.may_move.set()
    takers.append(taker)
    taker.ingress.start()
    return taker


def begin_two(takers: list[Taker], app: Celery) -> tuple[Taker, Taker, list[str]]:
    """Start a node that holds the first of some messages, and one that must wait for it."""
    first = begin(takers, app, held=True)
    ids = send(app, 20)
    assert first.holds.wait(20)
    second = begin(takers, app)
    second.wait_looked()
    assert first.store == []
    return first, second, ids


def test_the_next_node_consumes_when_the_one_before_has_let_go(app: Celery, takers: list[Taker]):
    first, second, ids = begin_two(takers, app)

    first.wanted = {}  # the actor is the other node's
    first.may_move.set()
    wait_until(lambda: len(first.store) == 20, "all are moved")
    assert first.store == ids
    assert second.holds.is_set(), "the second has moved the last of them"


@pytest.mark.parametrize("app", ["classic", "quorum"], indirect=True)
@pytest.mark.parametrize("how", ["cut", "frozen"])
def test_what_a_lost_node_held_comes_first_on_the_next(
    app: Celery, rabbit: RabbitMQ, takers: list[Taker], how: str, monkeypatch: pytest.MonkeyPatch
):
    if how == "frozen":
        monkeypatch.setattr(ingress, "HEARTBEAT_SECONDS", 1)
    first, second, ids = begin_two(takers, app)

    if how == "cut":
        host = str(app.conf.broker_url).rpartition("/")[2]
        rabbit.control("close_all_connections", "--vhost", host, "for a test")
    # Else it gives no sign of life: its thread is held in the middle of a message.
    wait_until(lambda: len(second.store) == 20, "the second has moved all", 40)
    assert second.store == ids

    first.may_move.set()  # it goes on with what it held, which the store knows by now
    first.wait_looked()
    more = send(app, 10, begin=20)
    wait_until(lambda: len(second.store) == 30, "the second goes on")
    assert second.store == [*ids, *more]


def test_a_stock_worker_is_kept_out_and_waited_for(classic: Celery, takers: list[Taker]):
    with Connection(classic.conf.broker_url) as other:
        queue = classic.amqp.queues[DESK](other.channel())
        queue.declare()
        queue.consume("stray", no_ack=False)
        taker = begin(takers, classic)
        taker.wait_looked()
        assert counts(classic)[1] == 1, "the ingress waits"
    wait_until(lambda: counts(classic)[1] == 1, "now the ingress consumes")
    ids = send(classic, 5)
    wait_until(lambda: taker.store == ids, "what was sent is moved")
    with Connection(classic.conf.broker_url) as other, pytest.raises(AccessRefused):
        classic.amqp.queues[DESK](other.channel()).consume("stray", no_ack=False)


def test_a_queue_that_the_broker_refuses_holds_up_no_other(
    classic: Celery, takers: list[Taker], caplog: pytest.LogCaptureFixture
):
    theirs = f"{DESK}-theirs"
    with Connection(classic.conf.broker_url) as other:
        other.channel().queue_declare(theirs, exclusive=True)
        taker = begin(takers, classic)
        taker.wanted |= {theirs: True}
        ids = send(classic, 5)
        wait_until(lambda: taker.store == ids, "what was sent is moved")
        wait_until(lambda: "refuses" in caplog.text, "a warning")
        taker.wait_looked()
        assert caplog.text.count(f"refuses {theirs}") == 1
    wait_until(lambda: counts(classic, theirs)[1] == 1, "it is consumed once it can be", 20)
    more = send(classic, 5, theirs)
    wait_until(lambda: taker.store == [*ids, *more], "that is moved, too")


@pytest.mark.parametrize("app", ["classic", "quorum"], indirect=True)
def test_what_waits_for_a_resting_actor_is_moved_and_the_queue_let_go(
    app: Celery, takers: list[Taker]
):
    ids = send(app, 3)
    taker = begin(takers, app)
    taker.wanted = {}
    taker.resting = [DESK, f"{DESK}-never-declared"]
    wait_until(lambda: taker.store == ids, "what was sent is moved")
    wait_until(lambda: counts(app) == (0, 0), "the queue is let go")


@pytest.mark.parametrize("app", ["classic", "quorum"], indirect=True)
def test_the_queue_of_an_actor_that_is_no_more_is_removed(app: Celery, takers: list[Taker]):
    taker = begin(takers, app)
    ids = send(app, 3)
    wait_until(lambda: taker.store == ids, "what was sent is moved")
    taker.over = {DESK}
    taker.wanted = {}
    with app.connection_for_read() as connection, pytest.raises(NotFound):
        wait_until(lambda: connection.channel().queue_declare(DESK, passive=True) is None, "gone")


@pytest.mark.parametrize("app", ["classic", "quorum"], indirect=True)
def test_nodes_share_the_queue_of_functions(app: Celery, takers: list[Taker]):
    first = begin(takers, app, held=True, alone=False)
    ids = send(app, 10)
    assert first.holds.wait(20)
    begin(takers, app, alone=False)
    wait_until(lambda: len(first.store) == 9, "one moves while the other is held up")
    first.may_move.set()
    wait_until(lambda: sorted(first.store) == sorted(ids), "the last one")
