"""CPUs: who has them, who waits for them, and what the waiting are told."""

from __future__ import annotations

import logging

import pytest

import celery_actors as ca
from celery_actors import waiting as waiting_module
from tests.integration.actors import Counter, double, pass_gate
from tests.integration.devices import Holder, told
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until


def test_actors_that_hold_every_cpu_make_functions_wait(single_cpu: Cluster):
    holder = Holder.options(num_cpus=1).remote()
    ca.get(holder.pid.remote(), timeout=20)
    ref = double.remote(4)

    assert ca.wait([ref], timeout=1.5)[0] == []
    ca.kill(holder)

    assert ca.get(ref, timeout=20) == 8


def test_a_cpu_that_runs_a_function_is_given_to_an_actor_after_that(
    single_cpu: Cluster, gate: Gate
):
    running = _hold.remote(gate.path)
    gate.wait_reached()
    holder = Holder.options(num_cpus=1).remote()
    ref = holder.pid.remote()

    assert ca.wait([ref], timeout=0.5)[0] == []
    gate.open()

    assert ca.get(running, timeout=20) == "passed"
    assert ca.get(ref, timeout=20) > 0
    ca.kill(holder)
    assert ca.get(double.remote(1), timeout=20) == 2, "functions have the CPU again"


@ca.remote
def _hold(path: str) -> str:
    return pass_gate(path)


def test_actors_without_a_need_run_beside_one_that_holds_every_cpu(single_cpu: Cluster):
    holder = Holder.options(num_cpus=1).remote()
    ca.get(holder.pid.remote(), timeout=20)

    assert ca.get([Counter.remote(n).add.remote() for n in range(3)], timeout=20) == [1, 2, 3]
    ca.kill(holder)


def test_work_that_waits_too_long_says_for_what(
    single_cpu: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(waiting_module, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(waiting_module, "LOOK_SECONDS", 0.1)
    caplog.set_level(logging.WARNING, "celery_actors.waiting")
    holder = Holder.options(num_cpus=1).remote()
    ca.get(holder.pid.remote(), timeout=20)
    second = Holder.options(num_cpus=0.5).remote()
    ref = told.options(num_cpus=0.75).remote()

    def texts() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    wait_until(lambda: len(texts()) >= 2, "both are told of")
    (actors,) = [text for text in texts() if text.startswith("Actors")]
    (calls,) = [text for text in texts() if text.startswith("Calls")]
    assert "wait for 0.5 CPU on one node" in actors
    assert "wait for 0.75 CPU on one node" in calls
    assert "It runs when enough is free" in calls
    ca.kill(holder)
    ca.kill(second)
    assert ca.get(ref, timeout=20)["resources"] == {"CPU": 0.75}
