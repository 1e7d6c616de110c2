"""Calls that stepped out of line because an argument was not ready."""

from __future__ import annotations

import pytest

from celery_actors.store import Store
from tests.unit.store.records import StoredActor, answer, answers, results


@pytest.fixture
def actor(store: Store) -> StoredActor:
    """An actor that a node owns, with five calls; the first and the third are parked."""
    found = StoredActor(store).start()
    found.submit(1, "a", "b", "c", "d", "e")
    found.park(0)
    found.commit(1, answers(2))
    found.park(2)
    return found


def settle(actor: StoredActor, position: int, number: int, *, epoch: str | None = None) -> bool:
    return actor.store.scripts.settle_parked(
        actor.keys.meta, actor.keys.parked, epoch or actor.epoch, actor.owner, position, 60,
        answer(number),
    )  # fmt: skip


def test_parked_calls_are_out_of_line_and_counted(actor: StoredActor) -> None:
    assert actor.waiting == ["d", "e"]
    assert actor.parked == {"0": "a", "2": "c"}
    assert actor.meta["ap"] == "3"


def test_parking_is_repeatable(actor: StoredActor) -> None:
    assert actor.park(2) == 0
    assert actor.waiting == ["d", "e"]
    assert actor.meta["ap"] == "3"


def test_parking_at_another_position_is_refused(actor: StoredActor) -> None:
    assert actor.park(1) == -11
    assert actor.park(4) == -11
    assert actor.waiting == ["d", "e"]


def test_only_the_owner_parks(actor: StoredActor) -> None:
    actor.owner = "another"
    assert actor.park(3) == -10
    assert actor.waiting == ["d", "e"]


def test_a_parked_call_is_settled_once(actor: StoredActor, store: Store) -> None:
    assert settle(actor, 2, 3)
    assert actor.parked == {"0": "a"}
    assert results(store) == {"call-2": 2, "call-3": 3}
    assert settle(actor, 2, 99)
    assert results(store) == {"call-2": 2, "call-3": 3}


def test_only_the_owner_settles_a_parked_call(actor: StoredActor, store: Store) -> None:
    assert not settle(actor, 2, 3, epoch="7")
    assert actor.parked == {"0": "a", "2": "c"}
    assert results(store) == {"call-2": 2}


def test_the_next_owner_finds_parked_calls_back_in_line_in_order(actor: StoredActor) -> None:
    assert actor.release(3, []) == "restarting"
    claim = actor.claim(nonce="n2")
    assert claim is not None
    assert actor.waiting == ["a", "c", "d", "e"]
    assert actor.parked == {}
    assert claim.meta["ap"] == actor.meta["ap"] == "1"
    assert actor.commit(1, answers(1, 3), want=5) == [0, [b"d", b"e"], 2]


def test_many_parked_calls_keep_their_order(store: Store) -> None:
    # Positions are numbers: as text, 10 would come before 9.
    actor = StoredActor(store).start()
    calls = [f"call {number}" for number in range(12)]
    actor.submit(1, *calls)
    for position in range(11):
        actor.park(position)
    actor.release(11, [])
    actor.claim(nonce="n2")
    assert actor.waiting == calls


def test_a_dead_actors_parked_calls_go_back_in_line_to_be_answered(
    actor: StoredActor, store: Store
) -> None:
    actor.kill()
    epoch = actor.meta["ep"]
    unpark = (actor.keys.queue, actor.keys.meta, actor.keys.parked, epoch)
    assert store.scripts.unpark(*unpark) == 2
    assert actor.waiting == ["a", "c", "d", "e"]
    assert actor.meta["ap"] == "1"
    assert store.scripts.unpark(*unpark) == 0
    assert actor.waiting == ["a", "c", "d", "e"]


def test_a_living_actors_parked_calls_stay_out_of_line(actor: StoredActor, store: Store) -> None:
    unpark = (actor.keys.queue, actor.keys.meta, actor.keys.parked, actor.epoch)
    assert store.scripts.unpark(*unpark) == 0
    assert actor.parked == {"0": "a", "2": "c"}


def test_a_parked_call_that_had_begun_is_answered_first(actor: StoredActor, store: Store) -> None:
    assert actor.release(3, answers(1, 4), settled=1, parked="0") == "restarting"
    assert results(store) == {"call-1": 1, "call-2": 2, "call-4": 4}
    assert actor.waiting == ["e"]
    assert actor.parked == {"2": "c"}
    assert actor.meta["ap"] == "4"
