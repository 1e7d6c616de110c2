"""A store without memory left: what would fill it further is refused, what empties it passes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celery_actors import groups, routing, tokens
from celery_actors.errors import StoreFullError
from celery_actors.need import Need
from celery_actors.store import Store
from celery_actors.store.sources import SOURCES
from tests.unit.needs import ONE
from tests.unit.store.records import NODE, NODE_PREFIX, TTL, StoredActor, answer, full, start_node

#: Steps that only read or change when keys expire, and those that take in more work.
READS = {"extend", "group_line", "group_records", "held", "known", "mailboxes", "nodes"}
TAKES_IN = {"create", "group_create", "keep_lines", "remind", "ring", "submit", "submit_shared"}
#: Their first command of their own frees, or takes from a list.
FREES_FIRST = {
    "bury", "claim", "commit", "drop", "forget", "group_remove", "look", "refuse", "take",
}  # fmt: skip
NEED = Need().label


@pytest.fixture
def actor(store: Store) -> StoredActor:
    found = StoredActor(store).start()
    store.run("HSET", found.keys.meta, "st", "alive")
    found.submit(1, "a", "b", "c")
    return found


def test_every_step_is_known_to_pass_or_to_be_refused() -> None:
    """A new step belongs to one of these, so that nobody forgets to decide."""
    prepared = {
        name for name, source in SOURCES.items() if b"writes, and changes nothing" in source
    }
    assert prepared | READS | TAKES_IN | FREES_FIRST == set(SOURCES)
    assert prepared & (READS | TAKES_IN) == set()


def test_more_work_is_refused_and_nothing_of_it_is_written(
    actor: StoredActor, store: Store
) -> None:
    shared = [routing.shared_queue(NEED), routing.CALLERS + "c", routing.BELL, routing.NEEDS]
    before = sorted(store.texts("KEYS", "*"))
    steps: list[Callable[[], object]] = [
        lambda: actor.submit(4, "d"),
        lambda: store.scripts._eval("submit_shared", shared, 1, 0, TTL, NEED, "{}", "x"),
        lambda: StoredActor(store, "actor-2", "other").create(),
        lambda: groups.create(store, "g1", [ONE], "PACK", name="g", job="job-1"),
    ]
    with full(store):
        for step in steps:
            with pytest.raises(
                StoreFullError, match="is full: command not allowed when used memory"
            ):
                step()
    assert sorted(store.texts("KEYS", "*")) == before
    assert actor.waiting == ["a", "b", "c"]
    assert actor.submit(4, "d") == [0, 4]


def test_an_actor_fetches_settles_and_steps_aside(actor: StoredActor, store: Store) -> None:
    scripts = store.scripts
    with full(store):
        assert actor.commit(0, [], want=1) == [0, [b"a"], 1]
        assert scripts.mark(actor.keys.meta, actor.epoch, actor.owner, {"go": 1})
        assert actor.commit(0, [answer(1)], want=1) == [0, [b"b"], 1]
        assert actor.take(1, 1)[:2] == [0, [b"b"]]
        keys = actor.keys
        assert scripts.begin(keys.meta, keys.begun, actor.epoch, actor.owner, [1])
        assert actor.take(2, 0, [(1, answer(2))])[0] == 0
    assert store.get(answer(1).key)
    assert store.get(answer(2).key)
    assert actor.waiting == ["c"]


def test_what_an_actor_leaves_is_settled_and_it_starts_again(
    actor: StoredActor, store: Store
) -> None:
    with full(store):
        assert actor.release(0, [answer(1)]) == "restarting"
        assert actor.claim(nonce="n2") is not None
        assert actor.release(1, [], returned=[b"again"], settled=0) == "restarting"
        assert actor.kill()
        store.scripts.unpark(actor.keys.queue, actor.keys.meta, actor.keys.parked,
                             actor.keys.begun, actor.meta["ep"])  # fmt: skip
        store.run("DEL", actor.keys.queue)
        assert actor.bury()
    assert store.get(answer(1).key)


def test_functions_are_taken_settled_given_back_and_recovered(store: Store) -> None:
    queue, keys, owner = routing.shared_queue(NEED), routing.worker_keys("w-1"), f"{NODE}|w-1"
    store.run("LPUSH", queue, *"abcd")
    names = [routing.sessions_key(NODE), routing.owned_key(NODE), keys.meta, routing.gone_key(NODE)]
    scripts = store.scripts
    with full(store):
        meta = ("ep", "1", "own", owner, "ap", 0, "go", 0, "needs", "{}")
        assert scripts.enlist(names, "session", "w-1", *meta)
        words = ("1", owner, 0, 0, 3, TTL)
        assert scripts._eval("commit", [keys.queue, keys.meta, queue], *words)[1] == [*map(
            str.encode, "abc"
        )]  # fmt: skip
        given = [keys.queue, keys.meta, queue, routing.NEEDS]
        assert scripts.give_back(given, "1", owner, 2, NEED, routing.BELL) == 1
        recovered = [keys.queue, keys.meta, queue, routing.owned_key(NODE), routing.NEEDS]
        done = scripts.recover(
            recovered, epoch="1", owner=owner, seen=2, worker_id="w-1", need=NEED,
            bell=routing.BELL, ttl=TTL, position="0", go="3", answers=[answer(1)], returned=[b"b"],
        )  # fmt: skip
        assert done == 0
    assert store.texts("LRANGE", queue, 0, -1) == ["d", "c", "b"]
    assert store.get(answer(1).key)


def test_nodes_and_sessions_stay_alive(store: Store) -> None:
    names = [routing.lease_key(NODE), routing.NODES, routing.kill_key(NODE), routing.SESSIONS,
             routing.DYING, routing.gone_key(NODE)]  # fmt: skip
    with full(store):
        for first in (True, False):
            assert store.scripts.tick(names, NODE, 60_000, "{}", first, NODE_PREFIX)[0]
        store.scripts.begin_session(routing.SESSIONS, "session", 60_000)
        assert store.scripts.save_for(routing.saving_key(NEED), NODE, 1000)
    assert store.run("EXISTS", routing.lease_key(NODE))
    assert store.run("ZSCORE", routing.SESSIONS, "session")


def test_calls_are_cancelled_answered_and_passed_on(actor: StoredActor, store: Store) -> None:
    scripts, mark = store.scripts, routing.cancelled_key("call-9")
    store.run("LPUSH", routing.shared_queue("there"), "x")
    creations = [routing.creation_queue("there"), routing.shared_queue("there"),
                 routing.creation_queue(NEED), routing.shared_queue(NEED), routing.NEEDS,
                 routing.BELL]  # fmt: skip
    with full(store):
        scripts.cancel(actor.keys.queue, actor.keys.meta, mark, "call-9", 60, TTL, answer(9))
        assert scripts.answer(TTL, [answer(1)]) == 1
        assert scripts.pass_on(creations, "there", NEED, "{}", routing.PREFIX, 10) == 1
        assert scripts.tell(routing.asks_key(NODE), 60, "word") == 1
    assert store.run("EXISTS", mark)
    assert store.get(answer(1).key)


def test_who_holds_what_is_noted_and_forgotten(store: Store) -> None:
    store.run("SET", routing.result_key("v"), "{}")
    with full(store):
        assert store.scripts._eval("hold", [], *tokens.PREFIXES, TTL, "v p:s:1", "v p:t:1") == 2
        assert store.scripts.drop(tokens.PREFIXES, 100, ["v p:s:1"]) == []
        assert store.run("EXISTS", routing.result_key("v"))
        assert store.scripts.leave(tokens.PREFIXES, 100, "t", TTL, 60, 10)[0] == 0
    assert not store.run("EXISTS", routing.result_key("v"))


def test_placement_groups_go_their_way(store: Store) -> None:
    groups.create(store, "g1", [ONE], "PACK", name="g", job="job-1")
    start_node(store, "n1")

    def group() -> groups.Group:
        found = groups.find(store, "g1")
        assert found is not None
        return found

    with full(store):
        assert groups.begin(store, group(), ["n1"])
        assert groups.answer(store, group(), "n1", [0], held=True)
        assert group().state == "created"
        groups.lost(store, "n1")
        assert group().state == "waiting"
