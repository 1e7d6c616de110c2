"""A stream of calls of which the store has refused or forgotten some: who hears, how it goes on."""

from __future__ import annotations

import pytest

from celery_actors import routing
from celery_actors.calls import Target
from celery_actors.errors import RayError, StoreFullError, StoreRolledBackError
from celery_actors.need import Need
from celery_actors.object_ref import ObjectRef
from celery_actors.runtime import Runtime
from celery_actors.store import Store
from celery_actors.store.wire import pack
from tests.unit.store.records import StoredActor, full
from tests.waits import wait_until


def send(runtime: Runtime, target: Target, *args: object) -> ObjectRef[None]:
    template = runtime.template(target, "Counter.add")
    ref: ObjectRef[None] = runtime.calls.submit(target, template, args, {})
    return ref


def send_and_settle(runtime: Runtime, target: Target, count: int) -> list[ObjectRef[None]]:
    refs = [send(runtime, target) for _ in range(count)]
    runtime.calls.settle()
    return refs


def roll_back(actor: StoredActor, session: str, known: int) -> None:
    """Let the store know the first calls of a caller only, as an older copy of it does."""
    actor.store.run("HSET", actor.keys.callers, session, known)
    actor.store.run("LTRIM", actor.keys.queue, -known, -1)


def cut(store: Store) -> None:
    """Close every connection but the one that asks."""
    for kind in ("normal", "pubsub"):
        store.run("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def wait_processed(store: Store, runtime: Runtime) -> None:
    """Wait until the server has taken in what the runtime has sent."""
    subscription = store.subscribe("processed")
    # Another connection's words may be taken in before those that subscribe.
    wait_until(lambda: store.run("PUBSUB", "NUMSUB", "processed")[1], "the subscription is there")
    runtime.mux.post(pack(("PUBLISH", "processed", "now")))
    while subscription.get_message(timeout=10) is None:
        pass
    subscription.close()


def ids(refs: list[ObjectRef[None]]) -> list[str]:
    return [ref.id for ref in refs]


def waiting_ids(actor: StoredActor, refs: list[ObjectRef[None]]) -> list[str]:
    return [ref.id for ref in refs if any(ref.id in message for message in actor.waiting)]


def test_calls_that_the_store_has_forgotten_fail_with_those_sent_behind_them(
    runtime: Runtime, target: Target, actor: StoredActor
) -> None:
    kept, *lost = send_and_settle(runtime, target, 3)
    roll_back(actor, runtime.session, known=1)

    behind = send(runtime, target)

    for ref in (behind, *lost):
        with pytest.raises(
            StoreRolledBackError, match=r"Counter\(counter\) up to number 3, and now .* number 1"
        ):
            runtime.get([ref], 10)
    assert not kept.ready
    after = send_and_settle(runtime, target, 2)
    assert waiting_ids(actor, [kept, *lost, behind, *after]) == ids([kept, *after])


def test_who_waits_for_a_forgotten_call_is_told_after_a_reconnect(
    runtime: Runtime, target: Target, actor: StoredActor, store: Store
) -> None:
    kept, lost = send_and_settle(runtime, target, 2)
    roll_back(actor, runtime.session, known=1)

    cut(store)

    with pytest.raises(StoreRolledBackError):
        runtime.get([lost], 10)
    assert not kept.ready
    after = send_and_settle(runtime, target, 1)
    assert waiting_ids(actor, [kept, *after]) == ids([kept, *after]), "who was told goes on"


def test_who_waits_for_nothing_is_told_with_the_next_call(
    runtime: Runtime, target: Target, actor: StoredActor, store: Store
) -> None:
    done = send_and_settle(runtime, target, 2)
    runtime.results.fail(ids(done), RayError("over"))
    roll_back(actor, runtime.session, known=1)
    cut(store)
    runtime.calls.settle()

    with pytest.raises(StoreRolledBackError):
        runtime.get([send(runtime, target)], 10)

    (after,) = send_and_settle(runtime, target, 1)
    assert waiting_ids(actor, [after]) == [after.id]


def test_a_store_that_knows_everything_fails_nothing_after_a_reconnect(
    runtime: Runtime, target: Target, actor: StoredActor, store: Store
) -> None:
    refs = send_and_settle(runtime, target, 3)
    cut(store)
    refs += send_and_settle(runtime, target, 3)
    assert waiting_ids(actor, refs) == ids(refs)
    assert not any(ref.ready for ref in refs)


def test_a_call_to_a_buried_actor_that_has_no_answer_is_lost(
    runtime: Runtime, target: Target, actor: StoredActor, store: Store
) -> None:
    (lost,) = send_and_settle(runtime, target, 1)
    store.run("DEL", actor.keys.queue)
    actor.kill()
    assert actor.bury()

    cut(store)

    with pytest.raises(StoreRolledBackError):
        runtime.get([lost], 10)


def test_functions_are_told_too(runtime: Runtime, store: Store) -> None:
    target = runtime.calls.shared("function f", Need(), registered=False)
    _kept, lost = send_and_settle(runtime, target, 2)
    store.run("HSET", routing.CALLERS + runtime.session, target.queue, 1)

    cut(store)

    with pytest.raises(
        StoreRolledBackError, match=r"calls of this process to functions .queue ca\.tasks.* up to"
    ):
        runtime.get([lost], 10)


def test_a_driver_that_was_taken_for_ended_is_told_so(runtime: Runtime, store: Store) -> None:
    target = runtime.calls.shared("function f", Need(), registered=False)
    runtime.results.lapse = lambda: 12.3
    (lost,) = send_and_settle(runtime, target, 1)
    store.run("HDEL", routing.CALLERS + runtime.session, target.queue)

    cut(store)

    with pytest.raises(StoreRolledBackError, match="this driver was silent for 12 s and its lease"):
        runtime.get([lost], 10)


def test_a_caller_that_pauses_is_not_forgotten(
    runtime: Runtime, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = runtime.calls.shared("function f", Need(), registered=False)
    send_and_settle(runtime, target, 1)
    key = routing.CALLERS + runtime.session
    store.run("EXPIRE", key, 100)

    monkeypatch.setattr(runtime.calls, "_renewed", -runtime.result_seconds)
    runtime.calls.renew()
    runtime.calls.settle()

    assert int(store.run("TTL", key)) > 100


def test_a_full_store_refuses_calls_and_takes_them_again_when_there_is_room(
    runtime: Runtime, target: Target, actor: StoredActor, store: Store
) -> None:
    before = send_and_settle(runtime, target, 2)
    with full(store):
        refused = [send(runtime, target) for _ in range(200)]
        with pytest.raises(StoreFullError, match=r"refused \d+ calls to actor Counter.*maxmemory"):
            runtime.get(refused[:1], 10)
        runtime.calls.settle()
    after = send_and_settle(runtime, target, 100)

    for ref in refused:
        with pytest.raises(StoreFullError):
            runtime.get([ref], 10)
    assert waiting_ids(actor, [*before, *refused, *after]) == ids([*before, *after])


def test_no_call_overtakes_one_that_was_refused(
    runtime: Runtime, target: Target, actor: StoredActor, store: Store
) -> None:
    """Calls that are under way behind a refused one fail, though the store has room for them."""
    with runtime.mux._lead:  # nobody reads: all of them are under way
        with full(store):
            refused = send(runtime, target)
            runtime.calls.flush()
            wait_processed(store, runtime)
        behind = [send(runtime, target) for _ in range(5)]
        runtime.calls.flush()
    runtime.calls.settle()
    after = send_and_settle(runtime, target, 1)

    for ref in (refused, *behind):
        with pytest.raises(StoreFullError):
            runtime.get([ref], 10)
    assert waiting_ids(actor, [refused, *behind, *after]) == ids(after)
