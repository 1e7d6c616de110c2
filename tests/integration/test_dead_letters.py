"""What cannot be a call is answered where it can be, kept, reported, and never in the way."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, double
from tests.integration.strangers import Bomb, Target, assert_refused, message, sealed
from tests.integration.support import Cluster, wait_until


@pytest.mark.parametrize("bad", [{"__type__": "ca", "__value__": 7}, {"__type__": "ca"}])
def test_a_signed_value_of_a_wrong_shape_is_refused(target: Target, bad: Any):
    call_id = f"shape-{len(bad)}"
    target.put(message(call_id, ["who", bad]))

    assert_refused(target, call_id)


def test_an_unknown_type_is_a_dead_letter(target: Target):
    target.put(message("type-1", ["who", {"__type__": "nobody", "__value__": 1}]))

    assert_refused(target, "type-1", "DeadLetterError")


def test_a_method_that_does_not_exist_is_a_dead_letter(target: Target):
    target.put(message("method-1", [], task="Recorder.burn"))

    assert_refused(target, "method-1", "DeadLetterError")


@pytest.mark.parametrize("name", ["__init__", "__reduce__", "__class__", "notes"])
def test_only_methods_can_be_called(target: Target, name: str):
    target.put(message(f"dunder-{name}", [], task=f"Recorder.{name}"))

    assert_refused(target, f"dunder-{name}", "DeadLetterError")


def test_a_body_that_is_no_call_is_a_dead_letter(target: Target):
    broken = message("body-1", [])
    broken["body"] = '{"not": "a call"}'
    target.put(broken)

    assert_refused(target, "body-1", "DeadLetterError")


@pytest.mark.parametrize(
    "garbage",
    [b"", b"garbage-a", b"\xff\xfegarbage-b", b'{"garbage-c": 1}', b"[]garbage-d", b"null"],
)
def test_garbage_never_blocks_the_queue(target: Target, garbage: bytes):
    before = len(target.client.lrange("ca:dead-letters", 0, -1))

    target.put(garbage)

    assert ca.get(target.actor.note.remote("after", 1), timeout=10) is None
    wait_until(lambda: target.client.llen("ca:dead-letters") == before + 1, "a dead letter")


def test_garbage_among_good_calls_costs_only_itself(target: Target):
    refs = []
    for number in range(300):
        refs.append(target.actor.note.remote("good", number))
        if number % 50 == 0:
            target.put(b"noise")
            target.put(message(f"noise-{number}", [], task="Recorder.none"))

    ca.get(refs, timeout=20)

    notes = ca.get(target.actor.notes_taken.remote(), timeout=10)
    assert [number for _who, number in notes] == list(range(300))


def test_garbage_on_the_shared_queue_does_not_stop_its_workers(cluster: Cluster, tmp_path: Path):
    trap = tmp_path / "trap"
    bomb = message("shared-1", [sealed(pickle.dumps(Bomb(trap)))], task="double")
    with cluster.client() as client:
        for raw in (b"noise", json.dumps(bomb).encode(), b"\xff"):
            client.lpush("ca.tasks.cpu1", raw)
        assert ca.get([double.remote(n) for n in range(20)], timeout=10) == list(range(0, 40, 2))
        wait_until(lambda: client.get("celery-task-meta-shared-1"), "an answer")
        assert json.loads(client.get("celery-task-meta-shared-1"))["status"] == "FAILURE"
    assert not trap.exists()


@pytest.mark.parametrize(
    "word",
    [b"{", b'{"queues": 7}', b'{"queues": ["\xff"]}', b'{"cancel": "x"}', b"{}", b"flush:\xff"],
)
def test_garbage_on_the_bell_ends_no_node(cluster: Cluster, word: bytes):
    before = ca.nodes()[0]["pid"]
    with cluster.client() as client:
        assert client.publish("ca:bell", word)

    assert ca.get(Counter.remote().add.remote(), timeout=10) == 1
    assert ca.nodes()[0]["pid"] == before
    assert ca.nodes()[0]["Alive"]


def test_a_need_that_cannot_be_read_ends_no_node(cluster: Cluster):
    before = ca.nodes()[0]["pid"]
    with cluster.client() as client:
        client.hset("ca:needs", "garbage", "{")
        client.lpush("ca.tasks.garbage", "x")
        client.publish("ca:bell", "garbage")

        wait_until(lambda: not client.hexists("ca:needs", "garbage"), "the node has looked at it")
        client.delete("ca.tasks.garbage")
    assert ca.get(Counter.remote().add.remote(), timeout=10) == 1
    assert ca.nodes()[0]["pid"] == before
