"""A node's heartbeat."""

from __future__ import annotations

from celery_actors import routing
from celery_actors.store import Store, Tick
from tests.unit.store.records import NODE, NODE_PREFIX, StoredActor, start_node

OTHER = "node-2"
LEASE_MS = 60_000


def tick(store: Store, incarnation: str = NODE, *, first: bool = False) -> Tick:
    names = [routing.lease_key(incarnation), routing.NODES, routing.kill_key(incarnation),
             routing.SESSIONS, routing.DYING, routing.gone_key(incarnation)]  # fmt: skip
    return store.scripts.tick(names, incarnation, LEASE_MS, '{"cpus": 2}', first, NODE_PREFIX)


def end_lease(store: Store, incarnation: str) -> None:
    """Let a lease run out."""
    store.run("DEL", routing.lease_key(incarnation))


def test_a_first_tick_makes_a_node_known(store: Store) -> None:
    assert tick(store, first=True) == (True, [], [], [], {})
    assert store.hash(routing.NODES) == {NODE: '{"cpus": 2}'}
    assert 0 < int(store.run("PTTL", routing.lease_key(NODE))) <= LEASE_MS


def test_a_tick_renews_the_lease(store: Store) -> None:
    tick(store, first=True)
    store.run("PEXPIRE", routing.lease_key(NODE), 1000)
    tick(store)
    assert int(store.run("PTTL", routing.lease_key(NODE))) > 1000


def test_a_node_that_was_taken_over_learns_it_and_gets_no_lease(store: Store) -> None:
    tick(store, first=True)
    end_lease(store, NODE)
    store.run("HDEL", routing.NODES, NODE)
    assert tick(store) == (False, [], [], [], {})
    assert store.run("EXISTS", routing.lease_key(NODE)) == 0
    assert store.hash(routing.NODES) == {}


def test_a_late_tick_before_the_take_over_is_in_time(store: Store) -> None:
    tick(store, first=True)
    end_lease(store, NODE)
    assert tick(store) == (True, [], [], [], {})


def test_a_late_tick_during_the_take_over_is_too_late(store: Store) -> None:
    tick(store, first=True)
    end_lease(store, NODE)
    lease, gone = routing.lease_key(NODE), routing.gone_key(NODE)
    assert store.scripts.seize(lease, gone, 60)
    assert store.scripts.seize(lease, gone, 60)
    assert tick(store) == tick(store, first=True) == (False, [], [], [], {})
    assert store.run("EXISTS", lease) == 0
    assert 0 < int(store.run("TTL", gone)) <= 60


def test_a_node_that_has_its_lease_is_not_taken_over(store: Store) -> None:
    tick(store, first=True)
    assert not store.scripts.seize(routing.lease_key(NODE), routing.gone_key(NODE), 60)
    assert tick(store).alive


def test_actors_that_died_and_are_not_buried_are_listed(store: Store) -> None:
    tick(store, first=True)
    killed, lost = StoredActor(store), StoredActor(store, "actor-2", "other").start()
    killed.create()
    killed.kill()
    lost.release(0, [], next_state="")
    dying = {actor.actor_id: actor.keys.queue for actor in (killed, lost)}
    assert tick(store).dying == dying


def test_a_node_whose_lease_ran_out_is_reported_dead(store: Store) -> None:
    tick(store, first=True)
    tick(store, OTHER, first=True)
    assert tick(store) == (True, [], [], [], {})
    end_lease(store, OTHER)
    assert tick(store) == (True, [], [OTHER], [], {})


def test_actors_to_kill_are_listed(store: Store) -> None:
    tick(store, first=True)
    store.run("SADD", routing.kill_key(NODE), "actor-1", "actor-2")
    store.run("SADD", routing.kill_key(OTHER), "actor-3")
    heard = tick(store)
    assert heard.alive
    assert sorted(heard.kills) == ["actor-1", "actor-2"]


def test_a_session_whose_lease_ran_out_is_reported(store: Store) -> None:
    tick(store, first=True)
    store.scripts.begin_session(routing.SESSIONS, "living", 60_000)
    store.scripts.begin_session(routing.SESSIONS, "gone", -1000)
    assert tick(store) == (True, [], [], ["gone"], {})


def test_a_session_that_is_renewed_lives_on(store: Store) -> None:
    tick(store, first=True)
    store.scripts.begin_session(routing.SESSIONS, "late", -1000)
    store.scripts.begin_session(routing.SESSIONS, "late", 60_000)
    assert tick(store) == (True, [], [], [], {})


def test_a_lease_alone_does_not_make_a_node(store: Store) -> None:
    start_node(store, OTHER)
    assert tick(store, first=True) == (True, [], [], [], {})
