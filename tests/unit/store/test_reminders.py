"""Reminders: calls that the store keeps for an actor, and that a node sends when they are due."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_actors import directory, reminders, routing
from celery_actors.errors import ActorDiedError
from celery_actors.messages import decode_body, decode_envelope
from celery_actors.store import Store
from tests.unit.store.records import NODE, StoredActor, start_node

HOUR = 3600.0


@pytest.fixture
def actor(store: Store) -> StoredActor:
    return StoredActor(store).start()


def remind(
    actor: StoredActor, name: str = "tick", *, every: float | None = HOUR, after: float = HOUR,
    args: tuple[Any, ...] = (), **kwargs: Any,
) -> None:  # fmt: skip
    times = reminders.check(name, every, after)
    call = reminders.message_of(actor.keys, "Counter.add", name, "job-1", 3, args, kwargs)
    reminders.remind(actor.store, actor.keys, "actor Counter(counter)", name, times, call)


def pass_time(actor: StoredActor, seconds: float, name: str = "tick") -> None:
    """Let a reminder be due so much earlier: the store's clock goes its own pace."""
    actor.store.run("ZINCRBY", routing.REMINDERS, -1000 * seconds, actor.keys.reminder(name))


def ring(store: Store, count: int = 100) -> int:
    return store.scripts.ring(routing.REMINDERS, count)


def now(store: Store) -> float:
    seconds, micros = store.run("TIME")
    return float(seconds) + float(micros) / 1e6


def keys_of(store: Store) -> list[str]:
    return sorted(store.texts("KEYS", "*:r") + store.texts("KEYS", routing.REMINDERS))


def test_nothing_is_sent_before_it_is_due(store: Store, actor: StoredActor) -> None:
    remind(actor)
    assert ring(store) == 0
    assert actor.waiting == []


def test_a_due_reminder_is_an_ordinary_call_whose_result_nobody_awaits(
    store: Store, actor: StoredActor
) -> None:
    remind(actor, args=(2, ["é"]), amount=None)
    pass_time(actor, HOUR)
    assert ring(store) == 1
    raw = actor.waiting[0].encode()
    message = decode_body(raw, decode_envelope(raw))
    assert (message.task, message.args, message.kwargs) == (
        "Counter.add", [2, ["é"]], {"amount": None},
    )  # fmt: skip
    assert message.unanswered
    assert (message.tag.caller, message.tag.job, message.tag.max_retries) == ("", "job-1", 3)
    assert message.options.reminder == "tick"
    whole = json.loads(raw)
    ids = {whole["headers"]["root_id"], whole["properties"]["delivery_tag"],
           whole["properties"]["correlation_id"]}  # fmt: skip
    assert ids == {message.call_id}


def test_whoever_looks_second_sends_nothing(store: Store, actor: StoredActor) -> None:
    remind(actor)
    pass_time(actor, HOUR)
    assert [ring(store), ring(store)] == [1, 0]
    assert len(actor.waiting) == 1


def test_each_call_has_an_id_of_its_own_that_counts(store: Store, actor: StoredActor) -> None:
    remind(actor)
    for _ in range(17):
        pass_time(actor, HOUR)
        ring(store)
    ids = [decode_envelope(raw.encode()).headers.id for raw in actor.waiting]
    assert len({call_id[:-12] for call_id in ids}) == 1
    assert [int(call_id[-12:], 16) for call_id in ids] == list(range(1, 18))


def test_the_next_time_keeps_the_rhythm(store: Store, actor: StoredActor) -> None:
    remind(actor)
    due = float(store.run("ZSCORE", routing.REMINDERS, actor.keys.reminder("tick")))
    pass_time(actor, HOUR)
    ring(store)
    assert float(store.run("ZSCORE", routing.REMINDERS, actor.keys.reminder("tick"))) == due


def test_times_that_were_missed_count_as_one(store: Store, actor: StoredActor) -> None:
    remind(actor)
    pass_time(actor, 10.5 * HOUR)
    assert ring(store) == 1
    assert len(actor.waiting) == 1
    found = reminders.reminders(store, actor.keys)["tick"]
    assert now(store) < found.due.timestamp() <= now(store) + HOUR
    assert found.calls == 1


def test_one_for_a_single_call_is_over_with_it(store: Store, actor: StoredActor) -> None:
    remind(actor, every=None)
    pass_time(actor, HOUR)
    assert [ring(store), ring(store)] == [1, 0]
    assert len(actor.waiting) == 1
    assert keys_of(store) == []


def test_a_passive_actor_is_woken(store: Store, actor: StoredActor) -> None:
    remind(actor)
    assert actor.passivate()
    assert ring(store) == 0
    assert actor.meta["st"] == "passive"
    pass_time(actor, HOUR)
    ring(store)
    assert actor.meta["st"] == "restarting"
    wanted = directory.creation_message(actor.actor_id, actor.keys.queue, "Counter")
    assert store.run("LRANGE", actor.creations, 0, -1) == [wanted]


