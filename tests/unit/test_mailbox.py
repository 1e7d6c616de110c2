"""A worker's end of a queue when its connection breaks: nothing is lost, doubled or mixed up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from celery_actors import routing
from celery_actors.config import Address
from celery_actors.errors import FencedError, StoreRolledBackError
from celery_actors.mailbox import Batch, Mailbox
from celery_actors.need import Need
from celery_actors.store import Answer, Store
from celery_actors.store.wire import StoreUnreachableError
from tests.unit.store.records import NODE, TTL, StoredActor, answer

SHARED = routing.shared_queue(Need().label)


@pytest.fixture
def wake_fd() -> Iterator[int]:
    read, write = os.pipe()
    yield read
    os.close(read)
    os.close(write)


@pytest.fixture
def actor(store: Store) -> StoredActor:
    return StoredActor(store).start()


@pytest.fixture
def mailbox(address: Address, actor: StoredActor, wake_fd: int) -> Iterator[Mailbox]:
    found = Mailbox(
        address, actor.keys, source="", epoch=actor.epoch, owner=actor.owner, position=0, ttl=TTL,
        wake_fd=wake_fd, mark=True, lease_lasts=lambda: True,
    )  # fmt: skip
    yield found
    found.close()


@pytest.fixture
def worker(address: Address, store: Store, wake_fd: int) -> Iterator[Mailbox]:
    """The mailbox of a shared worker."""
    keys = routing.worker_keys("w-1")
    store.run("HSET", keys.meta, "ep", "1", "own", f"{NODE}|w-1", "ap", 0, "go", 0)
    found = Mailbox(
        address, keys, source=SHARED, epoch="1", owner=f"{NODE}|w-1", position=0, ttl=TTL,
        wake_fd=wake_fd, mark=False, lease_lasts=lambda: True,
    )  # fmt: skip
    yield found
    found.close()


def cut(store: Store) -> None:
    store.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def answers(*numbers: int) -> list[Answer]:
    return [answer(number) for number in numbers]


def lose_next_reply(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server do what it is told next, and its reply not arrive."""
    wire = mailbox._wire
    read = wire.read

    def lost() -> Any:
        read()
        raise StoreUnreachableError("the reply was lost")

    monkeypatch.setattr(wire, "read", lost)


def test_a_broken_connection_in_the_middle_of_work_changes_nothing(
    mailbox: Mailbox, actor: StoredActor, store: Store
) -> None:
    actor.submit(1, *"abcdef")
    assert mailbox.commit(Batch(), 4) == [b"a", b"b", b"c", b"d"]

    cut(store)
    assert mailbox.commit(Batch(answers(1, 2)), 0) == []
    cut(store)
    assert mailbox.commit(Batch(answers(3, 4)), 4) == [b"e", b"f"]

    assert mailbox.position == 4
    assert actor.waiting == ["e", "f"]


@pytest.mark.parametrize("want", [0, 4])
def test_a_commit_whose_reply_was_lost_counts_once(
    mailbox: Mailbox, actor: StoredActor, monkeypatch: pytest.MonkeyPatch, want: int
) -> None:
    actor.submit(1, *"abcd")
    mailbox.commit(Batch(), 2)
    lose_next_reply(mailbox, monkeypatch)

    assert mailbox.commit(Batch(answers(1, 2)), want) == [b"c", b"d"][:want]

    assert actor.waiting == ["c", "d"]
    assert actor.meta["ap"] == "2"


def test_a_call_that_steps_aside_does_so_once_also_where_the_reply_is_lost(
    mailbox: Mailbox, actor: StoredActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor.submit(1, *"ab")
    mailbox.commit(Batch(), 2)
    lose_next_reply(mailbox, monkeypatch)

    mailbox.park()
    mailbox.commit(Batch(answers(2)), 0)

    assert actor.parked == {"0": "a"}
    assert actor.waiting == []


def test_commits_that_the_store_has_lost_end_the_process_before_it_runs_them_again(
    mailbox: Mailbox, actor: StoredActor, store: Store
) -> None:
    actor.submit(1, *"ab")
    mailbox.commit(Batch(), 2)
    mailbox.commit(Batch(answers(1, 2)), 0)
    store.run("HSET", actor.keys.meta, "ap", 0)
    store.run("LPUSH", actor.keys.queue, "a", "b")

    cut(store)

    with pytest.raises(StoreRolledBackError, match="its position is 0 and this process is at 2"):
        mailbox.peek()


def test_a_call_that_the_store_has_lost_takes_no_other_ones_place(
    mailbox: Mailbox, actor: StoredActor, store: Store
) -> None:
    """The position alone does not tell: it counts what is settled, not what was accepted."""
    actor.submit(1, "lost")
    assert mailbox.commit(Batch(), 1) == [b"lost"]
    store.run("DEL", actor.keys.queue)
    actor.submit(1, "other", caller="caller-2")

    cut(store)

    with pytest.raises(StoreRolledBackError, match="not those that run here"):
        mailbox.commit(Batch(answers(1)), 0)
    assert actor.waiting == ["other"]
    assert store.get(answer(1).key) is None


def test_who_has_lost_his_place_meanwhile_is_told_that(
    mailbox: Mailbox, actor: StoredActor, store: Store
) -> None:
    actor.submit(1, "a")
    mailbox.commit(Batch(), 1)
    store.run("HSET", actor.keys.meta, "own", "another")
    cut(store)
    with pytest.raises(FencedError, match="another process owns"):
        mailbox.commit(Batch(answers(1)), 0)


def test_a_call_that_came_with_a_lost_peek_is_run_before_later_ones(
    worker: Mailbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.run("LPUSH", SHARED, "a", "b")
    assert worker.commit(Batch(), 1) == [b"a"]
    own = routing.worker_keys("w-1").queue
    lose_next_reply(worker, monkeypatch)

    worker.commit_and_peek(
        Batch(answers(1))
    )  # its peek moves "b" to the worker, who does not hear of it

    assert store.texts("LRANGE", own, 0, -1) == ["b"]
    store.run("LPUSH", SHARED, "c")
    assert worker.peek() == ([b"b"], False)
    worker.commit_and_peek(Batch(answers(2)))
    assert worker.peek() == ([b"c"], False)


def test_a_peek_on_a_connection_that_was_given_up_gets_no_call(
    worker: Mailbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may not know yet that a connection is over on which a peek waits."""
    own = routing.worker_keys("w-1").queue
    worker._wire.send(worker._peek)
    monkeypatch.setattr(worker._wire, "close", lambda: None)

    worker._reconnect(0)
    store.run("LPUSH", SHARED, "a")

    assert store.texts("LRANGE", own, 0, -1) == []
    assert store.texts("LRANGE", SHARED, 0, -1) == ["a"]
    assert worker.commit(Batch(), 1) == [b"a"]


def test_what_was_given_back_is_not_missed(worker: Mailbox, store: Store) -> None:
    own = routing.worker_keys("w-1").queue
    store.run("LPUSH", SHARED, *"abc")
    assert worker.commit(Batch(), 3) == [b"a", b"b", b"c"]
    for _ in range(2):
        store.run("LMOVE", own, SHARED, "LEFT", "RIGHT")
    worker.release(keep=1)

    cut(store)

    assert worker.commit(Batch(answers(1)), 3) == [b"b", b"c"]
