"""Durable actors that nobody calls need no process; their next call brings them back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from celery_actors import directory, routing, runtime, status
from celery_actors.broker.app import close_app
from tests.integration.actors import Recorder, pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Cluster, is_alive, wait_all_gone, wait_until


@ca.remote(durable=True, idle_timeout=0.3)
class Sleeper:
    """Counts, and rests between."""

    def __init__(self, path: str = "", start: int = 0) -> None:
        self.path = path
        self.total = start

    def add(self, amount: int = 1) -> int:
        self.total += amount
        return self.total

    def add_at(self, gate: str) -> int:
        pass_gate(gate)
        return self.add()

    def pid(self) -> int:
        return os.getpid()

    def reconstructed(self) -> bool:
        return ca.get_runtime_context().was_current_actor_reconstructed

    def tell(self, other: Any) -> None:
        other.add.remote(10)

    def child(self) -> Any:
        self.made = Sleeper.options(name="child").remote()
        return ca.get(self.made.pid.remote())

    def __ray_shutdown__(self) -> None:
        if self.path:
            Path(self.path).write_text(f"bye {self.total}")


def record_of(actor: Any) -> directory.ActorRecord | None:
    identity = actor._identity
    return directory.find(runtime.current().store, identity.actor_id, identity.queue)


def state_of(actor: Any) -> str:
    record = record_of(actor)
    return record.state if record is not None else ""


def wait_passive(actor: Any) -> None:
    wait_until(lambda: state_of(actor) == "PASSIVE", "the actor to be passive")


def put_to_rest(actor: Any) -> int:
    """Wait until the actor's process has ended; return its id."""
    pid: int = ca.get(actor.pid.remote(), timeout=15)
    wait_passive(actor)
    wait_all_gone([pid], "the process of a passive actor has ended")
    return pid


def wait_forgotten(identity: Any) -> None:
    store = runtime.current().store
    keys = identity.keys
    left = [keys.queue, keys.spec, keys.state, keys.tokens, keys.callers, keys.parked]
    wait_until(
        lambda: (
            directory.find(store, identity.actor_id) is None
            and store.run("EXISTS", *left) == 0
            and not store.run("SISMEMBER", routing.PASSIVE, identity.actor_id)
        ),
        "nothing of the actor to be left",
    )


@pytest.fixture
def sleeper(cluster: Cluster) -> Iterator[Any]:
    """A passive actor that has counted to three."""
    actor = Sleeper.remote(start=1)
    assert ca.get(actor.add.remote(2), timeout=15) == 3
    put_to_rest(actor)
    yield actor
    ca.kill(actor)


def test_the_next_call_finds_the_state_in_another_process(sleeper: Any) -> None:
    assert ca.get(sleeper.add.remote(), timeout=15) == 4
    first = put_to_rest(sleeper)
    assert ca.get([sleeper.add.remote(), sleeper.add.remote()], timeout=15) == [5, 6]
    assert put_to_rest(sleeper) != first
    assert state_of(sleeper) == "PASSIVE"


def test_rest_is_no_restart(sleeper: Any) -> None:
    assert not ca.get(sleeper.reconstructed.remote(), timeout=15)
    record = record_of(sleeper)
    assert record is not None
    assert record.meta["restarts"] == "0"


def test_a_process_without_calls_rests_though_it_was_never_called(cluster: Cluster) -> None:
    actor = Sleeper.remote()
    wait_passive(actor)
    assert ca.get(actor.add.remote(), timeout=15) == 1
    ca.kill(actor)


def test_a_running_call_is_no_rest(cluster: Cluster, gate: Gate) -> None:
    actor, other = Sleeper.remote(), Sleeper.remote()
    ref = actor.add_at.remote(gate.path)
    pid = gate.wait_reached()
    put_to_rest(other)  # as long as that took, the first one could have rested
    put_to_rest(other)
    assert (state_of(actor), is_alive(pid)) == ("ALIVE", True)
    gate.open()
    assert ca.get(ref, timeout=15) == 1
    wait_passive(actor)
    ca.kill(actor)
    ca.kill(other)


def test_a_call_that_waits_for_its_argument_keeps_the_process(cluster: Cluster, gate: Gate) -> None:
    actor, other, maker = Sleeper.remote(), Sleeper.remote(), Sleeper.remote(start=4)
    value = maker.add_at.remote(gate.path)
    gate.wait_reached()
    ref = actor.add.remote(value)
    wait_until(lambda: state_of(actor) == "ALIVE", "the actor to start")
    put_to_rest(other)  # as long as that took, the first one could have rested
    put_to_rest(other)
    assert state_of(actor) == "ALIVE"
    gate.open()
    assert ca.get(ref, timeout=15) == 5
    for each in (actor, other, maker):
        ca.kill(each)


