"""Actors without a process until their next call, as the store's scripts see them."""

from __future__ import annotations

import pytest

from celery_actors import directory, routing, tokens
from celery_actors.errors import FencedError
from celery_actors.need import Need
from celery_actors.store import Store
from tests.unit.store.records import NODE, StoredActor, answers, messages_on, start_node

TIE = "p:session-1:1"
CODE_SECONDS = 100


@pytest.fixture
def actor(store: Store) -> StoredActor:
    """An actor that has settled one call and is idle."""
    found = StoredActor(store).start()
    found.submit(1, "a")
    found.commit(0, [], want=1)
    found.commit(0, answers(1))
    return found


@pytest.fixture
def passive(actor: StoredActor) -> StoredActor:
    assert actor.passivate()
    return actor


def sweep(store: Store, cursor: str = "0", count: int = 100) -> tuple[str, int]:
    names = [routing.PASSIVE, routing.ACTORS]
    return store.scripts.sweep(names, cursor, count, CODE_SECONDS)


def passive_ones(store: Store) -> list[str]:
    return store.texts("SMEMBERS", routing.PASSIVE)


def asked_for(actor: StoredActor) -> list[bytes]:
    """The creations that wait."""
    return list(actor.store.run("LRANGE", actor.creations, 0, -1))


def its_creation(actor: StoredActor) -> bytes:
    return directory.creation_message(actor.actor_id, actor.keys.queue, "Counter")


def test_a_passive_actor_is_nobodys_and_keeps_its_position(
    store: Store, passive: StoredActor
) -> None:
    meta = passive.meta
    assert (meta["st"], meta["own"], meta["ap"], meta["restarts"]) == ("passive", "", "1", "0")
    assert not {"node", "pid", "cid"} & meta.keys()
    assert passive_ones(store) == [passive.actor_id]
    assert store.texts("SMEMBERS", routing.owned_key(NODE)) == []
    assert directory.ActorRecord(passive.actor_id, meta).state == "PASSIVE"


def test_an_actor_with_a_waiting_call_goes_on(store: Store, actor: StoredActor) -> None:
    before = actor.meta
    actor.submit(2, "b")
    assert not actor.passivate()
    assert actor.meta == before
    assert passive_ones(store) == []


def test_an_actor_with_a_call_out_of_line_goes_on(actor: StoredActor) -> None:
    actor.submit(2, "b")
    actor.park(1)
    assert not actor.passivate()
    assert actor.meta["own"] == actor.owner


def test_a_repeat_says_the_same(store: Store, passive: StoredActor) -> None:
    before = passive.meta
    assert passive.passivate()
    assert passive.meta == before
    assert passive_ones(store) == [passive.actor_id]


def test_who_does_not_own_it_changes_nothing(actor: StoredActor) -> None:
    before = actor.meta
    actor.owner = f"{NODE}|other"
    with pytest.raises(FencedError):
        actor.passivate()
    assert actor.meta == before


def test_a_repeat_that_comes_after_the_next_call_is_fenced(passive: StoredActor) -> None:
    passive.submit(2, "b")
    with pytest.raises(FencedError):
        passive.passivate()


def test_the_creation_record_goes_once_the_state_has_taken_its_place(
    store: Store, passive: StoredActor
) -> None:
    assert store.get(passive.keys.spec) is None


def test_a_creation_record_stays_that_has_buffers_beside_it(
    store: Store, actor: StoredActor
) -> None:
    spec = b'{"__type__":"ca","__value__":{"m":"","k":"","p":"","o":["blob",100]}}'
    store.run("SET", actor.keys.spec, spec)
    assert actor.passivate()
    assert store.get(actor.keys.spec) == spec


def test_a_record_that_had_a_long_value_is_small_again(store: Store, actor: StoredActor) -> None:
    store.run("HSET", actor.keys.meta, "cause", "x" * 1000)
    assert actor.passivate()
    assert "cause" not in actor.meta
    assert store.run("OBJECT", "ENCODING", actor.keys.meta) == b"listpack"


def test_a_call_asks_for_a_process_as_creation_does(store: Store, passive: StoredActor) -> None:
    subscription = store.subscribe(routing.BELL)
    assert passive.submit(2, "b") == [0, 1]
    assert passive.meta["st"] == "restarting"
    assert asked_for(passive) == [its_creation(passive)]
    assert store.hash(routing.NEEDS) == {"none": Need().encode()}
    assert messages_on(subscription, 1) == ["none"]
    assert passive_ones(store) == []


