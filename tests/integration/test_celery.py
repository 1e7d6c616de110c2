"""Celery's own tools work on actors: send_task, AsyncResult, inspect, revoke, events."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

import celery_actors as ca
from celery_actors.broker.app import close_app
from tests.integration.actors import Counter, Recorder, double, fail
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until


@pytest.fixture
def plain(cluster: Cluster) -> Iterator[Celery]:
    """A Celery app that knows nothing of this package."""
    app = cluster.stock_app()
    yield app
    gc.collect()  # an AsyncResult that dies later would look for a store that is gone
    close_app(app)


def test_a_plain_celery_app_calls_a_named_actor_in_order(cluster: Cluster, plain: Celery):
    _held = Counter.options(name="till").remote()
    queue = ca.actor_queue(cluster.context.namespace, "till")

    sent = [plain.send_task("Counter.add", args=[2], queue=queue) for _ in range(20)]

    assert [result.get(timeout=10) for result in sent] == list(range(2, 42, 2))
    assert ca.get(ca.get_actor("till").add.remote(1), timeout=10) == 41


def test_a_plain_celery_app_sends_keyword_arguments(cluster: Cluster, plain: Celery):
    _held = Counter.options(name="keywords").remote()
    queue = ca.actor_queue(cluster.context.namespace, "keywords")

    result = plain.send_task("Counter.add", kwargs={"amount": 6}, queue=queue)

    assert result.get(timeout=10) == 6


def test_a_plain_celery_app_hears_of_an_exception(cluster: Cluster, plain: Celery):
    _held = Counter.options(name="failing").remote()
    queue = ca.actor_queue(cluster.context.namespace, "failing")

    result = plain.send_task("Counter.fail", args=["no change"], queue=queue)

    with pytest.raises(ValueError, match="no change"):
        result.get(timeout=10)
    assert "in fail" in result.traceback
    unknown = plain.send_task("Counter.burn", queue=queue)
    with pytest.raises(Exception, match=r"Counter\.burn"):
        unknown.get(timeout=10)


@pytest.mark.not_over("rabbitmq", "its drivers have an app of the user's, which reads JSON alone")
def test_async_result_of_the_clusters_app_gives_any_value(cluster: Cluster):
    app = cluster.context.app
    for value in (2, "text", [1, 2], (1, 2), b"bytes"):
        ref = double.remote(value)
        assert app.AsyncResult(ref.id).get(timeout=10) == value * 2


def test_async_result_of_a_plain_app_gives_json_values(cluster: Cluster, plain: Celery):
    ref = Counter.remote().add.remote(4)
    result = plain.AsyncResult(ref.id)

    assert result.get(timeout=10) == 4
    assert result.status == "SUCCESS"
    bad = fail.remote("told to")
    with pytest.raises(ValueError, match="told to"):
        plain.AsyncResult(bad.id).get(timeout=10)


def test_inspect_answers_for_every_actor_while_a_method_runs(cluster: Cluster, gate: Gate):
    app = cluster.context.app
    busy = Counter.options(name="busy").remote()
    idle = Recorder.options(name="idle").remote()
    ca.get(idle.notes_taken.remote(), timeout=10)
    running = busy.hold.remote(gate.path)
    pid = gate.wait_reached()
    space = cluster.context.namespace

    names = wait_until(lambda: _named(app.control.inspect(timeout=1).ping()), "both answer", 20)

    assert set(names) >= {"Counter-busy", "Recorder-idle"}
    hosts = {name: f"{name}@{host}" for name, host in names.items()}
    about = app.control.inspect(destination=list(hosts.values()), timeout=5)
    queues = about.active_queues()
    for name, actor in (("Counter-busy", "busy"), ("Recorder-idle", "idle")):
        (queue,) = queues[hosts[name]]
        assert queue["name"] == ca.actor_queue(space, actor)
    stats = about.stats()
    assert stats[hosts["Counter-busy"]]["pid"] == pid
    active = about.active()
    assert active[hosts["Recorder-idle"]] == []
    (call,) = active[hosts["Counter-busy"]]
    assert (call["name"], call["id"], call["worker_pid"]) == ("Counter.hold", running.id, pid)

    gate.open()
    assert ca.get(running, timeout=10) == "passed"
    wait_until(lambda: not any(about.active().values()), "nothing is active any more")
    totals = about.stats()[hosts["Counter-busy"]]["total"]
    assert totals == {"Counter.hold": 1}
    for actor in (busy, idle):
        ca.kill(actor)


def test_celerys_side_of_an_actor_leaves_the_environment_and_the_logging_alone(cluster: Cluster):
    """It starts beside the first calls: programs that these start take the environment along."""
    actor = Recorder.options(name="calm").remote()
    app = cluster.context.app

    def answers() -> bool:
        pongs = app.control.inspect(timeout=1).ping() or {}
        return any(name.startswith("Recorder-calm@") for name in pongs)

    wait_until(answers, "Celery's side of it answers", 20)
    environ, level = ca.get(actor.__ray_call__.remote(_surroundings), timeout=10)

    assert [name for name in environ if name.startswith(("CELERY_LOG", "_MP_FORK"))] == []
    assert level == "INFO"
    ca.kill(actor)


def _surroundings(_actor: Any) -> tuple[list[str], str]:
    return sorted(os.environ), logging.getLevelName(logging.getLogger().level)


def _named(pongs: dict[str, Any] | None) -> dict[str, str] | None:
    names = dict(name.split("@") for name in pongs or {})
    return names if {"Counter-busy", "Recorder-idle"} <= set(names) else None


def test_a_revoked_call_does_not_run(cluster: Cluster, gate: Gate):
    app = cluster.context.app
    actor = Counter.options(name="revoking").remote()
    running = actor.hold.remote(gate.path)
    revoked, after = actor.add.remote(100), actor.add.remote(1)
    gate.wait_reached()

    def told() -> bool:
        answers = app.control.revoke(revoked.id, reply=True, timeout=1) or []
        return any("Counter-revoking@" in name for answer in answers for name in answer)

    wait_until(told, "the actor's worker knows", 20)
    gate.open()

    with pytest.raises(ca.TaskCancelledError, match=r"Counter\.add"):
        ca.get(revoked, timeout=10)
    assert ca.get([running, after], timeout=10) == ["passed", 1]


def test_a_running_call_is_terminated_and_its_actor_lives_on(cluster: Cluster, gate: Gate):
    app = cluster.context.app
    actor = Counter.options(name="terminating").remote()
    running, after = actor.hold.remote(gate.path), actor.add.remote(1)
    pid = gate.wait_reached()

    def told() -> bool:
        answers = app.control.revoke(running.id, terminate=True, reply=True, timeout=1) or []
        return any("Counter-terminating@" in name for answer in answers for name in answer)

    wait_until(told, "the actor's worker knows", 20)

    with pytest.raises(ca.TaskCancelledError, match=r"Counter\.hold"):
        ca.get(running, timeout=10)
    assert ca.get(after, timeout=10) == 1
    assert ca.get(actor.__ray_call__.remote(lambda _actor: os.getpid()), timeout=10) == pid
    ca.kill(actor)


@pytest.mark.not_over("rabbitmq", "it drops what has expired, and then nobody answers")
def test_a_call_that_expired_does_not_run(cluster: Cluster, plain: Celery, gate: Gate):
    actor = Counter.options(name="expiring").remote()
    queue = ca.actor_queue(cluster.context.namespace, "expiring")

    late = plain.send_task("Counter.add", args=[5], queue=queue, expires=-1)

    assert ca.get(actor.add.remote(1), timeout=10) in (1, 6)
    with pytest.raises(Exception, match="expired"):
        late.get(timeout=10)
    assert ca.get(actor.seen.remote(), timeout=10) == [1]


def test_an_app_that_is_closed_leaves_others_on_the_same_broker_alone(cluster: Cluster):
    """kombu has one pool of connections for all apps of a process on one broker."""
    _held = Counter.options(name="pooled").remote()
    queue = ca.actor_queue(cluster.context.namespace, "pooled")
    first, second = cluster.stock_app(), cluster.stock_app()
    for number, app in enumerate((first, second), 1):
        assert app.send_task("Counter.add", queue=queue).get(timeout=10) == number
    close_app(first)
    assert second.send_task("Counter.add", queue=queue).get(timeout=10) == 3
    gc.collect()  # an AsyncResult that dies later would look for a store that is gone
    close_app(second)
