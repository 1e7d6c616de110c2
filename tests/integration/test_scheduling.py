"""Where work runs: labels, chosen nodes, turns, device types and the very devices."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import celery_actors as ca
from celery_actors.exceptions import ActorUnschedulableError, TaskUnschedulableError
from celery_actors.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.integration.devices import Holder, told, where
from tests.integration.support import Server, join, node_on, redis_server, wait_all_gone, wait_until


class Pair(NamedTuple):
    """Two nodes, and the ids by which strategies name them."""

    server: Server
    left: str
    right: str


def node_id(name: str) -> str:
    (found,) = [n["NodeID"] for n in ca.nodes() if n["NodeID"].startswith(f"{name}-")]
    return str(found)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    left = ("--num-gpus", "2", "--labels", "zone=a,disk=ssd")
    right = ("--num-gpus", "2", "--labels", "zone=b",
             "--resources", '{"accelerator_type:H200": 1}')  # fmt: skip
    with (
        redis_server() as server,
        node_on(server, *left, name="left"),
        node_on(server, *right, name="right"),
        join(server),
    ):
        yield Pair(server, node_id("left"), node_id("right"))


pytestmark = pytest.mark.debian_redis


@pytest.mark.parametrize(
    ("selector", "node"),
    [
        ({"zone": "a"}, "left"),
        ({"zone": "!a"}, "right"),
        ({"zone": "in(b,c)"}, "right"),
        ({"zone": "!in(b,c)"}, "left"),
        ({"disk": "!ssd"}, "right"),
        ({"zone": "in(a,b)", "disk": "ssd"}, "left"),
    ],
)
def test_labels_choose_the_node(pair: Pair, selector: dict[str, str], node: str):
    options: dict[str, Any] = {"label_selector": selector}
    actor = Holder.options(**options).remote()

    found = ca.get([actor.node.remote(), where.options(**options).remote()], timeout=20)

    assert found == [getattr(pair, node)] * 2


def test_the_first_selector_that_a_node_meets_counts(pair: Pair):
    wanted = where.options(
        label_selector={"zone": "c"},
        fallback_strategy=[{"label_selector": {"zone": "d"}}, {"label_selector": {"zone": "b"}}],
    )

    assert ca.get(wanted.remote(), timeout=20) == pair.right


def test_a_process_knows_the_labels_of_its_node(pair: Pair):
    @ca.remote(label_selector={"zone": "a"})
    def labels() -> dict[str, str]:
        return ca.get_runtime_context().get_node_labels()

    assert ca.get(labels.remote(), timeout=20) == {
        "zone": "a", "disk": "ssd", "ray.io/node-id": pair.left,
    }  # fmt: skip


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("node", ["left", "right"])
def test_work_runs_on_the_node_that_was_named(pair: Pair, node: str, soft: bool):
    chosen = NodeAffinitySchedulingStrategy(getattr(pair, node), soft=soft)
    actor = Holder.options(scheduling_strategy=chosen).remote()

    refs = [actor.node.remote(), where.options(scheduling_strategy=chosen).remote()]

    assert ca.get(refs, timeout=20) == [getattr(pair, node)] * 2


def test_a_node_that_is_gone_is_an_error_or_any_other_takes_it(pair: Pair):
    hard = NodeAffinitySchedulingStrategy("gone-12345678", soft=False)
    soft = NodeAffinitySchedulingStrategy("gone-12345678", soft=True)

    with pytest.raises(TaskUnschedulableError, match=r"gone-12345678.*soft=True"):
        ca.get(where.options(scheduling_strategy=hard).remote(), timeout=20)
    lost = Holder.options(scheduling_strategy=hard).remote()
    with pytest.raises(ActorUnschedulableError, match="gone-12345678"):
        ca.get(lost.node.remote(), timeout=20)

    actor = Holder.options(scheduling_strategy=soft).remote()
    values = [told.options(scheduling_strategy=soft).remote(), actor.node.remote()]
    assert ca.get(values[1], timeout=20) in (pair.left, pair.right)
    assert ca.get(values[0], timeout=20)["node"] in (pair.left, pair.right)


def test_values_that_are_more_than_json_may_be_passed_on(pair: Pair):
    @ca.remote(
        scheduling_strategy=NodeAffinitySchedulingStrategy("gone-12345678", soft=True),
    )
    def total(numbers: set[int], factor: ca.ObjectRef[int]) -> int:
        return sum(numbers) * factor  # type: ignore[operator]

    assert ca.get(total.remote({1, 2, 3}, ca.put(2)), timeout=20) == 12


def test_more_than_the_named_node_has_is_refused(pair: Pair):
    chosen = NodeAffinitySchedulingStrategy(pair.left, soft=False)

    with pytest.raises(ca.InsufficientResourcesError, match=f"on the node {pair.left}; it has 2"):
        Holder.options(num_gpus=3, scheduling_strategy=chosen).remote()


def test_spread_work_takes_turns(pair: Pair):
    actors = [Holder.options(scheduling_strategy="SPREAD").remote() for _ in range(6)]

    nodes = Tally(ca.get([actor.node.remote() for actor in actors], timeout=30))

    assert nodes == {pair.left: 3, pair.right: 3}


def test_spread_calls_take_turns(pair: Pair):
    spread = where.options(scheduling_strategy="SPREAD", num_cpus=0)
    nodes = Tally(ca.get([spread.remote() for _ in range(4)], timeout=30))

    @ca.remote(scheduling_strategy="SPREAD", num_cpus=0)
    def here() -> str:
        return ca.get_runtime_context().get_node_id()

    assert nodes == {pair.left: 2, pair.right: 2}
    assert Tally(ca.get([here.remote() for _ in range(4)], timeout=30)) == nodes


def test_spread_work_goes_where_room_is(pair: Pair):
    chosen = NodeAffinitySchedulingStrategy(pair.left, soft=False)
    full = Holder.options(num_gpus=2, scheduling_strategy=chosen).remote()
    ca.get(full.node.remote(), timeout=20)

    spread = Holder.options(num_gpus=0.5, num_cpus=0.1, scheduling_strategy="SPREAD")
    nodes = ca.get([spread.remote().node.remote() for _ in range(2)], timeout=20)

    assert nodes == [pair.right] * 2
    ca.kill(full)


def test_the_very_devices_can_be_named(pair: Pair):
    chosen = NodeAffinitySchedulingStrategy(pair.left, soft=False)
    options: dict[str, Any] = {"scheduling_strategy": chosen, "num_cpus": 0.1}

    actor = Holder.options(gpu_ids=[1], **options).remote()
    assert ca.get(actor.given.remote(), timeout=20)["ids"] == [1]
    beside = Holder.options(gpu_ids=[0], num_gpus=0.5, **options).remote()
    assert ca.get(beside.given.remote(), timeout=20)["ids"] == [0]
    second = told.options(gpu_ids=[1], **options).remote()
    assert ca.wait([second], timeout=0.5)[0] == [], "it waits for the device that it named"
    ca.kill(actor)

    assert ca.get(second, timeout=20)["ids"] == [1]
    ca.kill(beside)
    with pytest.raises(ca.InsufficientResourcesError, match=r"devices \[7\] of the node"):
        told.options(gpu_ids=[7], **options).remote()


def test_a_device_type_chooses_the_node_that_has_it(pair: Pair):
    function = told.options(num_gpus=1, accelerator_type="H200")

    found = ca.get(function.remote(), timeout=20)

    assert found["node"] == pair.right
    assert found["resources"]["GPU"] == 1.0


def test_an_actor_whose_node_dies_gets_the_devices_of_another(pair: Pair):
    words = ("--num-gpus", "3", "--labels", "zone=far")
    with node_on(pair.server, *words, name="brief") as brief:
        chosen = NodeAffinitySchedulingStrategy(node_id("brief"), soft=True)
        options: dict[str, Any] = {
            "num_cpus": 0.1, "max_restarts": 1, "max_task_retries": -1,
            "scheduling_strategy": chosen,
        }  # fmt: skip
        actor = Holder.options(num_gpus=1, gpu_ids=None, **options).remote()
        assert ca.get(actor.node.remote(), timeout=20) == node_id("brief")
        pid = ca.get(actor.pid.remote(), timeout=20)

        brief.kill()
        wait_all_gone([pid], "its process has ended with it")
        found = ca.get(actor.given.remote(), timeout=30)

    assert found["node"] in (pair.left, pair.right)
    assert found["ids"] in ([0], [1])
    assert found["variable"] == str(found["ids"][0])
    ca.kill(actor)


def test_a_joining_node_takes_what_was_waiting(pair: Pair):
    waits: dict[str, Any] = {"label_selector": {"zone": "late"}, "wait_for_resources": True}
    refs = [where.options(**waits).remote() for _ in range(3)]
    assert ca.wait(refs, timeout=0.3)[0] == []

    with node_on(pair.server, "--labels", "zone=late", name="late"):
        assert ca.get(refs, timeout=20) == [node_id("late")] * 3
    _wait_gone("late")


def _wait_gone(name: str) -> None:
    wait_until(lambda: not any(n["NodeID"].startswith(name) for n in ca.nodes()), "it has left")
