"""GPUs that are there: what is found, what a process sees of them, and what it leaves behind.

All of it is asked of the driver, through NVML and CUDA; PyTorch is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pynvml
import pytest

import celery_actors as ca
from celery_actors import gpu
from celery_actors.gpu import Device
from tests.integration.actors import pass_gate
from tests.integration.cuda import Cuda
from tests.integration.gates import Gate
from tests.integration.support import is_alive, wait_until

MIB = 1 << 20
BLOCK_MIB = 256  # a process's own context takes 200 to 600 more


@dataclass(frozen=True)
class Listed:
    """What NVML says of a device, or of an instance of one in MIG mode."""

    uuid: str
    name: str
    memory: int


def listed() -> tuple[list[Listed], str]:
    """Return what NVML lists, or nothing and why."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return [], f"NVML: {error}"
    try:
        numbers = range(pynvml.nvmlDeviceGetCount())
        handles = [part for n in numbers for part in _parts(pynvml.nvmlDeviceGetHandleByIndex(n))]
        found = [
            Listed(
                pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle), _total(handle)
            )
            for handle in handles
        ]
        return found, "" if found else "NVML lists none"
    finally:
        pynvml.nvmlShutdown()


def _parts(handle: Any) -> list[Any]:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError_NotSupported:
        current = pynvml.NVML_DEVICE_MIG_DISABLE
    if current == pynvml.NVML_DEVICE_MIG_DISABLE:
        return [handle]
    found = []
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))
        except pynvml.NVMLError_NotFound:
            continue
    return found


def _total(handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError_NotSupported:  # shared with the processor
        return 0


THERE, WHY_NOT = listed()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not THERE, reason=f"needs an NVIDIA GPU, and here is none ({WHY_NOT})"),
]


def used_mib(uuid: str) -> int:
    """Return how much memory of a device all processes use together."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used) // MIB
    except pynvml.NVMLError_NotSupported:
        pytest.skip("needs an NVIDIA GPU with memory of its own, and this one shares the machine's")
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True)
class Seen:
    """What a process was given, and what it sees."""

    pid: int
    gpu_ids: list[int | str]
    visible: str | None
    uuids: list[str]  # of CUDA, without "GPU-"


def look() -> Seen:
    return Seen(
        os.getpid(), ca.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES"), Cuda().uuids()
    )


@ca.remote
def seen_by_a_task() -> Seen:
    return look()


@ca.remote
def fill(gate: str) -> Seen:
    """Take memory of the device and hold it at a gate."""
    Cuda().allocate(BLOCK_MIB * MIB)
    pass_gate(gate)
    return look()


@ca.remote
class Looker:
    def look(self) -> Seen:
        return look()

    def fill(self) -> None:
        self.cuda = Cuda()
        self.cuda.allocate(BLOCK_MIB * MIB)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> tuple[Device, ...]:
    """The devices that this process may use; a preset CUDA_VISIBLE_DEVICES counts."""
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # CUDA's numbers are NVML's
    found = gpu.found().devices
    if not found:
        pytest.skip("needs an NVIDIA GPU, and CUDA_VISIBLE_DEVICES hides those that are here")
    return found


@pytest.fixture
def start(devices: tuple[Device, ...]) -> Iterator[Callable[..., None]]:
    """Start a cluster on this machine's devices; more of them can be asked for."""

    def begin(**options: Any) -> None:
        # A test looks for devices: processors must not be what it waits for.
        ca.init(num_cpus=16, **options)

    yield begin
    ca.shutdown()


def assert_shown_alone(seen: Seen, device: Device) -> None:
    assert seen.gpu_ids == [device.name]
    assert seen.visible == str(device.name)
    assert [device.uuid.partition("-")[2]] == seen.uuids


def free_again(uuid: str, before: int) -> Callable[[], bool]:
    # Other programs may use the device: their little things are no leak of ours.
    return lambda: used_mib(uuid) < before + BLOCK_MIB // 2


def test_the_devices_that_are_found_are_those_that_nvml_lists():
    found = gpu.found({})

    assert found.variable == "CUDA_VISIBLE_DEVICES"
    assert [(device.uuid, device.memory) for device in found.devices] == [
        (there.uuid, there.memory) for there in THERE
    ]
    for device, there in zip(found.devices, THERE, strict=True):
        assert device.kind, f"{there.name!r} has a kind"
        assert device.kind.replace("-", " ") in there.name