def test_a_class_name_beyond_ascii_gives_the_same_creation(
    store: Store, actor: StoredActor
) -> None:
    store.run("HSET", actor.keys.meta, "class", "Zähler")
    assert actor.passivate()
    actor.submit(2, "b")
    wanted = directory.creation_message(actor.actor_id, actor.keys.queue, "Zähler")
    assert asked_for(actor) == [wanted]


def test_further_calls_ask_no_more(passive: StoredActor) -> None:
    passive.submit(2, "b")
    passive.submit(3, "c")
    assert asked_for(passive) == [its_creation(passive)]


def test_a_repeated_submission_wakes_nobody(passive: StoredActor) -> None:
    assert passive.submit(1, "a") == [0, 0]
    assert passive.meta["st"] == "passive"


def test_any_node_may_start_it_again_where_it_was(store: Store, passive: StoredActor) -> None:
    passive.submit(2, "b")
    start_node(store, "node-2")
    claim = passive.claim("node-2", nonce="n2")
    assert claim is not None
    assert (claim.meta["ap"], claim.meta["restarts"]) == ("1", "0")
    assert claim.meta["own"] == "node-2|n2"
    assert store.texts("SMEMBERS", routing.owned_key("node-2")) == [passive.actor_id]


def test_whoever_drops_its_last_tie_wakes_it_to_say_good_bye(store: Store) -> None:
    actor = StoredActor(store)
    directory.create(
        store, actor_id=actor.actor_id, queue=actor.keys.queue, name_field="", spec=b"the spec",
        need=Need(), job="job-1", detached=False, fields={"class": "Counter", "max_restarts": -1},
        tie=f"{actor.keys.thing} {TIE}",
    )  # fmt: skip
    start_node(store)
    actor.claim()
    assert actor.passivate()

    store.scripts.drop(tokens.PREFIXES, 100, [f"{actor.keys.thing} {TIE}"])

    assert ["__ray_terminate__" in call for call in actor.waiting] == [True]
    assert asked_for(actor) == [its_creation(actor)]
    assert actor.meta["st"] == "restarting"


def test_a_killed_one_leaves_nothing(store: Store, passive: StoredActor) -> None:
    directory.end(store, passive.actor_id, passive.keys.queue, "killed", 60)
    assert passive.meta["st"] == "buried"
    store.run("UNLINK", passive.keys.meta, routing.lease_key(NODE))
    left = {key for key in store.texts("KEYS", "*") if int(store.run("TTL", key)) == -1}
    assert left == {routing.NEEDS}


def test_one_killed_on_its_way_back_leaves_no_creation(passive: StoredActor) -> None:
    passive.submit(2, '{"headers":{"id":"2","task":"Counter.add"},"properties":{},"body":"x"}')
    directory.end(passive.store, passive.actor_id, passive.keys.queue, "killed", 60)
    assert asked_for(passive) == []
    assert passive.meta["st"] == "buried"


# -- the sweep -------------------------------------------------------------------------------


def test_a_call_that_a_plain_client_sent_is_found(store: Store, passive: StoredActor) -> None:
    store.run("LPUSH", passive.keys.queue, "from outside")
    assert sweep(store) == ("0", 1)
    assert asked_for(passive) == [its_creation(passive)]
    assert passive_ones(store) == []


def test_a_second_look_finds_nothing_more(store: Store, passive: StoredActor) -> None:
    store.run("LPUSH", passive.keys.queue, "from outside")
    sweep(store)
    assert sweep(store) == ("0", 0)
    assert len(asked_for(passive)) == 1


def test_one_without_calls_rests_and_its_code_stays(store: Store, passive: StoredActor) -> None:
    store.run("HSET", passive.keys.meta, "code", "c1", "traits", "t1", "needs", '{"env":"e1"}')
    kept = [routing.code_key("c1"), routing.code_key("t1"), routing.env_key("e1")]
    for key in kept:
        store.run("SET", key, "code", "EX", 1)
    assert sweep(store) == ("0", 0)
    assert passive.meta["st"] == "passive"
    assert all(int(store.run("TTL", key)) > 1 for key in kept)


def test_what_is_passive_no_more_is_taken_from_the_list(store: Store, passive: StoredActor) -> None:
    store.run("SADD", routing.PASSIVE, "unknown")
    store.run("HSET", passive.keys.meta, "st", "alive")
    assert sweep(store) == ("0", 0)
    assert passive_ones(store) == []


def test_looks_go_on_where_the_last_one_ended(store: Store) -> None:
    store.run("SADD", routing.PASSIVE, *(f"unknown-{number}" for number in range(2000)))
    left, cursor = 2000, "0"
    for _ in range(2000):
        cursor, _ = sweep(store, cursor, 10)
        now = len(passive_ones(store))
        assert 0 <= left - now <= 100
        left = now
        if cursor == "0":
            break
    assert left == 0
