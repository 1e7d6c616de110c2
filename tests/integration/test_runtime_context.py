"""What code may ask about where and for whom it runs."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.support import Cluster, run_script, wait_until


def view() -> dict[str, Any]:
    context = ca.get_runtime_context()
    return {
        "job": context.get_job_id(), "node": context.get_node_id(),
        "worker": context.get_worker_id(), "task": context.get_task_id(),
        "name": context.get_task_name(), "function": context.get_task_function_name(),
        "actor": context.get_actor_id(), "actor_name": context.get_actor_name(),
        "namespace": context.namespace, "resources": context.get_assigned_resources(),
        "accelerators": context.get_accelerator_ids(), "gpus": ca.get_gpu_ids(),
        "session": context.get_session_name(), "store": context.gcs_address,
        "env": context.runtime_env, "cancelled": context.get_task_id() and context.is_canceled(),
    }  # fmt: skip


@ca.remote
def look() -> dict[str, Any]:
    return view()


@ca.remote
class Looker:
    def look(self) -> dict[str, Any]:
        return view()

    def current(self) -> Any:
        return ca.get_runtime_context().current_actor

    def rebuilt(self) -> tuple[bool, int]:
        return ca.get_runtime_context().was_current_actor_reconstructed, os.getpid()


def test_a_driver_has_a_job_and_a_node_and_no_task(cluster: Cluster):
    seen = view()

    assert seen["job"] == cluster.context.session
    assert seen["node"] in {node["NodeID"] for node in ca.nodes()}
    assert seen["worker"]
    assert [seen[key] for key in ("task", "name", "function", "actor", "actor_name")] == [None] * 5
    assert seen["resources"] == {}
    assert (seen["accelerators"], seen["gpus"], seen["env"]) == ({"GPU": []}, [], {})
    assert set(ca.get_runtime_context().get()) == {"job_id", "node_id", "namespace"}


def test_a_call_knows_itself_and_its_worker(cluster: Cluster):
    ref = look.options(num_cpus=2).remote()
    seen = ca.get(ref, timeout=20)
    here = view()

    assert (seen["task"], seen["name"], seen["function"]) == (ref.id, "look", "look")
    assert (seen["actor"], seen["actor_name"]) == (None, None)
    assert seen["resources"] == {"CPU": 2.0}
    assert seen["cancelled"] is False
    for key in ("job", "namespace", "session", "store"):
        assert seen[key] == here[key], key
    assert seen["worker"] != here["worker"]


def test_each_call_of_an_actor_is_told_apart(cluster: Cluster):
    actor = Looker.options(name="the-looker").remote()
    refs = [actor.look.remote() for _ in range(3)]
    seen = ca.get(refs, timeout=20)

    assert [one["task"] for one in seen] == [ref.id for ref in refs]
    assert {one["name"] for one in seen} == {"Looker.look"}
    assert {one["actor_name"] for one in seen} == {"the-looker"}
    assert len({one["actor"] for one in seen}) == 1
    assert seen[0]["resources"] == {}
    assert ca.get(Looker.options(num_cpus=1).remote().look.remote(), timeout=20)["resources"] == {
        "CPU": 1.0
    }


def test_an_actor_can_hand_out_a_handle_of_itself(cluster: Cluster):
    actor = Looker.remote()
    handle = ca.get(actor.current.remote(), timeout=20)

    assert handle == actor
    assert ca.get(handle.rebuilt.remote(), timeout=20)[0] is False


def test_an_actor_knows_that_it_was_started_again(cluster: Cluster):
    actor = Looker.options(max_restarts=1).remote()
    before, pid = ca.get(actor.rebuilt.remote(), timeout=20)
    os.kill(pid, signal.SIGKILL)

    def rebuilt() -> bool:
        try:
            return ca.get(actor.rebuilt.remote(), timeout=20)[0]
        except ca.ActorUnavailableError:
            return False

    assert not before
    wait_until(rebuilt, "the actor says that it was started again")


@pytest.mark.parametrize("ask", ["current_actor", "was_current_actor_reconstructed"])
def test_what_only_an_actor_has_is_an_error_elsewhere(cluster: Cluster, ask: str):
    @ca.remote
    def in_a_task() -> None:
        getattr(ca.get_runtime_context(), ask)

    with pytest.raises(RuntimeError, match="in an actor"):
        getattr(ca.get_runtime_context(), ask)
    with pytest.raises(RuntimeError, match="in an actor"):
        ca.get(in_a_task.remote(), timeout=20)


def test_a_thread_that_user_code_starts_runs_no_call(cluster: Cluster):
    @ca.remote
    def in_a_thread() -> list[Any]:
        found: list[Any] = []
        thread = threading.Thread(
            target=lambda: found.append(ca.get_runtime_context().get_task_id())
        )
        thread.start()
        thread.join()
        return found

    assert ca.get(in_a_thread.remote(), timeout=20) == [None]


def test_the_first_question_joins_a_cluster(tmp_path: Path):
    done = run_script(
        tmp_path,
        "import celery_actors as ray\n"
        "assert not ray.is_initialized()\n"
        "assert ray.get_gpu_ids() == []\n"
        "assert ray.is_initialized()\n"
        "ray.shutdown()\n"
        "print(bool(ray.get_runtime_context().get_job_id()), ray.is_initialized())\n",
    )
    assert (done.stdout, done.stderr) == ("True True\n", "")


@ca.remote
class Overlapping:
    def __init__(self) -> None:
        self.meeting = threading.Barrier(3)

    def meet(self) -> tuple[str | None, str | None]:
        before = ca.get_runtime_context().get_task_id()
        self.meeting.wait(20)
        return before, ca.get_runtime_context().get_task_id()


@ca.remote
class Interleaved:
    def __init__(self) -> None:
        self.here = 0
        self.all_here = asyncio.Event()

    async def meet(self) -> tuple[str | None, str | None, str | None]:
        before = ca.get_runtime_context().get_task_id()
        self.here += 1
        if self.here == 3:
            self.all_here.set()
        await self.all_here.wait()
        inner = await asyncio.create_task(self._inner())
        return before, inner, ca.get_runtime_context().get_task_id()

    async def _inner(self) -> str | None:
        await asyncio.sleep(0)
        return ca.get_runtime_context().get_task_id()


def test_calls_that_overlap_in_threads_know_themselves(cluster: Cluster):
    actor = Overlapping.options(max_concurrency=3).remote()
    refs = [actor.meet.remote() for _ in range(3)]
    assert ca.get(refs, timeout=30) == [(ref.id, ref.id) for ref in refs]


def test_calls_that_overlap_on_an_event_loop_know_themselves(cluster: Cluster):
    actor = Interleaved.remote()
    refs = [actor.meet.remote() for _ in range(3)]
    assert ca.get(refs, timeout=30) == [(ref.id, ref.id, ref.id) for ref in refs]


def test_a_running_call_can_see_that_it_was_cancelled(cluster: Cluster, tmp_path: Path):
    @ca.remote
    class Patient:
        def look(self, folder: Path) -> None:
            (folder / "begun").touch()
            try:
                while True:
                    time.sleep(0.005)
            except KeyboardInterrupt:
                if ca.get_runtime_context().is_canceled():
                    (folder / "seen").touch()

    actor = Patient.options(max_concurrency=2).remote()
    ref = actor.look.remote(tmp_path)
    wait_until((tmp_path / "begun").exists, "the call has begun")
    ca.cancel(ref)

    wait_until((tmp_path / "seen").exists, "the call has seen its cancellation")
    with pytest.raises(ca.TaskCancelledError):
        ca.get(ref, timeout=20)


def test_a_named_function_has_its_own_name_still(cluster: Cluster):
    seen = ca.get(look.options(name="renamed").remote(), timeout=20)
    assert (seen["name"], seen["function"]) == ("renamed", "look")


def test_no_call_runs_in_a_driver_that_asks_whether_it_was_cancelled(cluster: Cluster):
    with pytest.raises(RuntimeError, match="none runs here"):
        ca.get_runtime_context().is_canceled()


def test_a_driver_has_the_labels_of_its_node_and_no_placement_group(cluster: Cluster):
    context = ca.get_runtime_context()
    assert context.get_node_labels() == {"ray.io/node-id": context.get_node_id()}
    assert context.get_placement_group_id() is None
    assert context.runtime_env_string == context.get_runtime_env_string() == "{}"


def test_nodes_and_resources_have_the_shape_that_rays_programs_read(cluster: Cluster):
    (node,) = ca.nodes()
    assert node["Alive"] is True
    assert node["alive"] is True
    assert node["Resources"] == ca.cluster_resources()
    assert node["Resources"]["CPU"] == 2.0
    assert node["Resources"]["node:127.0.0.1"] == 1.0
    assert node["Resources"]["memory"] > 2**30
    assert node["NodeManagerAddress"] == "127.0.0.1"
    assert {"NodeID", "NodeManagerHostname", "NodeName", "Labels"} <= set(node)
    assert all(isinstance(amount, float) for amount in ca.available_resources().values())
