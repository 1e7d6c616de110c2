"""GPUs: who gets which, and what a process sees of them. Logical devices: any machine will do."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.devices import Holder, told
from tests.integration.gates import Gate
from tests.integration.support import Cluster, is_alive, wait_until

#: Four of them fit on the CPUs of the cluster beside others.
LIGHT: dict[str, Any] = {"num_cpus": 0.25}


def devices(cluster: Cluster) -> list[float]:
    """Return how much of each device is free."""
    (node,) = ca.nodes()
    return [device["free"] for device in node["Devices"]]


def wait_free(cluster: Cluster) -> None:
    wait_until(lambda: devices(cluster) == [1.0] * 4, "every device is free again")


def test_a_process_sees_its_devices_everywhere_before_user_code_is_imported(with_gpus: Cluster):
    actor = Holder.options(num_gpus=2, **LIGHT).remote()

    found = ca.get(actor.given.remote(), timeout=20)

    assert len(found["ids"]) == len(set(found["ids"])) == 2
    text = ",".join(map(str, found["ids"]))
    assert [found[where] for where in ("variable", "in C", "in a child", "at import")] == [text] * 4
    assert found["accelerators"] == {"GPU": [str(number) for number in found["ids"]]}
    assert found["resources"] == {"CPU": 0.25, "GPU": 2.0}
    ca.kill(actor)


def test_what_user_code_sets_stays_set_over_later_calls(with_gpus: Cluster):
    actor = Holder.options(num_gpus=1, **LIGHT).remote()
    ca.get(actor.see.remote("7"), timeout=20)

    found = ca.get(actor.given.remote(), timeout=10)

    assert found["variable"] == "7"
    assert found["ids"] != [7]
    ca.kill(actor)


def test_without_a_gpu_the_variable_is_left_alone(with_gpus: Cluster):
    function = ca.get(told.remote(), timeout=20)
    actor = Holder.remote()
    held = ca.get(actor.given.remote(), timeout=20)

    for found in (function, held):
        assert found["ids"] == []
        assert found["variable"] == os.environ.get("CUDA_VISIBLE_DEVICES")
        assert found["accelerators"] == {"GPU": []}


def test_shares_fill_one_device_before_the_next(with_gpus: Cluster):
    wait_free(with_gpus)
    actors = [Holder.options(num_gpus=0.25, num_cpus=0.1).remote() for _ in range(6)]

    ids = [found["ids"] for found in ca.get([a.given.remote() for a in actors], timeout=30)]

    assert sorted(ids) == [[0]] * 4 + [[1]] * 2
    wait_until(lambda: devices(with_gpus) == [0.0, 0.5, 1.0, 1.0], "the node tells what is left")
    for actor in actors:
        ca.kill(actor)


def test_whole_devices_are_given_to_one_only_and_come_back_when_it_ends(with_gpus: Cluster):
    wait_free(with_gpus)
    first = Holder.options(num_gpus=3, **LIGHT).remote()
    taken = ca.get(first.given.remote(), timeout=20)["ids"]
    second = Holder.options(num_gpus=2, **LIGHT).remote()
    waiting = second.given.remote()

    assert ca.wait([waiting], timeout=0.5)[0] == []
    ca.kill(first)

    found = ca.get(waiting, timeout=20)["ids"]
    assert len(taken) == 3
    assert len(found) == 2
    ca.kill(second)
    wait_free(with_gpus)


def test_a_restarted_actor_gets_devices_again_and_none_leaks(with_gpus: Cluster):
    wait_free(with_gpus)
    actor = Holder.options(num_gpus=4, max_restarts=-1, max_task_retries=-1, **LIGHT).remote()
    for _ in range(3):
        found = ca.get(actor.given.remote(), timeout=20)
        assert found["ids"] == [0, 1, 2, 3]
        os.kill(found["pid"], signal.SIGKILL)

    assert ca.get(actor.given.remote(), timeout=20)["ids"] == [0, 1, 2, 3]
    ca.kill(actor)
    wait_free(with_gpus)


def test_the_process_of_a_gpu_call_is_not_used_again(with_gpus: Cluster):
    function = told.options(num_gpus=1)

    runs = [ca.get(function.remote(), timeout=20) for _ in range(3)]

    pids = [run["pid"] for run in runs]
    assert len(set(pids)) == 3
    wait_until(lambda: not any(map(is_alive, pids)), "they have ended, and so has their memory")
    assert [run["resources"] for run in runs] == [{"CPU": 1.0, "GPU": 1.0}] * 3


def test_max_calls_0_lets_a_gpu_call_use_its_process_again(with_gpus: Cluster):
    @ca.remote(num_gpus=1, max_calls=0)
    def pid() -> int:
        return os.getpid()

    assert len(set(ca.get([pid.remote() for _ in range(20)], timeout=30))) < 20


@pytest.mark.parametrize(("cpus", "threads"), [(None, "1"), (2, "2"), (0.5, "1")])
def test_the_threads_of_numeric_libraries_follow_the_cpus(
    with_gpus: Cluster, cpus: float | None, threads: str
):
    if "OMP_NUM_THREADS" in os.environ:
        threads = os.environ["OMP_NUM_THREADS"]

    assert ca.get(told.options(num_cpus=cpus).remote(), timeout=20)["threads"] == threads


def test_calls_for_more_than_is_free_wait_and_run_in_order(with_gpus: Cluster, gate: Gate):
    wait_free(with_gpus)

    @ca.remote(num_gpus=4, num_cpus=0.1)
    def hold(path: str) -> str:
        from tests.integration.actors import pass_gate

        return pass_gate(path)

    @ca.remote(num_gpus=4, num_cpus=0.1, max_calls=0)
    def note(number: int) -> tuple[int, int]:
        import time

        return number, time.monotonic_ns()

    holding = hold.remote(gate.path)
    gate.wait_reached()
    refs = [note.remote(number) for number in range(5)]
    assert ca.wait(refs, timeout=0.3)[0] == []
    gate.open()

    assert ca.get(holding, timeout=20) == "passed"
    moments = [moment for _, moment in ca.get(refs, timeout=30)]
    assert moments == sorted(moments)
