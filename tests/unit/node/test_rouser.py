"""What a node does each tick for actors without a process, and for what actors are made from."""

from __future__ import annotations

import pytest

from celery_actors import reminders, routing
from celery_actors.assignment import Assignment
from celery_actors.need import Need
from celery_actors.node import rouser
from celery_actors.node.rouser import Rouser
from celery_actors.store import Store
from tests.unit.store.records import StoredActor


def test_a_look_sends_due_reminders_and_wakes_who_has_calls(store: Store) -> None:
    actor = StoredActor(store).start()
    assert actor.passivate()
    call = reminders.message_of(actor.keys, "Counter.add", "tick", "job-1", 0, (), {})
    reminders.remind(store, actor.keys, "the actor", "tick", (0, 0), call)
    other = StoredActor(store, "actor-2", "other").start(nonce="n2")
    assert other.passivate()
    store.run("LPUSH", other.keys.queue, "from outside")

    Rouser(store).look(())

    assert len(actor.waiting) == 1
    assert [each.meta["st"] for each in (actor, other)] == ["restarting", "restarting"]


def test_looks_see_every_passive_actor_in_turn(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rouser, "SWEPT", 1)
    store.run("SADD", routing.PASSIVE, *(f"unknown-{number}" for number in range(1000)))
    looks = Rouser(store)
    for _ in range(1000):
        looks.look(())
    assert store.run("EXISTS", routing.PASSIVE) == 0


def test_what_running_actors_are_made_from_stays_for_another_while(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rouser, "KEEP_TICKS", 2)
    kept = [routing.code_key("c1"), routing.code_key("t1"), routing.env_key("e1")]
    for key in [*kept, routing.code_key("other")]:
        store.run("SET", key, "x", "EX", 60)
    mine = Assignment(
        worker_id="a-1", queue="q", epoch="1", owner="n|1", session="s", label="counter",
        actor_id="1", need=Need(env="e1"), meta={"code": "c1", "traits": "t1"},
    )  # fmt: skip
    looks = Rouser(store)
    looks.look([mine])
    assert all(int(store.run("TTL", key)) <= 60 for key in kept)
    looks.look([mine])
    assert all(int(store.run("TTL", key)) > 60 for key in kept)
    assert int(store.run("TTL", routing.code_key("other"))) <= 60
