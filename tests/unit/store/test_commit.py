from __future__ import annotations

import json

import pytest

from celery_actors import routing
from celery_actors.store import Answer, Store
from tests.unit.store.records import (
    CHANNEL,
    StoredActor,
    answer,
    answers,
    full,
    messages_on,
    results,
)


@pytest.fixture
def actor(store: Store) -> StoredActor:
    """An actor that a node owns, with five calls in its queue."""
    found = StoredActor(store).start()
    found.submit(1, "a", "b", "c", "d", "e")
    return found


def test_a_fetch_gives_the_oldest_calls_first_and_leaves_them(actor: StoredActor) -> None:
    assert actor.commit(0, [], want=3) == [0, [b"a", b"b", b"c"], 3]
    assert actor.waiting == ["a", "b", "c", "d", "e"]


def test_a_fetch_of_an_empty_queue_gives_nothing(store: Store) -> None:
    assert StoredActor(store).start().commit(0, [], want=3) == [0, [], 0]


def test_a_commit_removes_the_oldest_calls_and_stores_their_results(
    actor: StoredActor, store: Store
) -> None:
    assert actor.commit(0, answers(1, 2)) == [0, [], 3]
    assert actor.waiting == ["c", "d", "e"]
    assert actor.meta["ap"] == "2"
    assert results(store) == {"call-1": 1, "call-2": 2}


def test_a_commit_fetches_the_next_calls(actor: StoredActor) -> None:
    assert actor.commit(0, answers(1, 2), want=2) == [0, [b"c", b"d"], 2]


def test_a_repeated_commit_changes_nothing_and_fetches_again(
    actor: StoredActor, store: Store
) -> None:
    first = actor.commit(0, answers(1, 2), want=2)
    store.run("DEL", routing.result_key("call-1"))
    assert actor.commit(0, answers(1, 2), want=2) == first
    assert actor.waiting == ["c", "d", "e"]
    assert actor.meta["ap"] == "2"
    assert "call-1" not in results(store)


def test_a_commit_marks_how_far_calls_may_have_started(actor: StoredActor) -> None:
    actor.commit(0, answers(1), want=3)
    assert actor.meta["go"] == "4"


@pytest.mark.parametrize("field", ["epoch", "owner"])
def test_another_epoch_or_owner_is_fenced(actor: StoredActor, store: Store, field: str) -> None:
    before = actor.meta
    setattr(actor, field, "7")
    assert actor.commit(0, answers(1, 2), want=2) == [-10]
    assert actor.waiting == ["a", "b", "c", "d", "e"]
    assert actor.meta == before
    assert results(store) == {}


@pytest.mark.parametrize("position", [1, 3])
def test_another_position_is_refused_with_the_stores(
    actor: StoredActor, store: Store, position: int
) -> None:
    assert actor.commit(position, answers(1)) == [-11, 0]
    assert actor.waiting == ["a", "b", "c", "d", "e"]
    assert results(store) == {}


def test_a_position_behind_a_commit_of_another_size_is_refused(
    actor: StoredActor, store: Store
) -> None:
    actor.commit(0, answers(1, 2))
    assert actor.commit(0, answers(1)) == [-11, 2]
    assert actor.waiting == ["c", "d", "e"]


def test_a_killed_actor_cannot_commit(actor: StoredActor, store: Store) -> None:
    actor.kill()
    assert actor.commit(0, answers(1)) == [-10]
    assert results(store) == {}


def test_a_call_without_an_id_leaves_no_result(actor: StoredActor, store: Store) -> None:
    assert actor.commit(0, [Answer("", b""), answer(2)])[0] == 0
    assert actor.waiting == ["c", "d", "e"]
    assert results(store) == {"call-2": 2}


def test_the_results_of_one_caller_arrive_together_in_order(
    actor: StoredActor, store: Store
) -> None:
    hears = store.subscribe(CHANNEL)
    actor.commit(0, [answer(1, CHANNEL), answer(2), answer(3, CHANNEL)])
    [text] = messages_on(hears, 1)
    assert [record["task_id"] for record in json.loads(text)] == ["call-1", "call-3"]


