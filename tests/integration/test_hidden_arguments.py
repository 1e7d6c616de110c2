"""A node that keeps what its calls carry out of the events."""

from __future__ import annotations

import pytest

import celery_actors as ca
from tests.integration.actors import Counter
from tests.integration.listening import capturing, of_type
from tests.integration.support import running, wait_until


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
