"""Where work comes to its turn: a node takes what it can start, and nothing else."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.integration.actors import Scribe, held
from tests.integration.devices import Holder, where
from tests.integration.gates import Gate
from tests.integration.support import Server, family, join, node_on, wait_all_gone, wait_until

pytestmark = pytest.mark.debian_redis


@pytest.fixture
def pair(server: Server) -> Iterator[None]:
    """Two nodes of two GPUs."""
    with (
        node_on(server, "--num-gpus", "2", "--resources", '{"left": 9}', name="left"),
        node_on(server, "--num-gpus", "2", name="right"),
        join(server),
    ):
        yield
        wait_until(lambda: ca.available_resources() == ca.cluster_resources(), "everything is free")


def devices(gpus: float, **more: Any) -> dict[str, Any]:
    """Return options that need devices and no CPU."""
    return {"num_gpus": gpus, "num_cpus": 0, **more}


def holders() -> Tally[str]:
    """Return how many processes have devices, by the names of their nodes."""
    tally: Tally[str] = Tally()
    for node in ca.nodes():
        tally[node["NodeName"]] += len({h["pid"] for d in node["Devices"] for h in d["holders"]})
    return tally


def test_nodes_with_free_devices_all_take_work(pair: None, gate: Gate):
    refs = [held.options(**devices(1)).remote(gate.path) for _ in range(4)]
    gate.wait_reached(times=4)

    busy = wait_until(lambda: holders() if holders().total() == 4 else None, "the nodes say so")

    assert busy == {"left": 2, "right": 2}
    gate.open()
    assert ca.get(refs, timeout=20) == ["passed"] * 4


def test_a_full_node_leaves_to_others_what_it_cannot_start(pair: None):
    full = Holder.options(**devices(2, resources={"left": 1})).remote()
    left = ca.get(full.node.remote(), timeout=20)
    on_left = NodeAffinitySchedulingStrategy(left, soft=True)
    waiting = where.options(**devices(0.5, scheduling_strategy=on_left)).remote()

    actors = [Holder.options(**devices(0.5)).remote() for _ in range(3)]
    nodes = ca.get([actor.node.remote() for actor in actors], timeout=30)
    nodes += ca.get([where.options(**devices(0.5)).remote() for _ in range(3)], timeout=30)

    assert Tally(node.split("-")[0] for node in nodes) == {"right": 6}
    assert ca.wait([waiting], timeout=0)[0] == [], "a soft affinity waits where it could be held"
    ca.kill(full)
    assert ca.get(waiting, timeout=20) == left


def test_requests_that_wait_leave_what_they_do_not_need_to_others(pair: None, server: Server):
    full = [Holder.options(**devices(2)).remote() for _ in range(2)]
    ca.get([actor.given.remote() for actor in full], timeout=20)
    waiting = [where.options(**devices(size)).remote() for size in (2, 1, 0.5)]
    with server.client() as client:
        wait_until(lambda: list(client.scan_iter("ca:saving:*")), "a node saves for one of them")

    assert len(ca.get([where.remote() for _ in range(8)], timeout=30)) == 8

    for actor in full:
        ca.kill(actor)
    ca.get(waiting, timeout=30)


def test_a_node_that_joins_takes_what_has_waited(server: Server, tmp_path: Path):
    journal = str(tmp_path / "journal")
    with node_on(server, name="plain"), join(server):
        wanted = devices(1, wait_for_resources=True)
        actors = [Scribe.options(**wanted).remote(journal) for _ in range(3)]
        refs = [actor.write.remote(str(number)) for number, actor in enumerate(actors)]
        assert ca.wait(refs, timeout=0.3)[0] == []

        with node_on(server, "--num-gpus", "1", name="late"):
            for number, ref in enumerate(refs):
                assert ca.get(ref, timeout=20) == str(number)
                ca.kill(actors.pop(0))


@dataclass
class Preset(Server):
    """A server whose nodes are shown some devices."""

    devices: str

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "CUDA_VISIBLE_DEVICES": self.devices}


def test_an_actor_that_restarts_on_another_node_has_that_node_s_devices(server: Server):
    old_place, new_place = (Preset(**vars(server), devices=names) for names in ("4,5", "6,7"))
    with (
        node_on(old_place, "--num-gpus", "2", name="old") as old,
        join(server),
    ):
        wanted = devices(2, max_restarts=-1, max_task_retries=-1)
        actor = Holder.options(**wanted).remote()
        before = ca.get(actor.given.remote(), timeout=20)
        with node_on(new_place, "--num-gpus", "2", name="new"):
            below = family(old.process.pid)
            old.kill()
            wait_all_gone(below, "the actor's first process is gone")
            after = ca.get(actor.given.remote(), timeout=30)
            ca.kill(actor)

    assert (before["in C"], before["accelerators"]) == ("4,5", {"GPU": ["4", "5"]})
    assert (after["in C"], after["accelerators"]) == ("6,7", {"GPU": ["6", "7"]})
    assert after["node"].startswith("new-")