def test_a_result_is_told_where_celery_listens(actor: StoredActor, store: Store) -> None:
    hears = store.subscribe(routing.result_key("call-1"))
    actor.commit(0, [answer(1, CHANNEL)])
    [text] = messages_on(hears, 1)
    assert json.loads(text)["result"] == 1


def test_a_large_record_is_only_announced(actor: StoredActor, store: Store) -> None:
    call_id = "0123abcd-4567-4890-a123-000000000001"
    record = json.dumps({"task_id": call_id, "result": "x" * 70_000}).encode()
    hears = store.subscribe(CHANNEL)
    actor.commit(0, [Answer(routing.result_key(call_id), record, CHANNEL)])
    [text] = messages_on(hears, 1)
    assert json.loads(text) == [{"status": "STORED", "task_id": call_id}]
    assert store.get(routing.result_key(call_id)) == record


def test_an_answer_for_nobodys_call_does_not_overwrite_one_that_is_there(store: Store) -> None:
    store.scripts.answer(60, [answer(1)])
    late = Answer(routing.result_key("call-1"), b'{"result": 99}')
    assert store.scripts.answer(60, [late, answer(2)]) == 1
    assert results(store) == {"call-1": 1, "call-2": 2}


def test_an_answer_that_was_there_is_not_told_again(store: Store) -> None:
    store.scripts.answer(60, [answer(1)])
    hears = store.subscribe(CHANNEL)
    store.scripts.answer(60, [answer(1, CHANNEL), answer(2, CHANNEL)])
    [text] = messages_on(hears, 1)
    assert [record["task_id"] for record in json.loads(text)] == ["call-2"]


def test_only_the_owner_marks_a_record(actor: StoredActor, store: Store) -> None:
    marked = store.scripts.mark(
        actor.keys.meta, actor.epoch, actor.owner, {"st": "alive", "pid": 7}
    )
    assert marked
    assert (actor.meta["st"], actor.meta["pid"]) == ("alive", "7")
    assert not store.scripts.mark(actor.keys.meta, actor.epoch, "another", {"st": "dead"})
    assert actor.meta["st"] == "alive"


def test_the_scripts_are_loaded_again_where_the_server_lost_them(
    actor: StoredActor, store: Store
) -> None:
    store.run("SCRIPT", "FLUSH")
    assert actor.commit(0, answers(1))[0] == 0


@pytest.fixture
def robbed(actor: StoredActor, store: Store) -> StoredActor:
    """An actor whose queue has calls with ids, of which it holds three."""
    store.run("DEL", actor.keys.queue)
    actor.submit(6, *(f'{{"id":"call-{number}"}}' for number in range(1, 6)))
    return actor


def test_a_call_that_a_stray_consumer_took_takes_no_other_along(
    robbed: StoredActor, store: Store
) -> None:
    store.run("RPOP", robbed.keys.queue)
    assert robbed.commit(0, answers(1))[0] == 1
    assert robbed.waiting == [f'{{"id":"call-{number}"}}' for number in range(2, 6)]
    assert results(store) == {"call-1": 1}
    assert robbed.commit(1, answers(2))[0] == 0
    assert robbed.waiting == [f'{{"id":"call-{number}"}}' for number in range(3, 6)]


def test_of_several_calls_those_still_there_are_settled(robbed: StoredActor, store: Store) -> None:
    store.run("RPOP", robbed.keys.queue)
    assert robbed.commit(0, answers(1, 2, 3))[0] == 1
    assert robbed.waiting == ['{"id":"call-4"}', '{"id":"call-5"}']
    assert results(store) == {"call-1": 1, "call-2": 2, "call-3": 3}


def test_a_robbed_queue_is_settled_in_a_full_store_too(robbed: StoredActor, store: Store) -> None:
    store.run("RPOP", robbed.keys.queue)
    with full(store):
        assert robbed.commit(0, answers(1))[0] == 1
    assert len(robbed.waiting) == 4
