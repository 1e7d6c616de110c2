"""Values that a call stores while it runs."""

from __future__ import annotations

import json

import pytest

from celery_actors import routing
from celery_actors.store import Answer, Fence, Store
from tests.unit.store.records import (
    CHANNEL,
    TTL,
    StoredActor,
    answer,
    answers,
    messages_on,
    results,
)


@pytest.fixture
def actor(store: Store) -> StoredActor:
    return StoredActor(store).start()


def fence_of(actor: StoredActor) -> Fence:
    return Fence(actor.keys.meta, actor.epoch, actor.owner)


def test_the_owner_stores_values(actor: StoredActor, store: Store) -> None:
    assert store.scripts.values(fence_of(actor), TTL, answers(1, 2))
    assert results(store) == {"call-1": 1, "call-2": 2}


@pytest.mark.parametrize("wrong", [{"epoch": "7"}, {"owner": "another"}, {"meta": "nowhere"}])
def test_nobody_else_stores_values(actor: StoredActor, store: Store, wrong: dict[str, str]) -> None:
    fence = fence_of(actor)._replace(**wrong)
    assert not store.scripts.values(fence, TTL, answers(1))
    assert results(store) == {}


def test_a_value_that_is_there_stays_and_is_not_told_again(
    actor: StoredActor, store: Store
) -> None:
    fence = fence_of(actor)
    assert store.scripts.values(fence, TTL, [answer(1, CHANNEL)])
    again = answer(1, CHANNEL)._replace(record=b'{"result":9}')
    subscription = store.subscribe(CHANNEL)
    assert store.scripts.values(fence, TTL, [again, answer(2, CHANNEL)])
    assert results(store) == {"call-1": 1, "call-2": 2}
    [told] = messages_on(subscription, 1)
    assert [meta["task_id"] for meta in json.loads(told)] == ["call-2"]


def test_a_long_value_is_announced_by_its_id(actor: StoredActor, store: Store) -> None:
    subscription = store.subscribe(CHANNEL)
    call_id = "01234567-0123-4123-a123-0123456789ab.12"
    record = json.dumps({"result": "x" * 70_000}).encode()
    one = Answer(routing.result_key(call_id), record, CHANNEL)
    assert store.scripts.values(fence_of(actor), TTL, [one])
    [told] = messages_on(subscription, 1)
    assert json.loads(told) == [{"status": "STORED", "task_id": call_id}]