def test_a_look_by_name_wakes_nobody(cluster: Cluster) -> None:
    actor = Sleeper.options(name="resting", lifetime="detached").remote()
    put_to_rest(actor)
    found = ca.get_actor("resting")
    assert Sleeper.options(name="resting", get_if_exists=True).remote() == found
    assert "resting" in ca.util.list_named_actors()
    shown = [each for each in status.collect(runtime.current().store)["actors"]
             if each["name"] == "resting"]  # fmt: skip
    assert [(each["state"], each["pid"], each["node_id"]) for each in shown] == [("PASSIVE", 0, "")]
    assert state_of(actor) == "PASSIVE"
    assert ca.get(found.add.remote(), timeout=15) == 1
    put_to_rest(found)
    ca.kill(found)
    wait_forgotten(found._identity)


def test_its_resources_are_free_while_it_rests(cluster: Cluster) -> None:
    wide = Sleeper.options(num_cpus=2)
    first, second = wide.remote(), wide.remote()
    # Each needs every CPU there is: they can only take turns.
    for amount in range(1, 4):
        assert ca.get(first.add.remote(), timeout=15) == amount
        assert ca.get(second.add.remote(), timeout=15) == amount
    ca.kill(first)
    ca.kill(second)


def test_a_durable_actors_call_wakes_another(sleeper: Any) -> None:
    caller = Sleeper.remote()
    ca.get(caller.tell.remote(sleeper), timeout=15)
    wait_until(lambda: state_of(sleeper) != "PASSIVE", "the other to be woken")
    assert ca.get(sleeper.add.remote(0), timeout=15) == 13
    ca.kill(caller)


def test_a_plain_celery_client_wakes_it(cluster: Cluster) -> None:
    actor = Sleeper.options(name="from-outside").remote()
    put_to_rest(actor)
    queue = ca.actor_queue(cluster.context.namespace, "from-outside")
    plain = cluster.stock_app()
    result = plain.send_task("Sleeper.add", args=[5], queue=queue)
    assert result.get(timeout=15) == 5
    close_app(plain)
    put_to_rest(actor)
    ca.kill(actor)
    wait_forgotten(actor._identity)


def test_a_killed_one_leaves_nothing_and_its_name_is_free(cluster: Cluster) -> None:
    actor = Sleeper.options(name="short").remote()
    put_to_rest(actor)
    ca.kill(actor)
    with pytest.raises(ca.ActorDiedError):
        ca.get(actor.add.remote(), timeout=15)
    wait_forgotten(actor._identity)
    again = Sleeper.options(name="short").remote(start=7)
    assert ca.get(again.add.remote(0), timeout=15) == 7
    ca.kill(again)


def test_an_end_of_its_process_is_no_end_of_a_resting_one(sleeper: Any) -> None:
    ca.kill(sleeper, no_restart=False)
    assert state_of(sleeper) == "PASSIVE"
    assert ca.get(sleeper.add.remote(), timeout=15) == 4


def test_with_the_last_handle_it_says_good_bye(cluster: Cluster, tmp_path: Path) -> None:
    last_words = tmp_path / "last-words"
    actor = Sleeper.remote(str(last_words), 5)
    put_to_rest(actor)
    identity = actor._identity
    del actor
    # It is there a moment before anything is in it.
    wait_until(lambda: last_words.exists() and last_words.read_text(), "the last words")
    assert last_words.read_text() == "bye 5"
    wait_forgotten(identity)


def test_what_a_resting_one_has_created_lives_and_ends_with_it(cluster: Cluster) -> None:
    actor = Sleeper.remote()
    ca.get(actor.child.remote(), timeout=15)
    put_to_rest(actor)
    child = ca.get_actor("child")
    assert ca.get(child.add.remote(), timeout=15) == 1
    ca.kill(actor)
    wait_forgotten(child._identity)


def test_a_crash_after_rest_counts_as_a_crash(sleeper: Any) -> None:
    os.kill(ca.get(sleeper.pid.remote(), timeout=15), signal.SIGKILL)
    assert ca.get(sleeper.add.remote(), timeout=15) == 4
    assert ca.get(sleeper.reconstructed.remote(), timeout=15)
    put_to_rest(sleeper)
    assert ca.get(sleeper.reconstructed.remote(), timeout=15)


def test_many_named_ones_rest_without_a_process(cluster: Cluster) -> None:
    actors = [Sleeper.options(name=f"many-{number}").remote(start=number) for number in range(12)]
    pids = ca.get([actor.pid.remote() for actor in actors], timeout=60)
    for actor in actors:
        wait_passive(actor)
    wait_all_gone(pids, "their processes have ended")
    assert ca.get(actors[7].add.remote(), timeout=15) == 8
    assert [state_of(actor) for actor in actors].count("PASSIVE") == 11
    for actor in actors:
        ca.kill(actor)


def test_only_durable_actors_rest() -> None:
    with pytest.raises(ValueError, match="idle_timeout needs durable=True"):
        Recorder.options(idle_timeout=1)
    with pytest.raises(ValueError, match="idle_timeout must be more than 0 seconds"):
        Sleeper.options(idle_timeout=0)
