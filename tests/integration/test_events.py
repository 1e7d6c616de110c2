"""Celery's events: what Flower and `celery events` see."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

import celery_actors as ca
from tests.integration.actors import Counter
from tests.integration.support import Cluster, running, wait_until


@contextlib.contextmanager
def capturing(app: Celery) -> Iterator[list[dict[str, Any]]]:
    """Collect the events of a cluster in a thread, as Flower does."""
    found: list[dict[str, Any]] = []
    stop = threading.Event()

    def capture() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": found.append})
            with receiver.consumer_context(wakeup=True) as (own_connection, _channel, _consumers):
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        own_connection.drain_events(timeout=0.1)

    thread = threading.Thread(target=capture, name="events")
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def of_type(events: list[dict[str, Any]], kind: str) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [event for event in events if event["type"] == kind]


def test_a_receiver_sees_heartbeats_and_every_call(watched: Cluster):
    with capturing(watched.context.app) as events:
        counter = Counter.options(name="seen").remote()
        wait_until(of_type(events, "worker-heartbeat"), "a heartbeat", 20)
        refs = [counter.add.remote() for _ in range(50)]
        ca.get(refs, timeout=10)
        bad = counter.fail.remote("seen too")
        with pytest.raises(ValueError, match="seen too"):
            ca.get(bad, timeout=10)

        calls = {ref.id for ref in refs}

        def succeeded() -> bool:
            return calls <= {event["uuid"] for event in of_type(events, "task-succeeded")()}

        wait_until(succeeded, "an event for every call")
        wait_until(of_type(events, "task-failed"), "an event for the failed call")
    received = [event for event in of_type(events, "task-received")() if event["uuid"] in calls]
    assert {event["name"] for event in received} == {"Counter.add"}
    assert {event["hostname"].split("@")[0] for event in received} == {"Counter-seen"}
    assert [event["uuid"] for event in received] == [ref.id for ref in refs]
    assert {event["args"] for event in received} == {"()"}
    (failed,) = of_type(events, "task-failed")()
    assert failed["uuid"] == bad.id
    assert failed["exception"] == "ValueError('seen too')"
    assert "in fail" in failed["traceback"]


def test_a_node_leaves_arguments_and_results_out_where_it_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_ACTORS_HIDE_ARGUMENTS", "1")
    with running("valkey", task_events=True) as cluster, capturing(cluster.context.app) as events:
        counter = Counter.options(name="hidden").remote()
        wait_until(of_type(events, "worker-heartbeat"), "a heartbeat", 20)
        ref = counter.add.remote(2)
        assert ca.get(ref, timeout=10) == 2
        end = wait_until(
            lambda: [
                each for each in of_type(events, "task-succeeded")() if each["uuid"] == ref.id
            ],
            "the end of the call",
        )  # fmt: skip
    begun = [each for each in of_type(events, "task-received")() if each["uuid"] == ref.id]
    assert [(each["args"], each["kwargs"]) for each in begun] == [("…", "…")]
    assert end[0]["result"] == "…"
