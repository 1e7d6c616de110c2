"""What the Actors page is told: one look for all, rates between looks, the dead for a while."""

from __future__ import annotations

import pytest

from celery_actors import directory
from celery_actors.dashboard.board import Board
from celery_actors.store import Store
from tests.unit.store.records import StoredActor, answers


class Clock:
    """Stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_look_serves_everybody_within_a_second(store: Store, clock: Clock) -> None:
    board = Board(store, clock=clock)
    assert board.look().actors == {}
    StoredActor(store).create()
    clock.now += 0.9
    assert board.look().actors == {}
    clock.now += 0.1
    (row,) = board.look().actors.values()
    assert (row["id"], row["name"], row["state"]) == ("actor-1", "counter", "PENDING_CREATION")
    assert row["rate"] is None  # it was not there at the last look


def test_the_rate_is_what_settled_between_two_looks(store: Store, clock: Clock) -> None:
    actor = StoredActor(store).start()
    board = Board(store, clock=clock)
    board.look()
    for number in range(8):
        store.run("LPUSH", actor.keys.queue, f"call-{number}")
    clock.now += 2
    assert (row := board.look().actors["actor-1"])["rate"] == 0
    assert row["queued"] == 8
    actor.commit(0, answers(*range(5)))
    clock.now += 2
    row = board.look().actors["actor-1"]
    assert (row["rate"], row["calls"], row["queued"]) == (2.5, 5, 3)
    clock.now += 60  # nobody looked: that says nothing of now
    assert board.look().actors["actor-1"]["rate"] is None


def test_a_dead_actor_stays_for_a_while_and_its_page_for_longer(store: Store, clock: Clock) -> None:
    actor = StoredActor(store).start()
    board = Board(store, keeps=60, clock=clock)
    directory.end(store, actor.actor_id, actor.keys.queue, "it had its day", 60)
    row = board.look().actors["actor-1"]
    assert (row["state"], row["cause"], row["pid"]) == ("DEAD", "it had its day", 0)

    later = Board(store, keeps=-5, clock=clock)
    assert later.look().actors == {}
    found = later.actor("actor-1")
    assert found is not None
    assert found["cause"] == "it had its day"
    assert later.details(found)["lines"] == []
    assert later.actor("nobody") is None


def test_every_queue_of_an_actor_and_of_a_need_is_named(store: Store, clock: Clock) -> None:
    actor = StoredActor(store)
    actor.create()
    assert board_queues(store, clock) == [actor.keys.queue, f"ca.tasks.{actor.meta['need']}"]


def board_queues(store: Store, clock: Clock) -> list[str]:
    return Board(store, clock=clock).look().queues
