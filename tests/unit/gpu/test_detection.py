from __future__ import annotations

from pathlib import Path

import pytest

from celery_actors.errors import ConfigurationError
from celery_actors.gpu import Device, Devices, found, logical
from tests.unit.gpu.nvml import Gpu, install

A, B, C = "GPU-aaaa1111", "GPU-aabb2222", "GPU-cccc3333"
MISSING = Path("/nowhere")


def cuda(value: str) -> Devices:
    return found({"CUDA_VISIBLE_DEVICES": value}, kfd=MISSING)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Gpu(A), Gpu(B), Gpu(C))


def names(devices: Devices) -> list[int | str]:
    return [device.name for device in devices.devices]


def kfd(folder: Path, gpus: int) -> Path:
    for number in range(gpus):
        (folder / str(number)).mkdir()
        (folder / str(number) / "properties").write_text(f"simd_count 64\nunique_id {number + 1}\n")
    return folder


def test_without_drivers_there_are_no_devices() -> None:
    assert found({}, kfd=MISSING) == Devices("CUDA_VISIBLE_DEVICES", ())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", []),
        ("0", ["0"]),
        ("2,3", ["2", "3"]),
        ("GPU-a1, GPU-b2", ["GPU-a1", "GPU-b2"]),
        ("uuid1,uuid2", ["uuid1", "uuid2"]),
        ("MIG-a1,MIG-b2", ["MIG-a1", "MIG-b2"]),
        ("5,GPU-b2,7", ["5", "GPU-b2", "7"]),
        ("-1", []),
        ("0,-1,1", ["0"]),
        ("0,,1", ["0"]),
        ("0,1,0", []),
        ("NoDevFiles", []),
    ],
)
def test_where_no_driver_answers_the_entries_of_the_environment_count(
    value: str, shown: list[int | str]
) -> None:
    assert names(cuda(value)) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", []),
        ("2,0", ["2", "0"]),
        (" 1 , 2 ", ["1", "2"]),
        ("0,2,-1,1", ["0", "2"]),
        ("1,3,0", ["1"]),
        ("3", []),
        ("one,0", []),
        (f"{C},{A}", [C, A]),
        ("GPU-aab,GPU-c", ["GPU-aab", "GPU-c"]),
        ("GPU-c,GPU-aa,GPU-aab", ["GPU-c"]),
        ("GPU-dddd,0", []),
        ("MIG-1", []),
        ("NoDevFiles", []),
    ],
)
def test_entries_are_valid_as_cuda_reads_them(
    three: None, value: str, shown: list[int | str]
) -> None:
    assert names(cuda(value)) == shown


@pytest.mark.parametrize("value", ["0,1,0", f"0,1,{A}", "GPU-c,GPU-cc"])
def test_a_device_that_is_named_twice_hides_all(three: None, value: str) -> None:
    assert len(cuda(value)) == 0


def test_a_named_device_is_described_as_the_one_that_it_is(three: None) -> None:
    assert cuda("2,GPU-aab").devices == (
        Device("2", "A100", 40_000, C),
        Device("GPU-aab", "A100", 40_000, B),
    )


def test_a_mig_instance_is_found_by_its_uuid_or_as_the_first_of_its_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instances = (Gpu("MIG-11", memory=5_000), Gpu("MIG-22", memory=10_000))
    install(monkeypatch, Gpu(A, instances=instances), Gpu(B))
    assert cuda("MIG-22,MIG-1").devices == (
        Device("MIG-22", "A100", 10_000, "MIG-22"),
        Device("MIG-1", "A100", 5_000, "MIG-11"),
    )
    assert cuda("0,1").devices == (
        Device("0", "A100", 5_000, "MIG-11"),
        Device("1", "A100", 40_000, B),
    )
    assert cuda("GPU-aaa").devices == (Device("GPU-aaa", "A100", 5_000, "MIG-11"),)


def test_devices_of_nvidia_come_before_those_of_amd(three: None, tmp_path: Path) -> None:
    assert found({}, kfd=kfd(tmp_path, 2)).variable == "CUDA_VISIBLE_DEVICES"
    hidden = found({"CUDA_VISIBLE_DEVICES": ""}, kfd=tmp_path)
    assert (hidden.variable, len(hidden)) == ("HIP_VISIBLE_DEVICES", 2)