def test_one_that_stands_still_gets_no_call_and_keeps_its_reminder(
    store: Store, actor: StoredActor
) -> None:
    remind(actor)
    store.run("HSET", actor.keys.meta, "st", "frozen")
    pass_time(actor, 2 * HOUR)
    assert [ring(store), ring(store)] == [1, 0]
    assert actor.waiting == []
    assert list(reminders.reminders(store, actor.keys)) == ["tick"]


def test_so_many_at_a_time(store: Store, actor: StoredActor) -> None:
    for number in range(5):
        remind(actor, f"tick-{number}")
        pass_time(actor, HOUR, f"tick-{number}")
    assert [ring(store, 2), ring(store, 2), ring(store, 2), ring(store, 2)] == [2, 2, 1, 0]
    assert len(actor.waiting) == 5


def test_a_reminder_replaces_one_of_its_name(store: Store, actor: StoredActor) -> None:
    remind(actor, args=(1,))
    remind(actor, args=(2,))
    pass_time(actor, HOUR)
    ring(store)
    raw = actor.waiting[0].encode()
    assert [decode_body(raw, decode_envelope(raw)).args] == [[2]]
    assert len(actor.waiting) == 1


def test_a_name_may_hold_anything(store: Store, actor: StoredActor) -> None:
    name = "a|b {c} é %d\n:m"
    remind(actor, name)
    pass_time(actor, HOUR, name)
    assert ring(store) == 1
    assert list(reminders.reminders(store, actor.keys)) == [name]
    assert reminders.forget(store, actor.keys, name)
    assert keys_of(store) == []


def test_a_forgotten_one_is_sent_no_more(store: Store, actor: StoredActor) -> None:
    remind(actor)
    assert reminders.forget(store, actor.keys, "tick")
    assert not reminders.forget(store, actor.keys, "tick")
    assert keys_of(store) == []


def test_reminders_are_buried_with_their_actor(store: Store, actor: StoredActor) -> None:
    remind(actor)
    remind(actor, "tock", every=None)
    directory.end(store, actor.actor_id, actor.keys.queue, "killed", 60)
    assert keys_of(store) == []
    assert ring(store) == 0


def test_those_of_others_stay(store: Store, actor: StoredActor) -> None:
    other = StoredActor(store, "actor-2", "other")
    other.create()
    remind(actor)
    remind(other)
    directory.end(store, actor.actor_id, actor.keys.queue, "killed", 60)
    pass_time(other, HOUR)
    assert ring(store) == 1
    assert len(other.waiting) == 1


@pytest.mark.parametrize("state", ["dead", "buried"])
def test_an_ended_actor_takes_no_reminder(store: Store, actor: StoredActor, state: str) -> None:
    store.run("HSET", actor.keys.meta, "st", state)
    with pytest.raises(ActorDiedError, match=r"Counter\(counter\) has ended"):
        remind(actor)
    assert keys_of(store) == []


def test_an_unknown_actor_takes_no_reminder(store: Store) -> None:
    with pytest.raises(ActorDiedError):
        remind(StoredActor(store))
    assert keys_of(store) == []


def test_one_whose_actor_died_meanwhile_goes_without_a_call(
    store: Store, actor: StoredActor
) -> None:
    remind(actor)
    actor.kill()
    pass_time(actor, HOUR)
    ring(store)
    assert actor.waiting == []
    assert keys_of(store) == []


def test_what_is_no_reminder_goes(store: Store) -> None:
    start_node(store, NODE)
    store.run("ZADD", routing.REMINDERS, 1, "nonsense", 1, "q|a|tick")
    assert ring(store) == 2
    assert keys_of(store) == []


# -- what the caller checks ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("tick", 0.5, None), "every must be at least 1 second"),
        (("tick", None, None), "give every=, or after="),
        (("tick", 1, -1), "after must not be negative"),
        (("", 1, None), "must not be empty"),
    ],
)
def test_impossible_times_and_names_are_refused(given: tuple[Any, Any, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        reminders.check(*given)


def test_a_time_must_be_a_number_and_a_name_a_text() -> None:
    with pytest.raises(TypeError, match="every must be a number"):
        reminders.check("tick", "60", None)
    with pytest.raises(TypeError, match="name must be a string"):
        reminders.check(3, 60, None)


def test_the_first_call_comes_after_one_period_unless_told_otherwise() -> None:
    assert reminders.check("tick", 60, None) == (60_000, 60_000)
    assert reminders.check("tick", 60, 0) == (60_000, 0)
    assert reminders.check("tick", None, 1.5) == (0, 1500)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [((1, (2,)), {}, "argument 1 "), ((), {"how": b"x"}, "argument 'how' ")],
)
def test_an_argument_that_json_cannot_say_is_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    keys = routing.ActorKeys("queue", "actor-1")
    with pytest.raises(TypeError, match=f"{words}of reminder 'tick' is of type"):
        reminders.message_of(keys, "Counter.add", "tick", "job-1", 0, args, kwargs)
