"""Logs as they are read: in order, further from where one was, whatever somebody wrote there."""

from __future__ import annotations

import pytest

from celery_actors import directory, logs, routing
from celery_actors.assignment import Assignment, LogBatch
from celery_actors.errors import NotFoundError
from celery_actors.node.printed import Printed
from celery_actors.store import Store
from tests.unit.store.records import NODE, StoredActor, start_node


def print_on(store: Store, actor: StoredActor | None, *lines: str) -> None:
    queue, actor_id = (actor.keys.queue, actor.actor_id) if actor else ("ca.tasks.cpu1", "")
    mine = Assignment("w", queue, "1", "o", "s", "label", actor_id=actor_id)
    Printed(store, NODE, "host").take(mine, "", LogBatch("label", 1, 1, list(lines)))


def record_of(store: Store, actor: StoredActor) -> directory.ActorRecord:
    found = directory.find(store, actor.actor_id)
    assert found is not None
    return found


def test_more_is_what_came_after_the_last_look(store: Store, actor: StoredActor) -> None:
    print_on(store, actor, "one", "two", "three")
    log = logs.Log(store, record_of(store, actor))

    assert [line.text for line in log.last(2)] == ["two", "three"]
    assert log.more(0.001) == []
    print_on(store, actor, "four")
    assert [line.text for line in log.more()] == ["four"]


def test_no_last_lines_at_all_and_what_comes_next(store: Store, actor: StoredActor) -> None:
    print_on(store, actor, "one")
    log = logs.Log(store, record_of(store, actor))

    assert log.last(0) == []
    print_on(store, actor, "two")

    assert [line.text for line in log.more()] == ["two"]


def test_a_log_that_is_still_empty_is_followed_from_its_begin(
    store: Store, actor: StoredActor
) -> None:
    log = logs.Log(store, record_of(store, actor))

    assert log.last(10) == []
    print_on(store, actor, "first")

    assert [line.text for line in log.more()] == ["first"]


def test_a_node_s_log_has_its_functions_and_its_actors_also_those_that_come_later(
    store: Store,
) -> None:
    start_node(store, NODE)
    log = logs.Log(store, node_id=NODE)
    print_on(store, None, "function")
    assert [line.text for line in log.last(10)] == ["function"]

    actor = StoredActor(store).start()
    print_on(store, actor, "actor")
    log.more(0.001)

    assert [line.text for line in log.more()] == ["actor"]
    everything = logs.Log(store, node_id=NODE).last(10)
    assert [line.text for line in everything] == ["function", "actor"]


def test_what_no_node_wrote_into_a_log_is_left_out(store: Store, actor: StoredActor) -> None:
    store.run("XADD", actor.keys.log, "*", "b", "{", "n", "1", "s", "1")
    store.run("XADD", actor.keys.log, "*", "x", "y")
    log = logs.Log(store, record_of(store, actor))

    assert log.last(10) == []


def test_nobody_s_log_is_empty_or_an_error_that_says_where_to_look(store: Store) -> None:
    assert logs.tail(store, "no such actor") == []
    with pytest.raises(NotFoundError, match=r"no actor has .* 'nobody'.*list actors.*Living: none"):
        logs.log_of(store, "nobody")


def test_the_log_of_a_dead_actor_is_found_by_the_begin_of_its_id(
    store: Store, actor: StoredActor
) -> None:
    print_on(store, actor, "last words")
    actor.kill()
    assert actor.bury()

    log = logs.log_of(store, actor.actor_id[:6])

    assert [line.text for line in log.last(1)] == ["last words"]
    assert logs.tail(store, actor.actor_id) == ["last words"]
    assert store.run("ZCARD", routing.BURIED) == 1
