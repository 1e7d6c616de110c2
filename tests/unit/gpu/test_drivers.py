from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from celery_actors.gpu import Device, found
from celery_actors.gpu.drivers import amd
from tests.unit.gpu.nvml import Gpu, fails, install

A, B, C = "GPU-aaaa1111", "GPU-aabb2222", "GPU-cccc3333"


def write_node(nodes: Path, number: int, *, banks: tuple[int, ...] = (), **values: int) -> None:
    (nodes / str(number)).mkdir(parents=True)
    lines = [f"{name} {value}\n" for name, value in values.items()]
    (nodes / str(number) / "properties").write_text("".join(lines))
    for bank, size in enumerate(banks):
        (nodes / str(number) / "mem_banks" / str(bank)).mkdir(parents=True)
        text = f"heap_type 1\nsize_in_bytes {size}\n"
        (nodes / str(number) / "mem_banks" / str(bank) / "properties").write_text(text)


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_UNKNOWN,
    ],
)
def test_a_driver_that_does_not_start_is_a_quiet_zero(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    code: int,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", fails(code))
    assert len(found({}, kfd=tmp_path)) == 0
    assert capfd.readouterr() == ("", "")


def test_a_driver_that_cannot_count_is_a_quiet_zero(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    noted = install(monkeypatch, Gpu(A))
    lost = fails(pynvml.NVML_ERROR_GPU_IS_LOST)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lost)
    assert len(found({}, kfd=tmp_path)) == 0
    assert noted == ["open", "closed"]


def test_the_driver_is_closed_again_and_may_fail_at_that(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = install(monkeypatch, Gpu(A))
    assert len(found({})) == 1
    assert noted == ["open", "closed"]
    monkeypatch.setattr(pynvml, "nvmlShutdown", fails(pynvml.NVML_ERROR_UNKNOWN))
    assert len(found({})) == 1


def test_the_driver_describes_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Gpu(A), Gpu(B, "NVIDIA H100 80GB HBM3", 80_000))
    devices = found({})
    assert devices.variable == "CUDA_VISIBLE_DEVICES"
    assert devices.devices == (Device(0, "A100", 40_000, A), Device(1, "H100", 80_000, B))


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_NO_PERMISSION])
def test_a_device_that_does_not_answer_is_left_out_and_the_others_keep_their_numbers(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    install(monkeypatch, Gpu(A), Gpu(B, error=code), Gpu(C))
    assert found({}).names([0, 1]) == [0, 2]
    assert found({"CUDA_VISIBLE_DEVICES": "2,1,0"}).names([0]) == ["2"]
    assert len(found({"CUDA_VISIBLE_DEVICES": "2,1,0"})) == 1


def test_memory_that_processor_and_gpu_share_is_no_memory_of_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, Gpu(A, "NVIDIA GB10", None))
    assert found({}).devices == (Device(0, "GB10", 0, A),)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("Tesla T4", "T4"),
        ("GRID A100-10C", "A100"),
        ("Quadro P4000", "P4000"),
        ("Quadro RTX 6000", "RTX-6000"),
        ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX-4070-Ti-SUPER"),
        ("NVIDIA TITAN V", "TITAN-V"),
        ("NVIDIA Graphics Device", ""),
        ("", ""),
    ],
)
def test_the_name_of_a_gpu_says_its_kind(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    install(monkeypatch, Gpu(A, name))
    assert found({}).kind == kind


def test_a_gpu_in_mig_mode_counts_as_its_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = (Gpu("MIG-1", memory=5_000), None, Gpu("MIG-2", memory=10_000))
    install(monkeypatch, Gpu(A, instances=instances), Gpu(B))
    assert found({}).devices == (
        Device("MIG-1", "A100", 5_000, "MIG-1"),
        Device("MIG-2", "A100", 10_000, "MIG-2"),
        Device(B, "A100", 40_000, B),
    )


def test_a_gpu_in_mig_mode_without_instances_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Gpu(A, instances=(None, None)), Gpu(B))
    assert found({}).names([0]) == [1]
    assert len(found({})) == 1


def test_the_kernel_describes_the_gpus_of_amd(tmp_path: Path) -> None:
    write_node(tmp_path, 0, cpu_cores_count=64, simd_count=0, device_id=0)
    write_node(
        tmp_path, 1, simd_count=1216, device_id=0x74A1, unique_id=0x0B8D_AE2D_5C4E_C1D8,
        banks=(150_000, 50_000),
    )  # fmt: skip
    for number in range(2, 11):
        write_node(tmp_path, number, simd_count=64, device_id=1)
    cards = amd(tmp_path)
    assert cards is not None
    devices = [part for card in cards for part in card.parts]
    uuid = "GPU-0b8dae2d5c4ec1d8"
    assert devices[0] == Device(0, "AMD-Instinct-MI300X-OAM", 200_000, uuid)
    assert devices[1:] == [Device(number) for number in range(1, 10)]


def test_nodes_are_numbered_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_node(tmp_path, 10, simd_count=64, device_id=0x740F)
    write_node(tmp_path, 9, simd_count=64, device_id=0x738C)
    kinds = [card.parts[0].kind for card in amd(tmp_path) or ()]
    assert kinds == ["AMD-Instinct-MI100", "AMD-Instinct-MI210"]


def test_a_node_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "1" / "properties").mkdir(parents=True)  # reading it fails, for root too
    write_node(tmp_path, 2, simd_count=64)
    assert [card.parts for card in amd(tmp_path) or ()] == [(Device(0),)]


def test_without_the_driver_of_amd_nobody_knows_its_gpus(tmp_path: Path) -> None:
    assert amd(tmp_path / "missing") is None
    assert amd(tmp_path) == []
