"""Who owns an actor: claims, losses, restarts, kills and burials."""

from __future__ import annotations

import json

import pytest

from celery_actors import routing
from celery_actors.store import Store
from celery_actors.store.scripts import Seen
from tests.unit.store.records import (
    NODE,
    StoredActor,
    answer,
    answers,
    messages_on,
    results,
    start_node,
)


@pytest.fixture
def actor(store: Store) -> StoredActor:
    """An actor that a node owns, with three calls in its queue."""
    found = StoredActor(store).start()
    found.submit(1, "a", "b", "c")
    return found


def owned(store: Store, incarnation: str = NODE) -> list[str]:
    return store.texts("SMEMBERS", routing.owned_key(incarnation))


# -- claim -----------------------------------------------------------------------------------


def test_a_claim_makes_the_node_the_owner(store: Store) -> None:
    actor = StoredActor(store)
    actor.create()
    start_node(store)
    claim = actor.claim()
    assert claim is not None
    assert (claim.actor_id, claim.queue, claim.spec) == ("actor-1", actor.keys.queue, b"the spec")
    assert actor.meta["own"] == f"{NODE}|n1"
    assert actor.meta["ep"] == claim.epoch == claim.meta["ep"]
    assert actor.meta["st"] == "starting"
    assert owned(store) == ["actor-1"]


def test_an_actor_is_claimed_once(actor: StoredActor, store: Store) -> None:
    start_node(store, "node-2")
    assert actor.claim("node-2") is None
    assert owned(store, "node-2") == []


def test_a_claim_whose_reply_was_lost_gives_the_same_actor_again(store: Store) -> None:
    start_node(store)
    actor, behind = (StoredActor(store, f"actor-{number}", f"name-{number}") for number in (1, 2))
    for each in (actor, behind):
        each.create()
    first = actor.claim(nonce="n1")

    assert actor.claim(nonce="n1") == first

    assert first is not None
    assert (first.actor_id, first.spec) == ("actor-1", b"the spec")
    assert (behind.meta["st"], owned(store)) == ("pending", ["actor-1"])
    following = actor.claim(nonce="n2")
    assert following is not None
    assert following.actor_id == "actor-2"


def test_what_a_claim_remembers_goes_by_itself(store: Store) -> None:
    actor = StoredActor(store).start()
    assert 0 < int(store.run("TTL", routing.claim_key(actor.owner))) <= 60


def test_a_repeated_claim_gives_no_actor_that_was_killed_meanwhile(actor: StoredActor) -> None:
    actor.kill()
    assert actor.claim(nonce="n1") is None


def test_a_claim_that_arrives_after_its_process_has_ended_claims_nothing(
    actor: StoredActor, store: Store
) -> None:
    assert actor.release(0, []) == "restarting"
    assert actor.claim(nonce="n1") is None
    assert owned(store) == []
    assert actor.claim(nonce="n2") is not None


def test_a_repeated_claim_gives_no_actor_that_another_node_has_now(
    actor: StoredActor, store: Store
) -> None:
    actor.release(0, [])
    start_node(store, "node-2")
    assert actor.claim("node-2") is not None
    assert actor.claim(nonce="n1") is None
    assert owned(store, "node-2") == ["actor-1"]


def test_a_node_without_a_lease_claims_nothing(store: Store) -> None:
    actor = StoredActor(store)
    actor.create()
    assert actor.claim() is None
    assert store.run("LLEN", actor.creations) == 1


def test_the_oldest_creation_is_claimed_first(store: Store) -> None:
    start_node(store)
    actors = [StoredActor(store, f"actor-{number}", f"name-{number}") for number in range(3)]
    for actor in actors:
        actor.create()
    claims = [actors[0].claim(nonce=f"n{number}") for number in range(3)]
    assert [claim.actor_id for claim in claims if claim] == ["actor-0", "actor-1", "actor-2"]


def test_creations_of_dead_actors_are_passed_over(store: Store) -> None:
    start_node(store)
    dead, living = StoredActor(store, "actor-1", "one"), StoredActor(store, "actor-2", "two")
    dead.create()
    living.create()
    dead.kill()
    claim = living.claim()
    assert claim is not None
    assert claim.actor_id == "actor-2"


def test_each_owner_has_a_higher_epoch(actor: StoredActor) -> None:
    first = int(actor.epoch)
    actor.release(0, [])
    actor.claim(nonce="n2")
    assert int(actor.epoch) > first


# -- release ---------------------------------------------------------------------------------