@pytest.mark.parametrize(
    ("environ", "variable", "shown"),
    [
        ({}, "HIP_VISIBLE_DEVICES", [0, 1, 2]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, "HIP_VISIBLE_DEVICES", ["2", "0"]),
        ({"ROCR_VISIBLE_DEVICES": "2,0"}, "ROCR_VISIBLE_DEVICES", ["2", "0"]),
        (
            {"ROCR_VISIBLE_DEVICES": "0,GPU-0000000000000003"},
            "ROCR_VISIBLE_DEVICES",
            ["0", "GPU-0000000000000003"],
        ),
        ({"HIP_VISIBLE_DEVICES": "1,-1,0"}, "HIP_VISIBLE_DEVICES", ["1"]),
    ],
)
def test_devices_of_amd_are_shown_by_the_variable_that_is_preset(
    tmp_path: Path, environ: dict[str, str], variable: str, shown: list[int | str]
) -> None:
    devices = found(environ, kfd=kfd(tmp_path, 3))
    assert (devices.variable, names(devices)) == (variable, shown)


@pytest.mark.parametrize("readable", [True, False])
def test_hip_counts_from_what_rocr_shows(tmp_path: Path, readable: bool) -> None:
    environ = {"ROCR_VISIBLE_DEVICES": "2,0", "HIP_VISIBLE_DEVICES": "1,2"}
    devices = found(environ, kfd=kfd(tmp_path, 3) if readable else MISSING)
    assert (devices.variable, names(devices)) == ("HIP_VISIBLE_DEVICES", ["1"])
    assert devices.devices[0].uuid == ("GPU-0000000000000001" if readable else "")


def test_a_uuid_may_be_in_upper_case(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Gpu("GPU-abcd"))
    assert names(cuda("GPU-ABCD")) == ["GPU-ABCD"]


def test_another_vendor_is_named_by_its_variable(three: None) -> None:
    environ = {
        "CELERY_ACTORS_VISIBLE_DEVICES_VARIABLE": "ASCEND_RT_VISIBLE_DEVICES",
        "ASCEND_RT_VISIBLE_DEVICES": "4,5",
    }
    assert found(environ) == Devices("ASCEND_RT_VISIBLE_DEVICES", (Device("4"), Device("5")))
    del environ["ASCEND_RT_VISIBLE_DEVICES"]
    assert found(environ) == Devices("ASCEND_RT_VISIBLE_DEVICES")
    assert names(logical(2, environ)) == [0, 1]


def test_logical_devices_are_numbered_on_a_machine_without_any() -> None:
    assert names(logical(2, {}, kfd=MISSING)) == [0, 1]
    assert logical(0, {}, kfd=MISSING) == Devices()


def test_logical_devices_are_the_first_ones_found(three: None) -> None:
    assert logical(2, {}).devices == found({}).devices[:2]
    assert names(logical(2, {"CUDA_VISIBLE_DEVICES": "2,1,0"})) == ["2", "1"]


def test_logical_devices_beyond_those_found_are_numbered_on(three: None) -> None:
    assert names(logical(5, {})) == [0, 1, 2, 3, 4]
    assert logical(5, {}).devices[3:] == (Device(3), Device(4))


@pytest.mark.parametrize("value", ["1", "", "-1"])
def test_a_device_that_the_environment_hides_is_not_made_up(three: None, value: str) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": value}
    shown = len(found(environ))
    assert len(logical(shown, environ)) == shown
    with pytest.raises(ConfigurationError, match=f"CUDA_VISIBLE_DEVICES='{value}' shows {shown}"):
        logical(shown + 1, environ)


def test_logical_devices_keep_the_names_of_the_environment() -> None:
    assert names(logical(2, {"CUDA_VISIBLE_DEVICES": "5,7"}, kfd=MISSING)) == ["5", "7"]


def test_no_two_logical_devices_have_the_same_name() -> None:
    assert names(logical(3, {"CUDA_VISIBLE_DEVICES": "1"}, kfd=MISSING)) == ["1", 2, 3]