def test_a_node_offers_the_devices_that_are_there(
    start: Callable[..., None], devices: tuple[Device, ...]
):
    start()

    resources = ca.cluster_resources()
    assert resources["GPU"] == len(devices)
    for kind in {device.kind for device in devices}:
        assert resources[f"accelerator_type:{kind}"] == 1
    (node,) = ca.nodes()
    assert [device["type"] for device in node["Devices"]] == [device.kind for device in devices]


def test_a_task_sees_exactly_its_device(start: Callable[..., None], devices: tuple[Device, ...]):
    start()

    seen = ca.get(seen_by_a_task.options(num_gpus=1, num_cpus=0).remote(), timeout=60)

    assert_shown_alone(seen, devices[0])


def test_each_of_several_actors_sees_its_own_device(
    start: Callable[..., None], devices: tuple[Device, ...]
):
    start()
    actors = [Looker.options(num_gpus=1, num_cpus=0).remote() for _ in devices]

    seen = ca.get([actor.look.remote() for actor in actors], timeout=60)

    by_name = {device.name: device for device in devices}
    assert {each.gpu_ids[0] for each in seen} == set(by_name)
    for each in seen:
        assert_shown_alone(each, by_name[each.gpu_ids[0]])


def test_a_device_that_was_made_up_shows_no_gpu(
    start: Callable[..., None], devices: tuple[Device, ...]
):
    start(num_gpus=len(devices) + 1)
    actors = [Looker.options(num_gpus=1, num_cpus=0).remote() for _ in range(len(devices) + 1)]

    seen = ca.get([actor.look.remote() for actor in actors], timeout=60)

    real = {device.name for device in devices}
    (without,) = [each for each in seen if each.gpu_ids[0] not in real]
    assert without.visible == str(without.gpu_ids[0])
    assert without.uuids == []


def test_two_halves_share_the_first_device(start: Callable[..., None], devices: tuple[Device, ...]):
    start()
    device = devices[0]
    before = used_mib(device.uuid)
    actors = [Looker.options(num_gpus=0.5, num_cpus=0).remote() for _ in range(2)]

    ca.get([actor.fill.remote() for actor in actors], timeout=60)
    seen = ca.get([actor.look.remote() for actor in actors], timeout=60)

    assert seen[0].pid != seen[1].pid
    for each in seen:
        assert_shown_alone(each, device)
    assert used_mib(device.uuid) >= before + 2 * BLOCK_MIB
    for actor in actors:
        ca.kill(actor)
    wait_until(free_again(device.uuid, before), "the memory of both actors is free", 30)


def test_the_memory_of_a_task_is_free_after_it(
    start: Callable[..., None], devices: tuple[Device, ...], gate: Gate
):
    start()
    device = devices[0]
    before = used_mib(device.uuid)

    filled = fill.options(num_gpus=1, num_cpus=0).remote(gate.path)
    pid = gate.wait_reached()
    during = used_mib(device.uuid)
    gate.open()

    assert_shown_alone(ca.get(filled, timeout=60), device)
    assert during >= before + BLOCK_MIB
    wait_until(lambda: not is_alive(pid), "the process of the task has ended")
    wait_until(free_again(device.uuid, before), "the memory of the task is free", 30)
    again = ca.get(seen_by_a_task.options(num_gpus=1, num_cpus=0).remote(), timeout=60)
    assert again.pid != pid


def test_a_device_that_was_preset_by_its_uuid_keeps_that_name(
    start: Callable[..., None], devices: tuple[Device, ...], monkeypatch: pytest.MonkeyPatch
):
    last = devices[-1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", last.uuid)
    start()
    assert ca.cluster_resources()["GPU"] == 1

    actor = Looker.options(num_gpus=1, num_cpus=0).remote()
    seen = ca.get(actor.look.remote(), timeout=60)

    assert seen.gpu_ids == [last.uuid]
    assert seen.visible == last.uuid
    assert [last.uuid.partition("-")[2]] == seen.uuids
