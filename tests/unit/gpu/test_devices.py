from __future__ import annotations

import pytest

from celery_actors.gpu import Device, Devices

PLAIN = Devices(devices=(Device(0, "H100"), Device(1, "H100"), Device(2, "H100")))
PRESET = Devices(devices=(Device("5"), Device("GPU-b2"), Device("7")))
ROCM = Devices("HIP_VISIBLE_DEVICES", (Device(0), Device(1)))


def test_a_process_is_shown_exactly_its_devices() -> None:
    assert PLAIN.environment([0, 2], {}) == {"CUDA_VISIBLE_DEVICES": "0,2"}
    assert ROCM.environment([1], {}) == {"HIP_VISIBLE_DEVICES": "1"}


def test_devices_keep_the_names_that_the_node_was_given() -> None:
    assert PRESET.names([1, 2]) == ["GPU-b2", "7"]
    assert PRESET.environment([1, 2], {}) == {"CUDA_VISIBLE_DEVICES": "GPU-b2,7"}


def test_devices_without_given_names_are_numbers() -> None:
    assert PLAIN.names([2, 0]) == [2, 0]


def test_a_device_that_the_node_lacks_is_an_error() -> None:
    with pytest.raises(IndexError):
        PLAIN.names([3])


def test_a_process_without_devices_gets_no_variable() -> None:
    assert PLAIN.environment([], {}) == {}


@pytest.mark.parametrize(("value", "shown"), [("1", {"HIP_VISIBLE_DEVICES": ""}), ("0", {})])
def test_all_devices_are_hidden_from_a_process_without_any_where_that_is_wanted(
    value: str, shown: dict[str, str]
) -> None:
    environ = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": value}
    assert ROCM.environment([], environ) == shown
    assert ROCM.environment([0], environ) == {"HIP_VISIBLE_DEVICES": "0"}


@pytest.mark.parametrize("value", ["1", "true", "True"])
@pytest.mark.parametrize(
    "name",
    ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "CELERY_ACTORS_NOSET_VISIBLE_DEVICES"],
)
def test_no_variable_is_set_where_the_choice_is_left_to_user_code(name: str, value: str) -> None:
    environ = {name: value, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
    assert PLAIN.environment([0], environ) == {}
    assert PLAIN.environment([], environ) == {}


def test_a_switch_that_says_no_or_means_another_vendor_changes_nothing() -> None:
    environ = {
        "CELERY_ACTORS_NOSET_VISIBLE_DEVICES": "0",
        "RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES": "1",
    }
    assert PLAIN.environment([0], environ) == {"CUDA_VISIBLE_DEVICES": "0"}
    assert ROCM.environment([0], environ) == {}


def test_the_kind_is_the_one_that_all_devices_share() -> None:
    assert PLAIN.kind == "H100"
    assert Devices(devices=(Device(0, "H100"), Device(1, "A100"))).kind == ""
    assert Devices(devices=(Device(0, "H100"), Device(1))).kind == ""
    assert Devices().kind == ""


def test_the_length_is_the_number_of_devices() -> None:
    assert (len(PLAIN), len(Devices())) == (3, 0)
