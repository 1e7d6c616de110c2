"""What nodes have together, and nodes that come later."""

from __future__ import annotations

from typing import Any

import celery_actors as ca
from tests.integration.devices import Holder, told, where
from tests.integration.support import Server, join, node_on, wait_until


def free() -> dict[str, float]:
    return ca.available_resources()


def test_the_cluster_has_what_its_nodes_have_together(server: Server):
    words = ("--num-gpus", "2", "--resources", '{"ssd": 1.5}', "--memory", "1000000000")
    with (
        node_on(server, *words, "--labels", "zone=a", name="one"),
        node_on(server, "--num-gpus", "1", "--memory", "0", name="two", cpus=3),
        join(server),
    ):
        total = ca.cluster_resources()
        assert {name: total[name] for name in ("CPU", "GPU", "ssd", "memory")} == {
            "CPU": 5.0, "GPU": 3.0, "ssd": 1.5, "memory": 1e9,
        }  # fmt: skip
        wait_until(lambda: free() == total, "everything is free")
        one, two = sorted(ca.nodes(), key=lambda node: node["NodeID"])
        assert one["Labels"] == {"zone": "a", "ray.io/node-id": one["NodeID"]}
        assert (len(one["Devices"]), len(two["Devices"])) == (2, 1)

        actor = Holder.options(num_gpus=1, resources={"ssd": 1.5}, memory=4e8).remote()
        held = ca.get(actor.given.remote(), timeout=20)["resources"]

        assert held == {"CPU": 1.0, "GPU": 1.0, "ssd": 1.5, "memory": 4e8}
        wait_until(lambda: "ssd" not in free(), "what is used up is not listed")
        assert {name: free()[name] for name in ("CPU", "GPU", "memory")} == {
            "CPU": 4.0, "GPU": 2.0, "memory": 6e8,
        }  # fmt: skip


def test_work_that_says_so_waits_for_a_node_that_can_hold_it(server: Server):
    with node_on(server, name="small", cpus=1), join(server):
        options: dict[str, Any] = {"num_gpus": 2, "wait_for_resources": True}
        actor = Holder.options(**options).remote()
        refs = [actor.node.remote(), where.options(**options).remote()]
        assert ca.wait(refs, timeout=0.5)[0] == []

        with node_on(server, "--num-gpus", "4", name="large"):
            assert [ca.get(ref, timeout=10).split("-")[0] for ref in refs] == ["large"] * 2
        ca.kill(actor)


def test_a_cluster_without_nodes_judges_nothing(server: Server):
    with join(server):
        ref = told.options(num_gpus=1).remote()
        with node_on(server, "--num-gpus", "1"):
            assert ca.get(ref, timeout=20)["ids"] == [0]
