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
    keys = actor.keys
    freed = actor.store.scripts.settle_aside(
        [keys.queue, keys.meta, keys.parked, keys.begun], epoch or actor.epoch, actor.owner,
        position, 60, answer(number), (),
    )  # fmt: skip
    return freed is not None


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
    keys = actor.keys
    unpark = (keys.queue, keys.meta, keys.parked, keys.begun, epoch)
    assert store.scripts.unpark(*unpark) == 2
    assert actor.waiting == ["a", "c", "d", "e"]
    assert actor.meta["ap"] == "1"
    assert store.scripts.unpark(*unpark) == 0
    assert actor.waiting == ["a", "c", "d", "e"]


def test_a_living_actors_parked_calls_stay_out_of_line(actor: StoredActor, store: Store) -> None:
    keys = actor.keys
    unpark = (keys.queue, keys.meta, keys.parked, keys.begun, actor.epoch)
    assert store.scripts.unpark(*unpark) == 0
    assert actor.parked == {"0": "a", "2": "c"}


def test_a_parked_call_that_had_begun_is_answered_first(actor: StoredActor, store: Store) -> None:
    released = actor.release(3, answers(1, 4), settled=1, aside=[("0", b"")])
    assert released == "restarting"
    assert results(store) == {"call-1": 1, "call-2": 2, "call-4": 4}
    assert actor.waiting == ["e"]
    assert actor.parked == {"2": "c"}
    assert actor.meta["ap"] == "4"


def test_a_begun_call_out_of_line_may_keep_its_place_for_another_try(actor: StoredActor) -> None:
    assert actor.release(3, [], aside=[("0", b"a again")]) == "restarting"
    assert actor.parked == {"0": "a again", "2": "c"}
    actor.claim(nonce="n2")
    assert actor.waiting == ["a again", "c", "d", "e"]


def test_begun_calls_may_go_back_to_the_front_in_order(actor: StoredActor) -> None:
    assert actor.release(3, [], settled=2, returned=[b"e2", b"d2"]) == "restarting"
    assert actor.waiting == ["d2", "e2"]
    assert actor.meta["ap"] == "3"


def test_several_calls_are_taken_and_settled_in_one_step(actor: StoredActor, store: Store) -> None:
    assert actor.take(3, 5, [(0, answer(1)), (2, answer(3))]) == [0, [b"d", b"e"], 0]
    assert actor.parked == {"3": "d", "4": "e"}
    assert actor.meta["ap"] == "5"
    assert results(store) == {"call-1": 1, "call-2": 2, "call-3": 3}


def test_taking_is_repeatable(actor: StoredActor) -> None:
    assert actor.take(3, 1) == [0, [b"d"], 1]
    assert actor.take(3, 1) == [0, [b"d"], 1]
    assert actor.take(3, 5) == [0, [b"d"], 1]
    assert actor.parked == {"0": "a", "2": "c", "3": "d"}


def test_a_call_is_known_to_have_begun_until_it_is_settled(
    actor: StoredActor, store: Store
) -> None:
    keys = actor.keys
    assert store.scripts.begin(keys.meta, keys.begun, actor.epoch, actor.owner, [0, 2])
    assert settle(actor, 0, 1)
    assert store.texts("SMEMBERS", keys.begun) == ["2"]
    assert not store.scripts.begin(keys.meta, keys.begun, actor.epoch, "another", [3])
