"""Work that cannot run yet holds nothing, and nobody waits for ever behind others."""

from __future__ import annotations

from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import pass_gate
from tests.integration.devices import Holder, told
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until

LIGHT: dict[str, Any] = {"num_cpus": 0.1}


@ca.remote(num_gpus=4, **LIGHT)
def make(number: int) -> int:
    return number


@ca.remote(num_gpus=4, **LIGHT)
def use(number: int) -> tuple[int, list[int]]:
    return number, [int(device) for device in ca.get_gpu_ids()]


@ca.remote
def later(path: str) -> int:
    pass_gate(path)
    return ca.get(make.remote(7))


@ca.remote(num_gpus=4, **LIGHT)
class Model:
    def __init__(self, number: int) -> None:
        self.number = number

    def get(self) -> tuple[int, list[int]]:
        return self.number, [int(device) for device in ca.get_gpu_ids()]


def test_a_call_whose_argument_needs_the_same_devices_does_not_hold_them(
    with_gpus: Cluster, gate: Gate
):
    argument = later.remote(gate.path)
    found = use.remote(argument)
    gate.wait_reached()
    with with_gpus.client() as client:
        queue = "ca.tasks.cpu0.1-gpu4"
        wait_until(lambda: client.llen(queue) == 0, "a worker has the call that waits")
    gate.open()

    assert ca.get(found, timeout=30) == (7, [0, 1, 2, 3])


def test_an_actor_whose_argument_needs_the_same_devices_does_not_hold_them(
    with_gpus: Cluster, gate: Gate
):
    argument = later.remote(gate.path)
    model = Model.remote(argument)
    gate.wait_reached()
    gate.open()

    assert ca.get(model.get.remote(), timeout=30) == (7, [0, 1, 2, 3])
    ca.kill(model)


def test_devices_are_free_for_others_while_a_call_waits_for_its_argument(
    with_gpus: Cluster, gate: Gate
):
    found = use.remote(later.remote(gate.path))
    gate.wait_reached()

    others = [told.options(num_gpus=4, **LIGHT).remote() for _ in range(3)]

    assert [each["ids"] for each in ca.get(others, timeout=30)] == [[0, 1, 2, 3]] * 3
    gate.open()
    assert ca.get(found, timeout=30) == (7, [0, 1, 2, 3])


@ca.remote(num_gpus=0.5, num_cpus=0.1)
class Member:
    """One of a group that meets in its constructors, as distributed training does."""

    def __init__(self, meeting: Any, size: int) -> None:
        ca.get(meeting.arrive.remote())
        while ca.get(meeting.arrived.remote()) < size:
            pass

    def met(self) -> bool:
        return True


@ca.remote
class Meeting:
    def __init__(self) -> None:
        self.count = 0

    def arrive(self) -> None:
        self.count += 1

    def arrived(self) -> int:
        return self.count


def test_any_number_of_actors_can_meet_in_their_constructors(with_gpus: Cluster):
    meeting = Meeting.remote()
    members = [Member.remote(meeting, 6) for _ in range(6)]

    assert ca.get([member.met.remote() for member in members], timeout=60) == [True] * 6
    for member in members:
        ca.kill(member)


@ca.remote
def one() -> int:
    return 1


@ca.remote(num_cpus=4)
def wide() -> int:
    return 4


@pytest.mark.parametrize("kind", ["wide calls", "small actors"])
def test_a_plain_call_runs_though_others_keep_coming(with_gpus: Cluster, kind: str):
    def another() -> Any:
        return wide.remote() if kind == "wide calls" else Holder.remote().pid.remote()

    running = [another() for _ in range(8)]
    wanted = one.remote() if kind == "wide calls" else told.options(num_gpus=1, **LIGHT).remote()
    rounds = 0
    while not ca.wait([wanted], timeout=0)[0]:
        rounds += 1
        assert rounds < 400, "it waits for ever"
        _, running = ca.wait(running, num_returns=1, timeout=30)
        running.append(another())
    ca.get(running, timeout=60)
