"""The sending side against a real store: order, what it refuses, what the store has forgotten."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from celery_actors import calls as calls_module
from celery_actors import routing
from celery_actors.calls import Target
from celery_actors.errors import (
    ActorDiedError,
    PendingCallsLimitExceeded,
    RayError,
    SerializationError,
)
from celery_actors.messages import decode_body, decode_envelope
from celery_actors.need import Need
from celery_actors.object_ref import ObjectRef
from celery_actors.runtime import Runtime
from celery_actors.store import Store
from tests.unit.store.records import StoredActor


def send(runtime: Runtime, target: Target, *args: Any, **kwargs: Any) -> ObjectRef[Any]:
    ref: ObjectRef[Any] = runtime.calls.submit(
        target, runtime.template(target, "Counter.add"), args, kwargs
    )

    return ref


def arguments(actor: StoredActor) -> list[list[Any]]:
    """Return the arguments of every waiting call, oldest first."""
    found = []
    for message in actor.waiting:
        raw = message.encode()
        found.append(decode_body(raw, decode_envelope(raw)).args)
    return found


def test_calls_of_one_process_arrive_in_order_from_several_handles(
    runtime: Runtime, target: Target, actor: StoredActor
) -> None:
    again = runtime.calls.actor(actor.keys.queue, actor.actor_id, "the same")
    assert again is target

    for number in range(200):
        send(runtime, target, number)
    runtime.calls.settle()

    assert arguments(actor) == [[number] for number in range(200)]
    runtime.calls.settle()  # nothing is left to wait for


def test_an_argument_that_cannot_be_sent_is_named_and_uses_up_no_number(
    runtime: Runtime, target: Target, actor: StoredActor
) -> None:
    with pytest.raises(SerializationError, match=r"argument 'lock' of Counter\.add\(\)"):
        send(runtime, target, 1, lock=threading.Lock())

    send(runtime, target, 2)
    runtime.calls.settle()

    assert arguments(actor) == [[2]]


def test_a_call_to_an_actor_that_the_store_does_not_know_fails(
    runtime: Runtime, target: Target, actor: StoredActor, store: Store
) -> None:
    store.run("DEL", actor.keys.meta)
    ref = send(runtime, target)

    with pytest.raises(ActorDiedError, match="is not known to this store") as caught:
        runtime.get([ref], 10)
    assert caught.value.actor_id == actor.actor_id


def test_a_call_to_a_dead_actor_fails_with_its_cause(
    runtime: Runtime, target: Target, actor: StoredActor
) -> None:
    actor.kill("somebody asked for it")
    ref = send(runtime, target)

    with pytest.raises(ActorDiedError, match=r"Counter\(counter\) is dead: somebody asked"):
        runtime.get([ref], 10)


def test_calls_that_the_store_refuses_fail_with_its_words(
    runtime: Runtime, target: Target, actor: StoredActor, store: Store
) -> None:
    store.run("DEL", actor.keys.meta)
    store.run("SET", actor.keys.meta, "no hash")
    ref = send(runtime, target)

    with pytest.raises(RayError, match=r"the store refused 1 calls to actor Counter.*WRONGTYPE"):
        runtime.get([ref], 10)


def test_a_limit_of_calls_under_way_is_raised_and_counts_what_has_ended(
    runtime: Runtime, target: Target, actor: StoredActor, store: Store
) -> None:
    target.limit = 2
    first, _second = send(runtime, target), send(runtime, target)

    with pytest.raises(PendingCallsLimitExceeded, match="max_pending_calls is 2"):
        send(runtime, target)

    runtime.results.fail([first.id], RayError("ended"))
    send(runtime, target)
    runtime.calls.settle()
    assert len(actor.waiting) == 3


def test_a_full_target_that_blocks_goes_on_when_a_call_ends(
    runtime: Runtime, target: Target, actor: StoredActor
) -> None:
    target.limit, target.blocks = 1, True
    first = send(runtime, target)
    sent = threading.Event()

    def send_on() -> None:
        send(runtime, target)
        sent.set()

    threading.Thread(target=send_on).start()
    assert not sent.wait(0.05)

    runtime.results.fail([first.id], RayError("ended"))

    assert sent.wait(10)


def test_a_caller_far_ahead_is_slowed_down_unless_it_calls_itself(
    runtime: Runtime, target: Target, actor: StoredActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "AHEAD_CALLS", 10)
    pauses: list[float] = []
    monkeypatch.setattr("celery_actors.calls.time", SimpleNamespace(sleep=pauses.append))
    for _ in range(20):
        send(runtime, target)
        runtime.calls.settle()
    assert pauses
    assert 0 < max(pauses) <= 0.010

    target.unlimited = True
    pauses.clear()
    send(runtime, target)
    assert pauses == []


def test_a_caller_waits_for_the_store_when_too_much_is_not_acknowledged(
    runtime: Runtime, target: Target, actor: StoredActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "UNACKNOWLEDGED_CALLS", 20)

    for number in range(500):
        send(runtime, target, number)
        assert target.sequence - target.acknowledged <= 21

    runtime.calls.settle()
    assert arguments(actor) == [[number] for number in range(500)]


def test_work_with_a_need_of_its_own_rings_for_it(runtime: Runtime, store: Store) -> None:
    need = Need((("ssd", 10_000),))
    queue = routing.shared_queue(need.label)
    target = runtime.calls.shared("function f", need, registered=True)
    assert runtime.calls.shared("function f", need, registered=True) is target
    assert target.owner == queue

    send(runtime, target)
    runtime.calls.settle()

    assert list(store.hash(routing.NEEDS)) == [need.label]
    assert store.run("LLEN", queue) == 1


def test_a_reference_whose_value_is_small_travels_as_its_value(
    runtime: Runtime, target: Target, actor: StoredActor
) -> None:
    send(runtime, target, runtime.put(7), runtime.put({1: 2}))
    runtime.calls.settle()

    ((small, other),) = arguments(actor)
    assert small == 7
    assert other["__type__"] == "ca-ref"
    assert other["__value__"].endswith("+"), "it is stored"
