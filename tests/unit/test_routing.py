from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from celery_actors import actor_queue as public_actor_queue
from celery_actors import routing

TEXT = st.text(min_size=1, max_size=12)
DIGITS = st.text("0123456789abcdef", min_size=8, max_size=32)


def test_an_actors_queue_is_stable() -> None:
    # Other Celery clients write these names into their configuration: they may never change.
    assert routing.actor_queue("default", "counter") == "ca.actor.default.counter"
    assert routing.actor_queue("team.a", "my actor/1") == "ca.actor.team%2Ea.my%20actor%2F1"


def test_the_public_function_is_the_same() -> None:
    assert public_actor_queue is routing.actor_queue


@given(TEXT, TEXT)
def test_a_queues_name_is_ascii_and_gives_the_names_back(namespace: str, name: str) -> None:
    queue = routing.actor_queue(namespace, name)
    assert queue.isascii()
    assert not set(queue) & set(" *{}[]?:/")
    space, _, actor = queue.removeprefix("ca.actor.").partition(".")
    assert (unquote(space), unquote(actor)) == (namespace, name)


@given(TEXT, TEXT, TEXT, TEXT)
@example("a.b", "c", "a", "b.c")
@example("a%2Eb", "c", "a.b", "c")
def test_two_named_actors_never_share_a_queue(
    space: str, name: str, other_space: str, other_name: str
) -> None:
    same = (space, name) == (other_space, other_name)
    shared = routing.actor_queue(space, name) == routing.actor_queue(other_space, other_name)
    assert shared is same


@given(TEXT, TEXT, TEXT, TEXT)
@example("a\x1fb", "c", "a", "b\x1fc")
def test_two_named_actors_never_share_a_name_field(
    space: str, name: str, other_space: str, other_name: str
) -> None:
    same = (space, name) == (other_space, other_name)
    shared = routing.name_field(space, name) == routing.name_field(other_space, other_name)
    assert shared is same


@given(TEXT, DIGITS)
@example("a.b", "0123abcd")
def test_an_anonymous_queue_is_never_a_named_one(class_name: str, actor_id: str) -> None:
    queue = routing.anonymous_queue(class_name, actor_id)
    assert "." not in queue.removeprefix("ca.actor.")  # a named one has a dot there
    assert actor_id in queue


@given(TEXT, TEXT, TEXT)
def test_queues_of_different_kinds_never_meet(namespace: str, name: str, need: str) -> None:
    queues = {
        routing.actor_queue(namespace, name),
        routing.shared_queue(need),
        routing.creation_queue(need),
        routing.worker_keys(need).queue,
    }
    assert len(queues) == 4


@pytest.mark.parametrize("need", ["none", "cpu1", "cpu0.5-gpu0.25", "x0123456789abcdef"])
def test_a_shared_queue_names_its_need(need: str) -> None:
    assert routing.need_of_queue(routing.shared_queue(need)) == need


def test_keys_of_different_kinds_never_meet() -> None:
    one = "ab12"
    actor = routing.ActorKeys("ca.actor.default.x", one)
    worker = routing.worker_keys(one)
    keys = [
        routing.NODES, routing.SESSIONS, routing.NAMES, routing.ACTORS, routing.NEEDS,
        routing.DEAD_LETTERS, routing.BELL, routing.CALLERS + one, routing.result_key(one),
        routing.reply_channel(one), routing.log_channel(one), routing.code_key(one),
        routing.blob_key(one, 0), routing.blob_key(one, 1), routing.job_key(one),
        routing.session_key(one), routing.lease_key(one), routing.owned_key(one),
        routing.kill_key(one), routing.node_channel(one),
        actor.queue, actor.meta, actor.callers, actor.parked, actor.spec,
        worker.queue, worker.meta, worker.callers, worker.parked, worker.spec,
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)


@given(TEXT, TEXT, DIGITS)
def test_all_keys_of_an_actor_live_on_one_shard(namespace: str, name: str, actor_id: str) -> None:
    keys = routing.ActorKeys(routing.actor_queue(namespace, name), actor_id)
    names = [keys.queue, keys.meta, keys.callers, keys.parked, keys.spec]
    assert len({key_slot(key.encode()) for key in names}) == 1


def test_a_result_lies_where_celery_looks_for_it() -> None:
    from celery.backends.base import KeyValueStoreBackend

    prefix = KeyValueStoreBackend.task_keyprefix
    assert routing.result_key("ab12") == f"{prefix}ab12"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        pytest.param(None, "Counter-0123abcd", id="anonymous"),
        pytest.param("main", "Counter-main", id="named"),
        pytest.param("a b@c", "Counter-a_b_c", id="unsafe"),
    ],
)
def test_a_worker_is_labelled_for_people(name: str | None, label: str) -> None:
    assert routing.worker_label("Counter", name, "0123abcdef") == label


@given(TEXT, TEXT)
def test_a_worker_name_has_one_at_sign(label: str, host: str) -> None:
    name = routing.worker_name(routing.worker_label("Counter", label, "0" * 8), host)
    assert name.count("@") == 1
    assert name.isascii()


def test_a_task_is_named_after_its_class_and_method() -> None:
    assert routing.task_name("Counter", "add") == "Counter.add"
    assert routing.task_name(None, "add") == "add"


def test_the_id_of_a_call_tells_its_session() -> None:
    session = "0123456789abcdef"
    call_id = f"{routing.call_prefix(session)}000000000001"
    assert len(call_id) == 36
    assert routing.session_of(call_id) == routing.session_of(f"{call_id}.3") == session
    assert routing.session_of("f47ac10b-58cc-4372-a567-0e02b2c3d479") == ""
    assert routing.session_of("by hand") == ""


def test_the_queue_of_an_actor_without_a_name_tells_its_id() -> None:
    actor_id = "0123456789abcdef" * 2
    queue = routing.anonymous_queue("shop.Counter-2", actor_id)
    assert routing.anonymous_actor(queue) == actor_id
    for named in (routing.actor_queue("default", f"x-{actor_id}"), routing.shared_queue("cpu1")):
        assert routing.anonymous_actor(named) == ""
