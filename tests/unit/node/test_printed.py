"""What is kept of the workers' output: the end of it, within bounds, as long as it may matter."""

from __future__ import annotations

import logging

import msgspec
import pytest

from celery_actors import logs, routing
from celery_actors.assignment import Assignment, LogBatch
from celery_actors.node.printed import (
    BATCH_CHARACTERS,
    KEEP_BYTES,
    KEEP_LINES,
    LINE_CHARACTERS,
    OwnMessages,
    Printed,
    worth_keeping,
)
from celery_actors.progress import BarState, encode_bar
from celery_actors.store import Store
from celery_actors.tokens import REMEMBER_SECONDS
from tests.unit.store.records import StoredActor, full, messages_on

NODE_LOG = routing.node_log_key("desk-1")


@pytest.fixture
def printed(store: Store) -> Printed:
    return Printed(store, "desk-1", "desk")


def of(actor: StoredActor) -> Assignment:
    return Assignment("w", actor.keys.queue, "1", "o", "s", "Counter-x", actor_id=actor.actor_id)


#: A worker of functions.
FUNCTIONS = Assignment("w", "ca.tasks.cpu1", "1", "o", "s", "tasks-cpu1-x")


def batch(*lines: str) -> LogBatch:
    return LogBatch("Counter", 7, 1, list(lines))


def last(store: Store, actor: StoredActor, count: int = 10_000) -> list[str]:
    return logs.tail(store, actor.actor_id, count)


def test_the_driver_is_told_everything_and_the_actor_s_log_has_its_end(
    printed: Printed, store: Store, actor: StoredActor
) -> None:
    subscription = store.subscribe(routing.log_channel("job-1"))
    long = "x" * (LINE_CHARACTERS + 5)

    printed.take(of(actor), "job-1", batch("one", long))

    told = msgspec.json.decode(messages_on(subscription, 1)[0], type=LogBatch)
    assert (told.lines, told.node) == (["one", long], "desk")
    assert last(store, actor) == ["one", f"{'x' * LINE_CHARACTERS}… (5 characters more)"]


def test_of_many_lines_the_last_thousand_are_kept(
    printed: Printed, store: Store, actor: StoredActor
) -> None:
    for start in range(0, 3000, 60):
        printed.take(of(actor), "", batch(*(str(start + number) for number in range(60))))

    kept = last(store, actor)

    assert kept == [str(number) for number in range(3000)][-len(kept) :]
    assert KEEP_LINES <= len(kept) < KEEP_LINES + 60


def test_of_long_lines_not_more_than_256_kilobytes_are_kept(
    printed: Printed, store: Store, actor: StoredActor
) -> None:
    for number in range(100):
        printed.take(of(actor), "", batch(*[f"{number} {'x' * 7000}"] * 3))

    found = store.newest(actor.keys.log, 1000)

    size = sum(len(fields["b"]) for _, fields in found)
    assert KEEP_BYTES <= size < 256 * 1024
    assert last(store, actor)[-1].startswith("99 ")


def test_of_one_large_batch_the_end_is_kept_and_bars_are_not() -> None:
    bar = encode_bar(BarState("b", "loading", 1, 2, "it", 1.0))
    lines = [f"{number:05} {'x' * 94}" for number in range(2000)]

    assert worth_keeping([bar, "a", f"b{bar}"]) == ["a", "b"]
    kept = worth_keeping(lines)
    assert kept == lines[-len(kept) :]
    assert BATCH_CHARACTERS - 101 < sum(len(line) + 1 for line in kept) <= BATCH_CHARACTERS


def test_bars_alone_are_told_and_leave_no_log(
    printed: Printed, store: Store, actor: StoredActor
) -> None:
    subscription = store.subscribe(routing.log_channel("job-1"))
    bar = encode_bar(BarState("b", "loading", 1, 2, "it", 1.0))

    printed.take(of(actor), "job-1", batch(bar))

    assert bar in msgspec.json.decode(messages_on(subscription, 1)[0], type=LogBatch).lines
    assert store.run("EXISTS", actor.keys.log) == 0


def test_a_living_actor_s_log_has_no_end_and_a_dead_one_s_goes_with_its_record(
    printed: Printed, store: Store, actor: StoredActor
) -> None:
    printed.take(of(actor), "", batch("alive"))
    assert store.run("TTL", actor.keys.log) == -1

    actor.kill()
    assert actor.bury()
    assert 0 < store.run("TTL", actor.keys.log) <= 100, "as long as its record"
    printed.take(of(actor), "", batch("last words"))

    assert 0 < store.run("TTL", actor.keys.log) <= REMEMBER_SECONDS
    assert last(store, actor) == ["alive", "last words"]


def test_an_actor_that_nobody_remembers_has_no_log(
    printed: Printed, store: Store, actor: StoredActor
) -> None:
    store.run("DEL", actor.keys.meta)

    printed.take(of(actor), "", batch("who am I"))

    assert store.run("EXISTS", actor.keys.log) == 0


def test_what_functions_print_is_in_the_log_of_their_node_for_a_day(
    printed: Printed, store: Store
) -> None:
    printed.take(FUNCTIONS, "", batch("from a function"))

    assert [line.text for line in logs.Log(store, node_id="desk-1").last(10)] == ["from a function"]
    assert 0 < store.run("TTL", NODE_LOG) <= REMEMBER_SECONDS


def test_a_full_store_keeps_nothing_and_drivers_are_told(
    printed: Printed, store: Store, actor: StoredActor
) -> None:
    subscription = store.subscribe(routing.log_channel("job-1"))

    with full(store):
        printed.take(of(actor), "job-1", batch("still told"))

    assert "still told" in messages_on(subscription, 1)[0]
    assert store.run("EXISTS", actor.keys.log) == 0


def test_what_a_node_logs_itself_is_in_its_log(printed: Printed, store: Store) -> None:
    record = logging.LogRecord("n", logging.WARNING, "", 0, "node %s is lost", ("two",), None)

    printed.own.emit(record)
    printed.flush_own()
    printed.flush_own()

    (line,) = logs.Log(store, node_id="desk-1").last(10)
    assert str(line).startswith("(supervisor pid=")
    assert line.text == "WARNING n: node two is lost"


def test_of_many_messages_between_two_ticks_the_newest_are_kept() -> None:
    own = OwnMessages()

    for number in range(1000):
        own.emit(logging.LogRecord("n", logging.INFO, "", 0, str(number), (), None))

    assert own.lines[-1] == "INFO n: 999"
    assert len(own.lines) == 200


def test_the_nodes_own_messages_hide_its_secrets() -> None:
    own = OwnMessages(["hush"])
    own.emit(
        logging.LogRecord("node", logging.INFO, "", 1, "redis://me:other@host: hush", (), None)
    )
    assert list(own.lines) == ["INFO node: redis://me:***@host: ***"]