def test_a_lost_process_leaves_calls_that_had_not_begun(actor: StoredActor, store: Store) -> None:
    assert actor.release(0, answers(1)) == "restarting"
    assert actor.waiting == ["b", "c"]
    assert results(store) == {"call-1": 1}
    meta = actor.meta
    assert (meta["st"], meta["own"], meta["ap"], meta["restarts"]) == ("restarting", "", "1", "1")
    assert owned(store) == []


def test_a_restarting_actor_is_claimed_again_and_goes_on(actor: StoredActor) -> None:
    actor.release(0, answers(1))
    assert actor.claim(nonce="n2") is not None
    assert actor.commit(1, answers(2), want=1) == [0, [b"c"], 1]


def test_a_restart_rings_for_a_node(actor: StoredActor, store: Store) -> None:
    bell = store.subscribe(routing.BELL)
    actor.release(0, [])
    assert messages_on(bell, 1) == ["none"]


def test_without_a_restart_the_actor_is_dead(actor: StoredActor, store: Store) -> None:
    assert actor.release(0, answers(1), next_state="", init_failed=True) == "dead"
    assert (actor.meta["st"], actor.meta["cause"], actor.meta["init_failed"]) == (
        "dead", "killed", "1",
    )  # fmt: skip
    assert actor.submit(4, "d") == [-2, b"killed", b"1"]
    assert store.run("LLEN", actor.creations) == 0


def test_a_loss_reported_twice_counts_once(actor: StoredActor, store: Store) -> None:
    actor.release(0, answers(1))
    assert actor.release(0, answers(1)) == -10
    assert actor.meta["restarts"] == "1"
    assert store.run("LLEN", actor.creations) == 1
    assert actor.waiting == ["b", "c"]


def test_a_lost_process_that_had_gone_on_is_looked_at_again(
    actor: StoredActor, store: Store
) -> None:
    actor.commit(0, answers(1))
    assert actor.release(0, answers(1)) == -11
    assert actor.meta["st"] == "starting"
    assert actor.waiting == ["b", "c"]


def test_a_lost_process_that_has_begun_a_call_since_is_looked_at_again(
    actor: StoredActor, store: Store
) -> None:
    before = Seen(actor.meta["go"], actor.meta["st"], ())
    actor.commit(0, [], want=2)
    assert actor.release(0, [], seen=before) == -11
    assert actor.meta["st"] == "starting"

    store.run("SADD", actor.keys.begun, "7")
    assert actor.release(0, [], seen=Seen(actor.meta["go"], actor.meta["st"], ())) == -11
    assert actor.meta["st"] == "starting"


def test_a_fenced_process_cannot_commit_after_its_loss(actor: StoredActor, store: Store) -> None:
    actor.release(0, [])
    assert actor.commit(0, answers(1)) == [-10]
    former = (actor.epoch, actor.owner)
    actor.claim(nonce="n2")
    actor.epoch, actor.owner = former
    assert actor.commit(0, answers(1)) == [-10]
    assert results(store) == {}


# -- kill ------------------------------------------------------------------------------------


def test_a_kill_fences_the_actor_and_tells_its_node(actor: StoredActor, store: Store) -> None:
    bell = store.subscribe(routing.node_channel(NODE))
    assert actor.kill("ray.kill")
    assert messages_on(bell, 1) == ["kill"]
    assert store.texts("SMEMBERS", routing.kill_key(NODE)) == ["actor-1"]
    assert owned(store) == []
    assert (actor.meta["st"], actor.meta["cause"]) == ("dead", "ray.kill")
    assert actor.commit(0, answers(1)) == [-10]


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "lost"])
def test_whoever_comes_may_answer_the_calls_of_a_dead_actor(
    actor: StoredActor, store: Store, killed: bool
) -> None:
    if killed:
        actor.kill()
    else:
        actor.release(0, [], next_state="")
    actor.epoch, actor.owner = actor.meta["ep"], "@reaper"
    assert actor.commit(0, answers(1, 2, 3)) == [0, [], 0]
    assert results(store) == {"call-1": 1, "call-2": 2, "call-3": 3}


def test_a_second_kill_changes_nothing(actor: StoredActor) -> None:
    actor.kill("first")
    before = actor.meta
    assert not actor.kill("second")
    assert actor.meta == before


def test_an_actor_that_no_node_has_yet_is_killed_too(store: Store) -> None:
    actor = StoredActor(store)
    actor.create()
    assert actor.kill()
    assert actor.meta["st"] == "dead"


def test_an_unknown_actor_is_not_killed(store: Store) -> None:
    actor = StoredActor(store)
    assert not actor.kill()
    assert actor.meta == {}


