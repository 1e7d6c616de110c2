"""Placement groups: all bundles or none, on one node or several."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.exceptions import ActorPlacementGroupRemoved, TaskPlacementGroupRemoved
from celery_actors.util.placement_group import get_current_placement_group
from celery_actors.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from tests.integration.devices import Holder, told
from tests.integration.support import Server, join, node_on, redis_server, run_script, wait_until

pytestmark = pytest.mark.debian_redis


@pytest.fixture(scope="module")
def pair() -> Iterator[Server]:
    """Two nodes of two CPUs and two GPUs."""
    with (
        redis_server() as server,
        node_on(server, "--num-gpus", "2", name="left"),
        node_on(server, "--num-gpus", "2", "--labels", "zone=b", name="right"),
        join(server),
    ):
        yield server


@pytest.fixture(autouse=True)
def _all_free(pair: Server) -> Iterator[None]:
    """Each test gives back what it reserved."""
    yield
    for group in ca.placement_group_table().values():
        ca.remove_placement_group(ca.PlacementGroup(group["placement_group_id"], []))
    wait_until(lambda: ca.available_resources() == ca.cluster_resources(), "everything is free")


def inside(group: ca.PlacementGroup, index: int = -1, **more: Any) -> dict[str, Any]:
    strategy = PlacementGroupSchedulingStrategy(
        placement_group=group, placement_group_bundle_index=index, **more
    )
    return {"scheduling_strategy": strategy}


def nodes_of(group: ca.PlacementGroup) -> list[str]:
    found = ca.placement_group_table(group)["bundles_to_node_id"]
    return [found[index].split("-")[0] for index in range(group.bundle_count)]


def state_of(group: ca.PlacementGroup) -> str:
    return str(ca.placement_group_table(group)["state"])


@pytest.mark.parametrize(
    ("strategy", "bundles", "different"),
    [
        ("PACK", [{"CPU": 1}, {"CPU": 1}], 1),
        ("STRICT_PACK", [{"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}], 1),
        ("SPREAD", [{"CPU": 1}, {"CPU": 1}], 2),
        ("STRICT_SPREAD", [{"GPU": 0.5}, {"GPU": 0.5}], 2),
    ],
)
def test_bundles_lie_as_the_strategy_says(
    pair: Server, strategy: Any, bundles: list[dict[str, float]], different: int
):
    group = ca.placement_group(bundles, strategy=strategy)

    assert ca.get(group.ready(), timeout=20) == group
    assert len(set(nodes_of(group))) == different
    assert state_of(group) == "CREATED"
    assert group.bundle_specs == bundles


def test_a_bundle_gives_its_devices_to_those_inside_only(pair: Server):
    group = ca.placement_group([{"GPU": 2, "CPU": 1}], strategy="PACK")
    ca.get(group.ready(), timeout=20)
    options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0.5}
    actors = [Holder.options(**options, **inside(group, 0)).remote() for _ in range(2)]

    found = ca.get([actor.given.remote() for actor in actors], timeout=20)

    assert sorted(each["ids"] for each in found) == [[0], [1]]
    assert len({each["node"] for each in found}) == 1
    third = Holder.options(**options, **inside(group)).remote()
    assert ca.wait([third.given.remote()], timeout=0.5)[0] == [], "its group is full"
    ca.kill(actors[0])
    assert ca.get(third.given.remote(), timeout=20)["ids"] == found[0]["ids"]


def test_what_a_bundle_could_never_hold_is_refused(pair: Server):
    group = ca.placement_group([{"CPU": 1}, {"GPU": 1}])

    with pytest.raises(ValueError, match="needs 2 CPUs, which is more than bundle 0"):
        Holder.options(num_cpus=2, **inside(group, 0)).remote()
    with pytest.raises(ValueError, match="more than any bundle"):
        told.options(num_cpus=1, num_gpus=1, **inside(group)).remote()
    with pytest.raises(ValueError, match="has 2 bundles"):
        inside(group, 2)


def test_nothing_is_held_for_a_group_that_does_not_fit(pair: Server):
    first = ca.placement_group([{"GPU": 2}])
    assert first.wait(20)
    second = ca.placement_group([{"GPU": 2}, {"GPU": 1}], strategy="STRICT_SPREAD")

    assert not second.wait(0.5)
    assert state_of(second) == "PENDING"
    free = ca.get(told.options(num_gpus=2, num_cpus=0.1).remote(), timeout=20)
    assert free["ids"] == [0, 1], "the other node's devices are there for others"
    ca.remove_placement_group(first)
    assert second.wait(20)


def test_two_groups_that_each_need_both_nodes_come_one_after_the_other(pair: Server):
    groups = [
        ca.placement_group([{"GPU": 2}, {"GPU": 2}], strategy="STRICT_SPREAD") for _ in range(4)
    ]

    for _ in groups:
        wait_until(lambda: any(state_of(g) == "CREATED" for g in groups), "one has its place")
        (placed,) = [group for group in groups if state_of(group) == "CREATED"]
        assert sorted(nodes_of(placed)) == ["left", "right"]
        groups.remove(placed)
        ca.remove_placement_group(placed)


def test_a_removed_group_ends_what_runs_in_it_and_refuses_what_waits(pair: Server):
    group = ca.placement_group([{"CPU": 1}])
    actor = Holder.options(num_cpus=1, **inside(group, 0)).remote()
    ca.get(actor.pid.remote(), timeout=20)
    waiting = told.options(num_cpus=1, **inside(group, 0)).remote()
    behind = Holder.options(num_cpus=1, **inside(group, 0)).remote()

    ca.remove_placement_group(group)

    with pytest.raises(TaskPlacementGroupRemoved, match="was removed"):
        ca.get(waiting, timeout=20)
    with pytest.raises(ActorPlacementGroupRemoved, match="was removed") as raised:
        ca.get(behind.pid.remote(), timeout=20)
    assert isinstance(raised.value, ca.ActorDiedError), "as for Ray's programs"
    wait_until(lambda: _dead(actor), "the actor has ended, too")
    assert state_of(group) == "REMOVED"
    with pytest.raises(TaskPlacementGroupRemoved):
        ca.get(group.ready(), timeout=20)


def _dead(actor: Any) -> bool:
    try:
        ca.get(actor.pid.remote(), timeout=10)
    except ActorPlacementGroupRemoved:
        return True
    return False


def test_a_group_is_found_by_its_name_and_from_inside(pair: Server):
    group = ca.placement_group([{"CPU": 1}], name="found")

    @ca.remote(num_cpus=0)
    def inner() -> Any:
        return get_current_placement_group()

    @ca.remote(num_cpus=0)
    def outer() -> Any:
        return get_current_placement_group(), ca.get(inner.remote())

    assert ca.get_placement_group("found") == group
    assert ca.get(outer.options(**inside(group)).remote(), timeout=20) == (group, None)
    captured = inside(group, placement_group_capture_child_tasks=True)
    assert ca.get(outer.options(**captured).remote(), timeout=20) == (group, group)
    assert get_current_placement_group() is None
    with pytest.raises(ValueError, match="exists"):
        ca.placement_group([{"CPU": 1}], name="found")
    with pytest.raises(ValueError, match="no placement group named 'lost'"):
        ca.get_placement_group("lost")


def test_labels_choose_the_node_of_a_bundle(pair: Server):
    group = ca.placement_group(
        [{"CPU": 1}, {"CPU": 1}], bundle_label_selector=[{"zone": "b"}, {"zone": "!b"}]
    )

    assert group.wait(20)
    assert nodes_of(group) == ["right", "left"]


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (([],), ValueError, "at least one bundle"),
        (("CPU",), TypeError, "a list of mappings"),
        (([{"CPU": 0}],), ValueError, "reserves nothing"),
        (([{"CPU": -1}],), ValueError, "must not be negative"),
        (([{"GPU": 1.5}],), ValueError, "must be whole"),
        (([{"CPU": 1}], "TIGHT"), ValueError, "must be one of"),
        (([{"CPU": 1}], "PACK", "", "for ever"), ValueError, "lifetime must be"),
    ],
)
def test_an_impossible_group_is_refused(
    pair: Server, words: tuple[Any, ...], error: type[Exception], said: str
):
    with pytest.raises(error, match=said):
        ca.placement_group(*words)


def test_a_lost_node_s_bundle_finds_another_place(pair: Server):
    with node_on(pair, "--num-gpus", "3", name="brief") as brief:
        group = ca.placement_group([{"GPU": 1}, {"GPU": 1}, {"GPU": 1}], strategy="STRICT_SPREAD")
        assert group.wait(20)
        before = nodes_of(group)
        actor = Holder.options(
            num_gpus=1, num_cpus=0, max_restarts=1, max_task_retries=-1,
            **inside(group, before.index("brief")),
        ).remote()  # fmt: skip
        assert ca.get(actor.node.remote(), timeout=20).startswith("brief")
        brief.kill()
        wait_until(lambda: state_of(group) == "RESCHEDULING", "the loss is seen")
        with node_on(pair, "--num-gpus", "1", name="again"):
            wait_until(lambda: state_of(group) == "CREATED", "it is whole again")
            after = nodes_of(group)
            assert [node if node != "brief" else "again" for node in before] == after
            assert ca.get(actor.node.remote(), timeout=20).startswith("again")
            ca.remove_placement_group(group)


def test_a_group_ends_with_its_driver_unless_it_is_detached(pair: Server, tmp_path: Any):
    text = (
        "import celery_actors as ca\n"
        f"ca.init({pair.url!r}, keys={pair.key!r})\n"
        "ca.placement_group([{'CPU': 1}], name='mine').wait(20)\n"
        "ca.placement_group([{'CPU': 1}], name='stays', lifetime='detached').wait(20)\n"
        "print(len(ca.placement_group_table()))\n"
    )

    run = run_script(tmp_path, text)

    assert run.stdout.split() == ["2"], run.stderr
    wait_until(lambda: len(ca.placement_group_table()) == 1, "one is left")
    assert ca.get_placement_group("stays").wait(20)


def test_the_groups_of_a_detached_actor_end_with_it(pair: Server, tmp_path: Any):
    text = (
        "import celery_actors as ca\n"
        "@ca.remote\n"
        "class Maker:\n"
        "    def make(self, name):\n"
        "        return ca.placement_group([{'CPU': 1}], name=name).wait(20)\n"
        f"ca.init({pair.url!r}, keys={pair.key!r}, namespace='makers')\n"
        "maker = Maker.options(name='maker', lifetime='detached').remote()\n"
        "print(ca.get(maker.make.remote('before')))\n"
    )

    run = run_script(tmp_path, text)

    assert run.stdout.split() == ["True"], run.stderr
    maker = ca.get_actor("maker", namespace="makers")
    with pair.client() as client:
        wait_until(lambda: client.zcard("ca:sessions") == 1, "its driver's session is over")
    assert ca.get(maker.make.remote("after"), timeout=20)
    assert {group["name"] for group in ca.placement_group_table().values()} == {"before", "after"}
    ca.kill(maker)
    wait_until(lambda: not ca.placement_group_table(), "its groups have ended")


def test_single_requests_do_not_starve_a_group(pair: Server):
    ends = time.monotonic() + 60
    running = [told.options(num_gpus=1, num_cpus=0.1).remote() for _ in range(8)]
    group = ca.placement_group([{"GPU": 2}, {"GPU": 2}], strategy="STRICT_SPREAD")
    ready = group.ready()
    while not ca.wait([ready], timeout=0)[0]:
        assert time.monotonic() < ends, "the group waits for ever"
        _, running = ca.wait(running, num_returns=1, timeout=10)
        running.append(told.options(num_gpus=1, num_cpus=0.1).remote())
    ca.remove_placement_group(group)
    ca.get(running, timeout=60)
