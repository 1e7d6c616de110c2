"""Needs under which work waits: looked at, passed on, refused, saved for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_actors import routing
from celery_actors.need import Need
from celery_actors.store import Store
from tests.unit.needs import GPU, ONE
from tests.unit.store.records import (
    NODE,
    TTL,
    StoredActor,
    answers,
    messages_on,
    results,
    start_node,
)

PREFIXES = (routing.creation_queue(""), routing.shared_queue(""))
#: One need that was meant for a node, and the one that any node may meet.
BOUND = replace(ONE, node="n1", otherwise="full")


def register(store: Store, need: Need, calls: int = 0, actors: int = 0) -> None:
    store.run("HSET", routing.NEEDS, need.label, need.encode())
    for number in range(calls):
        store.run("LPUSH", routing.shared_queue(need.label), f"call-{number}")
    for number in range(actors):
        store.run("LPUSH", routing.creation_queue(need.label), f"actor-{number}")


def waiting(store: Store, queue: str) -> list[str]:
    """What waits in a queue, oldest first."""
    return store.texts("LRANGE", queue, 0, -1)[::-1]


# -- look ------------------------------------------------------------------------------------


def look(store: Store, *sent: Need) -> tuple[int, dict[str, tuple[Need, int, int]]]:
    words = [word for need in sent for word in (need.label, need.encode())]
    groups, found = store.scripts.look(routing.NEEDS, routing.GROUPS_WAITING, PREFIXES, words)
    return groups, {each.label: (Need.decode(each.need), each.actors, each.calls) for each in found}


def test_a_look_tells_what_waits_under_each_need(store: Store) -> None:
    register(store, ONE, calls=2)
    register(store, GPU, calls=1, actors=3)
    store.run("RPUSH", routing.GROUPS_WAITING, "g1", "g2")
    found = (2, {ONE.label: (ONE, 0, 2), GPU.label: (GPU, 3, 1)})
    assert look(store) == found
    assert look(store) == found


def test_a_need_under_which_nothing_waits_is_forgotten(store: Store) -> None:
    register(store, ONE)
    register(store, GPU, calls=1)
    assert look(store) == (0, {GPU.label: (GPU, 0, 1)})
    assert store.texts("HKEYS", routing.NEEDS) == [GPU.label]


def test_what_plain_clients_send_is_found_without_being_registered(store: Store) -> None:
    store.run("LPUSH", routing.shared_queue(GPU.label), "a call")
    assert look(store) == (0, {})
    assert look(store, GPU, ONE) == (0, {GPU.label: (GPU, 0, 1)})
    assert store.hash(routing.NEEDS) == {}


def test_what_is_registered_is_found_once_though_plain_clients_may_send_it(store: Store) -> None:
    register(store, GPU, calls=1)
    _, found = store.scripts.look(
        routing.NEEDS, routing.GROUPS_WAITING, PREFIXES, [GPU.label, GPU.encode()]
    )
    assert [each.label for each in found] == [GPU.label]


def test_in_an_empty_store_nothing_waits(store: Store) -> None:
    assert look(store, ONE) == (0, {})


# -- pass on ---------------------------------------------------------------------------------


def pass_on(store: Store, need: Need = BOUND, calls: int = 100) -> int:
    other = need.anywhere
    names = [routing.creation_queue(need.label), routing.shared_queue(need.label),
             routing.creation_queue(other.label), routing.shared_queue(other.label),
             routing.NEEDS, routing.BELL]  # fmt: skip
    words = (need.label, other.label, other.encode(), routing.PREFIX, calls)
    return store.scripts.pass_on(names, *words)


def test_calls_are_passed_on_in_order_behind_those_that_wait(store: Store) -> None:
    register(store, ONE, calls=1)
    for call in ("a", "b", "c"):
        store.run("LPUSH", routing.shared_queue(BOUND.label), call)
    assert pass_on(store) == 3
    assert waiting(store, routing.shared_queue(ONE.label)) == ["call-0", "a", "b", "c"]
    assert waiting(store, routing.shared_queue(BOUND.label)) == []


def test_passing_on_registers_the_other_need_and_rings_for_it(store: Store) -> None:
    register(store, BOUND, calls=1)
    bell = store.subscribe(routing.BELL)
    pass_on(store)
    assert messages_on(bell, 1) == [ONE.label]
    assert store.hash(routing.NEEDS)[ONE.label] == ONE.encode()


def test_passing_on_twice_passes_on_once(store: Store) -> None:
    register(store, BOUND, calls=3)
    assert (pass_on(store, calls=2), pass_on(store, calls=2), pass_on(store)) == (2, 1, 0)
    assert waiting(store, routing.shared_queue(ONE.label)) == ["call-0", "call-1", "call-2"]


def test_where_nothing_waits_nothing_is_said(store: Store) -> None:
    assert pass_on(store) == 0
    assert store.run("EXISTS", routing.NEEDS) == 0


def test_what_may_run_anywhere_is_not_passed_on_to_itself(store: Store) -> None:
    register(store, ONE, calls=1)
    assert pass_on(store, ONE) == 0
    assert waiting(store, routing.shared_queue(ONE.label)) == ["call-0"]


def bound_actor(store: Store, number: int) -> StoredActor:
    """Create an actor that waits under the bound need."""
    actor = StoredActor(store, f"actor-{number}", f"name-{number}")
    actor.create()
    message = store.run("RPOP", actor.creations)
    store.run("LPUSH", routing.creation_queue(BOUND.label), message)
    store.run("HSET", actor.keys.meta, "need", BOUND.label, "needs", BOUND.encode())
    return actor


def test_actors_are_passed_on_in_order_with_what_they_need_from_now_on(store: Store) -> None:
    actors = [bound_actor(store, number) for number in (1, 2)]
    before = waiting(store, routing.creation_queue(BOUND.label))
    assert pass_on(store) == 2
    assert waiting(store, routing.creation_queue(ONE.label)) == before
    for actor in actors:
        assert (actor.meta["need"], actor.meta["needs"]) == (ONE.label, ONE.encode())


def test_an_actor_that_was_passed_on_can_be_claimed(store: Store) -> None:
    actor = bound_actor(store, 1)
    pass_on(store)
    start_node(store)
    names = [routing.creation_queue(ONE.label), routing.owned_key(NODE), routing.lease_key(NODE),
             routing.DEAD_LETTERS]  # fmt: skip
    claim = store.scripts.claim(names, f"{NODE}|n1", routing.PREFIX)
    assert claim is not None
    assert (claim.actor_id, claim.meta["need"]) == (actor.actor_id, ONE.label)


@pytest.mark.parametrize("message", ["no JSON", "{}", '{"headers": {}}', "[]"])
def test_what_is_no_creation_is_passed_on_and_makes_no_record(store: Store, message: str) -> None:
    store.run("LPUSH", routing.creation_queue(BOUND.label), message)
    actor = bound_actor(store, 1)
    assert pass_on(store) == 2
    assert waiting(store, routing.creation_queue(ONE.label))[0] == message
    assert actor.meta["need"] == ONE.label


def test_the_creation_of_an_actor_that_is_gone_makes_no_record(store: Store) -> None:
    actor = bound_actor(store, 1)
    store.run("DEL", actor.keys.meta)
    assert pass_on(store) == 1
    assert store.run("EXISTS", actor.keys.meta) == 0


# -- refuse ----------------------------------------------------------------------------------

QUEUE = routing.shared_queue(ONE.label)


def send(store: Store, *calls: str) -> None:
    for call in calls:
        store.run("LPUSH", QUEUE, call)


def refuse(store: Store, *messages: bytes) -> int:
    return store.scripts.refuse(QUEUE, messages, TTL, answers(*range(1, len(messages) + 1)))


def test_the_oldest_calls_are_answered_and_the_others_wait(store: Store) -> None:
    send(store, "a", "b", "c")
    assert refuse(store, b"a", b"b") == 0
    assert results(store) == {"call-1": 1, "call-2": 2}
    assert waiting(store, QUEUE) == ["c"]


def test_calls_are_refused_once(store: Store) -> None:
    send(store, "a", "b", "c")
    refuse(store, b"a", b"b")
    assert refuse(store, b"a", b"b") == -11
    assert waiting(store, QUEUE) == ["c"]


def test_all_that_waits_can_be_refused(store: Store) -> None:
    send(store, "a")
    assert refuse(store, b"a") == 0
    assert waiting(store, QUEUE) == []
    assert refuse(store, b"a") == -11


def test_a_queue_that_has_moved_on_is_looked_at_again(store: Store) -> None:
    send(store, "b", "c", "d")
    assert refuse(store, b"a", b"b") == -11
    assert refuse(store, b"b", b"d") == -11
    assert refuse(store, b"b", b"c", b"d", b"e") == -11
    assert waiting(store, QUEUE) == ["b", "c", "d"]
    assert results(store) == {}


# -- save for --------------------------------------------------------------------------------

KEY = routing.saving_key(ONE.label)


def test_one_node_saves_for_a_need_at_a_time(store: Store) -> None:
    assert store.scripts.save_for(KEY, "n1", 60_000)
    assert not store.scripts.save_for(KEY, "n2", 60_000)
    assert store.scripts.save_for(routing.saving_key(GPU.label), "n2", 60_000)


def test_a_node_that_saves_renews_its_turn(store: Store) -> None:
    assert store.scripts.save_for(KEY, "n1", 1_000)
    assert store.scripts.save_for(KEY, "n1", 60_000)
    assert int(store.run("PTTL", KEY)) > 1_000


def test_another_node_saves_when_the_first_is_done(store: Store) -> None:
    store.scripts.save_for(KEY, "n1", 60_000)
    store.run("UNLINK", KEY)
    assert store.scripts.save_for(KEY, "n2", 60_000)
    assert not store.scripts.save_for(KEY, "n1", 60_000)


# -- nodes -----------------------------------------------------------------------------------


def test_nodes_are_listed_with_what_they_say_and_whether_they_live(store: Store) -> None:
    store.run("HSET", routing.NODES, "n1", "one", "n2", "two")
    store.run("SET", routing.lease_key("n1"), "1")
    listed = [("n1", b"one", True), ("n2", b"two", False)]
    for _ in range(2):
        assert sorted(store.scripts.nodes(routing.NODES, routing.lease_key(""))) == listed
