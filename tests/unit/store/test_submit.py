from __future__ import annotations

import json

from celery_actors import routing
from celery_actors.need import Need
from celery_actors.store import Store
from tests.unit.store.records import StoredActor, messages_on


def test_calls_wait_in_the_order_of_their_submission(actor: StoredActor) -> None:
    assert actor.submit(1, "a", "b") == [0, 2]
    assert actor.submit(3, "c") == [0, 3]
    assert actor.waiting == ["a", "b", "c"]


def test_of_thousands_in_one_submission_none_is_lost_and_all_keep_their_order(
    actor: StoredActor,
) -> None:
    calls = [str(number) for number in range(9_000)]  # more than Lua's stack takes
    assert actor.submit(1, *calls) == [0, 9_000]
    assert actor.waiting == calls


def test_a_repeated_submission_is_accepted_once(actor: StoredActor) -> None:
    actor.submit(1, "a", "b")
    assert actor.submit(1, "a", "b") == [0, 2]
    assert actor.waiting == ["a", "b"]


def test_of_an_overlapping_submission_only_the_new_calls_are_taken(actor: StoredActor) -> None:
    actor.submit(1, "a", "b")
    assert actor.submit(2, "b", "c", "d") == [0, 4]
    assert actor.waiting == ["a", "b", "c", "d"]


def test_callers_have_sequences_of_their_own(actor: StoredActor) -> None:
    actor.submit(1, "a", caller="one")
    actor.submit(1, "b", caller="two")
    actor.submit(2, "c", caller="one")
    assert actor.waiting == ["a", "b", "c"]


def test_a_gap_is_reported_and_nothing_is_taken(actor: StoredActor) -> None:
    actor.submit(1, "a")
    assert actor.submit(3, "c") == [-3, 1]
    assert actor.waiting == ["a"]


def test_a_first_call_that_is_not_number_one_is_a_gap(actor: StoredActor) -> None:
    assert actor.submit(2, "b") == [-3, 0]


def test_calls_follow_an_earlier_accepted_one_where_those_between_have_failed(
    actor: StoredActor,
) -> None:
    actor.submit(1, "a")
    assert actor.submit(5, "e", "f", after=1) == [0, 3]
    assert actor.submit(5, "e", "f", after=1) == [0, 3]
    assert actor.submit(7, "g") == [0, 4]
    assert actor.submit(9, "i", after=8) == [-3, 7]
    assert actor.waiting == ["a", "e", "f", "g"]


def test_an_unknown_actor_is_reported(store: Store) -> None:
    actor = StoredActor(store)
    assert actor.submit(1, "a") == [-1]
    assert actor.waiting == []


def test_a_dead_actor_says_why_it_died(actor: StoredActor) -> None:
    actor.submit(1, "a")
    actor.kill("it was too loud")
    assert actor.submit(2, "b") == [-2, b"it was too loud", b""]
    assert actor.waiting == ["a"]


def test_a_submission_repeated_after_the_death_is_still_accepted_once(actor: StoredActor) -> None:
    # Its reply was lost: the call is in the queue and will be answered there.
    actor.submit(1, "a")
    actor.kill()
    assert actor.submit(1, "a") == [0, 1]


def test_a_buried_actor_says_why_it_died(actor: StoredActor) -> None:
    actor.kill("it was too loud")
    assert actor.bury()
    assert actor.submit(1, "a") == [-2, b"it was too loud", b""]
    assert actor.waiting == []


def test_a_thousand_calls_fit_in_one_submission(actor: StoredActor) -> None:
    calls = [f"call {number}" for number in range(1000)]
    assert actor.submit(1, *calls) == [0, 1000]
    assert actor.waiting == calls


# -- creation --------------------------------------------------------------------------------


def test_a_created_actor_waits_for_a_node(actor: StoredActor, store: Store) -> None:
    assert (actor.meta["st"], actor.meta["ap"], actor.meta["own"]) == ("pending", "0", "")
    assert store.hash(routing.ACTORS) == {actor.actor_id: actor.keys.queue}
    assert store.texts("SMEMBERS", routing.job_key("job-1")) == [actor.actor_id]
    [creation] = store.texts("LRANGE", actor.creations, 0, -1)
    assert json.loads(creation)["headers"]["ca_create"] == [actor.actor_id, actor.keys.queue]


def test_creation_is_repeatable(actor: StoredActor, store: Store) -> None:
    assert actor.create() is None
    assert store.run("LLEN", actor.creations) == 1


def test_a_taken_name_gives_its_holder(actor: StoredActor, store: Store) -> None:
    other = StoredActor(store, actor_id="actor-2")
    assert other.create() == actor.actor_id
    assert other.meta == {}
    assert store.run("LLEN", actor.creations) == 1


def test_a_detached_actor_belongs_to_no_job(store: Store) -> None:
    StoredActor(store).create(detached=True)
    assert store.run("EXISTS", routing.job_key("job-1")) == 0


def test_creation_rings_for_its_need(store: Store) -> None:
    bell = store.subscribe(routing.BELL)
    StoredActor(store).create()
    assert messages_on(bell, 1) == [Need().label]
    assert store.hash(routing.NEEDS) == {Need().label: Need().encode()}
