"""Celery's events: what Flower and `celery events` see."""

from __future__ import annotations

import pytest

import celery_actors as ca
from tests.integration.actors import Counter
from tests.integration.listening import capturing, of_type
from tests.integration.support import Cluster, wait_until


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