def test_a_killed_actors_loss_does_not_restart_it(actor: StoredActor, store: Store) -> None:
    actor.kill()
    assert actor.release(0, answers(1)) == -10
    assert actor.meta["st"] == "dead"
    assert store.run("LLEN", actor.creations) == 0


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "waiting for a node"])
def test_no_call_is_cancelled_once_its_actor_is_dead_and_all_are_about_to_be_answered(
    store: Store, killed: bool
) -> None:
    actor = StoredActor(store)
    actor.create()
    actor.submit(1, '{"id":"call-1"}', '{"id":"call-2"}')
    if killed:
        start_node(store)
        actor.claim()
        store.scripts.mark(actor.keys.meta, actor.epoch, actor.owner, {"st": "alive"})
        actor.kill()
    names = (actor.keys.queue, actor.keys.meta, "mark")

    cancelled = [
        bool(store.scripts.cancel(*names, f"call-{number}", 60, 60, answer(number)))
        for number in (1, 2)
    ]

    assert cancelled == [not killed, not killed]


# -- burial ----------------------------------------------------------------------------------


def test_a_dead_actor_with_waiting_calls_is_not_buried(actor: StoredActor, store: Store) -> None:
    actor.kill()
    assert not actor.bury()
    assert store.hash(routing.NAMES) != {}


def test_a_dead_actor_with_parked_calls_is_not_buried(actor: StoredActor) -> None:
    actor.park(0)
    actor.commit(1, answers(2, 3))
    actor.kill()
    assert not actor.bury()
    assert actor.parked == {"0": "a"}


def test_a_burial_frees_the_name_and_every_key_but_the_memory_of_the_death(
    actor: StoredActor, store: Store
) -> None:
    actor.commit(0, answers(1, 2, 3))
    actor.kill("ray.kill")
    assert actor.bury()
    assert store.hash(routing.NAMES) == {}
    assert store.hash(routing.ACTORS) == {}
    left = [key for key in store.texts("KEYS", "*") if "actor-1" in key or "job-1" in key]
    assert left == [actor.keys.meta]
    assert 0 < int(store.run("TTL", actor.keys.meta)) <= 100
    assert actor.meta["cause"] == "ray.kill"


def test_a_burial_is_repeatable_and_leaves_a_successor_alone(store: Store) -> None:
    first = StoredActor(store)
    first.create()
    first.kill()
    first.bury()
    second = StoredActor(store, actor_id="actor-2")
    assert second.create() is None
    first.bury()
    assert store.hash(routing.NAMES) == {routing.name_field("default", "counter"): "actor-2"}
    assert second.submit(1, "x") == [0, 1]
    assert second.waiting == ["x"]


def test_nobody_settles_calls_in_the_name_of_a_buried_actor(store: Store) -> None:
    # A successor of the same name has the same queue.
    first = StoredActor(store).start()
    first.kill()
    first.epoch, first.owner = first.meta["ep"], first.meta["own"]
    first.bury()
    second = StoredActor(store, actor_id="actor-2")
    second.create()
    second.submit(1, "x")
    assert first.commit(0, answers(1)) == [-10]
    assert second.waiting == ["x"]


def test_a_buried_actor_is_not_killed_again(actor: StoredActor) -> None:
    actor.commit(0, answers(1, 2, 3))
    actor.kill("first")
    actor.bury()
    before = actor.meta
    assert not actor.kill("second")
    assert actor.meta == before


def test_a_living_actor_is_not_buried(actor: StoredActor, store: Store) -> None:
    actor.commit(0, answers(1, 2, 3))
    actor.bury()
    assert store.hash(routing.ACTORS) == {"actor-1": actor.keys.queue}
    assert store.hash(routing.NAMES) != {}
    assert actor.submit(4, "d") == [0, 1]


def test_a_message_that_asks_for_no_actor_is_set_aside(store: Store) -> None:
    actor = StoredActor(store)
    start_node(store)
    for stray in ("no JSON", "[]", '{"headers": {}}', '{"headers": {"ca_create": "x"}}'):
        store.run("LPUSH", actor.creations, stray)
    actor.create()

    assert actor.claim() is not None

    letters = [json.loads(text) for text in store.texts("LRANGE", routing.DEAD_LETTERS, 0, -1)]
    assert [letter["message"] for letter in letters][::-1] == [
        "no JSON", "[]", '{"headers": {}}', '{"headers": {"ca_create": "x"}}',
    ]  # fmt: skip
    assert {letter["queue"] for letter in letters} == {actor.creations}
