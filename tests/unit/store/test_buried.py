"""Who died of late is remembered: for a day, and not without end."""

from __future__ import annotations

from celery_actors import directory, routing
from celery_actors.lookup import find_actor, record_of
from celery_actors.store import Store
from celery_actors.tokens import REMEMBER_SECONDS
from tests.unit.store.records import StoredActor


def ended(store: Store, number: int) -> StoredActor:
    actor = StoredActor(store, f"actor-{number}", f"name-{number}").start(f"n{number}")
    directory.end(store, actor.actor_id, actor.keys.queue, f"cause {number}", 60)
    return actor


def test_the_dead_are_found_with_their_causes_for_a_day(store: Store) -> None:
    first, second = ended(store, 1), ended(store, 2)

    found = {record.actor_id: record.meta["cause"] for record in directory.buried(store)}

    assert found == {first.actor_id: "cause 1", second.actor_id: "cause 2"}
    assert directory.actors(store) == []
    assert 0 < store.run("TTL", routing.BURIED) <= REMEMBER_SECONDS
    record = record_of(store, first.actor_id)
    assert record is not None
    assert record.state == "DEAD"


def test_a_living_actor_goes_before_a_dead_one_of_its_name(store: Store) -> None:
    dead = ended(store, 1)
    living = StoredActor(store, "actor-2", dead.name).start("n2")

    assert find_actor(store, dead.name).actor_id == living.actor_id
    assert find_actor(store, dead.actor_id).actor_id == dead.actor_id


def test_of_very_many_the_newest_are_remembered_and_none_for_longer_than_a_day(
    store: Store,
) -> None:
    (now, _) = map(int, store.run("TIME"))
    store.run("ZADD", routing.BURIED, now - REMEMBER_SECONDS - 10, "ca.actor.a|long-ago")
    for number in range(12):
        store.run("ZADD", routing.BURIED, now - 100 + number, f"ca.actor.b|{number}")

    actor = StoredActor(store).start()
    actor.kill()
    assert actor.bury()  # with room for ten

    left = store.texts("ZRANGE", routing.BURIED, 0, -1)
    assert len(left) == 10
    assert left[-1] == f"{actor.keys.queue}|{actor.actor_id}"
    assert left[0] == "ca.actor.b|3"
