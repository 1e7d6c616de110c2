"""What a killed process costs: the call that ran in it, and nothing else."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, Scribe, held
from tests.integration.gates import Gate
from tests.integration.support import Cluster, is_alive, wait_empty, wait_until


def words(path: Path) -> list[str]:
    return path.read_text().split()


def test_the_call_that_ran_in_a_killed_actor_fails_at_once_and_names_it(
    cluster: Cluster, gate: Gate
):
    actor = Counter.options(name="doomed").remote()
    running = actor.hold.remote(gate.path)
    waiting = actor.add.remote()
    pid = gate.wait_reached()

    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)

    with pytest.raises(ca.ActorDiedError, match=r"Counter\(doomed\).*SIGKILL") as caught:
        ca.get(running, timeout=10)
    assert time.monotonic() - began < 5
    assert caught.value.actor_id == actor._identity.actor_id
    with pytest.raises(ca.ActorDiedError, match=r"Counter\(doomed\)"):
        ca.get(waiting, timeout=10)
    with pytest.raises(ca.ActorDiedError, match=r"Counter\(doomed\)"):
        ca.get(actor.add.remote(), timeout=10)
    with pytest.raises(ValueError, match="doomed"):
        ca.get_actor("doomed")


def test_waiting_calls_survive_and_run_on_the_restarted_actor_in_order(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    journal = tmp_path / "journal"
    actor = Scribe.options(max_restarts=-1).remote(str(journal))
    done = actor.write.remote("before")
    running = actor.hold.remote(gate.path)
    waiting = [actor.write.remote(str(number)) for number in range(200)]
    assert ca.get(done, timeout=10) == "before"
    pid = gate.wait_reached()

    os.kill(pid, signal.SIGKILL)

    with pytest.raises(ca.ActorUnavailableError, match="restarts"):
        ca.get(running, timeout=10)
    assert ca.get(waiting, timeout=20) == [str(number) for number in range(200)]
    assert words(journal) == ["before", "hold-gate", *(str(number) for number in range(200))]
    assert ca.get(actor.pid.remote(), timeout=10) != pid


def test_a_started_call_runs_again_with_max_task_retries(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    journal = tmp_path / "journal"
    actor = Scribe.options(max_restarts=-1, max_task_retries=-1).remote(str(journal))
    running = actor.hold.remote(gate.path)
    after = actor.write.remote("after")
    os.kill(gate.wait_reached(), signal.SIGKILL)

    gate.wait_reached(times=2)
    gate.open()

    assert ca.get([running, after], timeout=10) == ["passed", "after"]
    assert words(journal) == ["hold-gate", "hold-gate", "after"]


def test_an_actor_that_is_killed_more_often_than_it_may_restart_is_dead(cluster: Cluster):
    actor = Counter.options(max_restarts=1).remote()
    first = ca.get(actor.pid.remote(), timeout=10)
    os.kill(first, signal.SIGKILL)
    second = ca.get(actor.pid.remote(), timeout=20)
    assert second != first

    os.kill(second, signal.SIGKILL)

    wait_until(lambda: not is_alive(second), "the second process is gone")
    with pytest.raises(ca.ActorDiedError, match="SIGKILL"):
        ca.get(actor.pid.remote(), timeout=20)


def test_killing_an_actor_again_and_again_under_load_neither_doubles_nor_reorders(
    cluster: Cluster, tmp_path: Path
):
    journal = tmp_path / "journal"
    actor = Scribe.options(max_restarts=-1).remote(str(journal))
    refs = [actor.write.remote(str(number)) for number in range(2_000)]
    killed = set()
    for reached in (200, 600, 1_000):
        wait_until(lambda n=reached: _is_ready(refs[n]), "progress under load", 30)
        pid = _pid_of(cluster, actor)
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda old=pid: _pid_of(cluster, actor) not in (0, old), "a new process")

    outcomes = [_outcome(ref) for ref in refs]

    written = words(journal)
    assert written == sorted(written, key=int), "order was kept"
    assert len(written) == len(set(written)), "nothing ran twice"
    ran = {int(word) for word in written}
    failed = {number for number, outcome in enumerate(outcomes) if outcome is None}
    assert ran >= set(range(2_000)) - failed, "what succeeded has run"
    # Results are committed in groups: what had run and was not committed yet fails, too.
    assert len(failed - ran) <= len(killed), "a call fails only if it had begun"
    assert len(failed) < 1_000


def _is_ready(ref: ca.ObjectRef[str]) -> bool:
    return bool(ca.wait([ref], timeout=0)[0])


def _outcome(ref: ca.ObjectRef[str]) -> str | None:
    try:
        return ca.get(ref, timeout=30)
    except ca.ActorUnavailableError:
        return None


def _pid_of(cluster: Cluster, actor: ca.ActorHandle[object]) -> int:
    queue, actor_id = actor._identity.queue, actor._identity.actor_id
    with cluster.client() as client:
        state, pid = client.hmget(f"ca:{{{queue}}}:{actor_id}:m", "st", "pid")
    return int(pid or 0) if state == b"alive" else 0


def test_a_constructor_that_raises_fails_every_call_with_its_own_words(cluster: Cluster):
    @ca.remote
    class Broken:
        def __init__(self) -> None:
            raise KeyError("no such colour")

        def paint(self) -> None:
            """Never runs."""

    actor = Broken.remote()

    with pytest.raises(ca.ActorDiedError, match="no such colour") as caught:
        ca.get(actor.paint.remote(), timeout=10)
    assert caught.value.actor_init_failed


def test_a_call_of_a_killed_shared_worker_is_run_again(cluster: Cluster, gate: Gate):
    ref = held.remote(gate.path)
    first = gate.wait_reached()

    os.kill(first, signal.SIGKILL)

    second = gate.wait_reached(times=2)
    gate.open()
    assert ca.get(ref, timeout=10) == "passed"
    assert second != first


@pytest.mark.parametrize("retries", [0, 2])
def test_a_call_fails_when_its_workers_are_killed_more_often_than_it_may_be_tried(
    cluster: Cluster, gate: Gate, retries: int
):
    ref = held.options(max_retries=retries).remote(gate.path)

    for time_ in range(retries + 1):
        os.kill(gate.wait_reached(times=time_ + 1), signal.SIGKILL)

    with pytest.raises(ca.WorkerCrashedError, match=f"held.*SIGKILL.*max_retries={retries}"):
        ca.get(ref, timeout=10)
    assert len(gate.pids()) == retries + 1


def test_kill_ends_an_actor_in_the_middle_of_a_call(cluster: Cluster, gate: Gate):
    actor = Counter.options(name="stopped").remote()
    running, waiting = actor.hold.remote(gate.path), actor.add.remote()
    pid = gate.wait_reached()

    ca.kill(actor)

    for ref in (running, waiting, actor.add.remote()):
        with pytest.raises(ca.ActorDiedError, match=r"kill\(\)"):
            ca.get(ref, timeout=10)
    wait_until(lambda: not is_alive(pid), "its process is gone")
    again = Counter.options(name="stopped").remote(7)
    assert ca.get(again.add.remote(), timeout=10) == 8


def test_a_name_can_be_given_again_at_once(cluster: Cluster):
    for number in range(20):
        actor = Counter.options(name="phoenix").remote(number)
        assert ca.get([actor.add.remote() for _ in range(3)], timeout=10) == [
            number + 1, number + 2, number + 3,
        ]  # fmt: skip
        ca.kill(actor)


def test_a_killed_actor_leaves_no_key_but_a_memory_of_its_death(cluster: Cluster):
    actor = Counter.options(name="gone").remote()
    ca.get(actor.add.remote(), timeout=10)

    ca.kill(actor)

    def left() -> list[bytes]:
        with cluster.client() as client:
            return [
                key
                for key in client.scan_iter(f"*{actor._identity.actor_id}*")
                if client.ttl(key) == -1
            ]

    wait_empty(left, "no key without an end")
    with cluster.client() as client:
        assert not client.exists(ca.actor_queue(cluster.context.namespace, "gone"))


def test_results_and_takings_of_a_killed_worker_are_removed(cluster: Cluster, gate: Gate):
    ref = held.options(max_retries=0).remote(gate.path)
    pid = gate.wait_reached()
    with cluster.client() as client:
        holding = [key for key in client.scan_iter("ca:taken:*") if client.llen(key)]
    assert holding

    os.kill(pid, signal.SIGKILL)

    with pytest.raises(ca.WorkerCrashedError):
        ca.get(ref, timeout=10)
    call_id = ref.id
    del ref

    def left() -> list[bytes]:
        with cluster.client() as client:
            names = [f"celery-task-meta-{call_id}", *holding]
            names += [f"ca:{{{k.decode()}}}:{k.decode().rpartition(':')[2]}:m" for k in holding]
            return [name for name in names if client.exists(name)]

    wait_empty(left, "the worker's list and the dropped result are gone")
