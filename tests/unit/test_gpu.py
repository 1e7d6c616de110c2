from __future__ import annotations

from collections.abc import Callable

import pynvml
import pytest

from celery_actors import gpu


def raises(error: Exception) -> Callable[[], int]:
    def call() -> int:
        raise error

    return call


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", raises(pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)))
    assert gpu.detect({}) == 0


def test_a_driver_without_the_library_is_a_quiet_zero(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    monkeypatch.setattr(pynvml, "nvmlInit", raises(missing))
    assert gpu.detect({}) == 0
    assert capfd.readouterr() == ("", "")


def test_a_driver_that_cannot_count_is_a_quiet_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: closed.append(True))
    lost = pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", raises(lost))
    assert gpu.detect({}) == 0
    assert closed == [True]


def test_the_driver_counts_the_devices_and_is_closed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: closed.append(True))
    assert gpu.detect({}) == 3
    assert closed == [True]


@pytest.mark.parametrize(
    ("value", "count"), [("", 0), ("0", 1), ("2,3", 2), ("GPU-a1, GPU-b2", 2), ("-1", 0)]
)
def test_the_environment_says_which_devices_may_be_used(value: str, count: int) -> None:
    assert gpu.detect({gpu.VISIBLE_DEVICES: value}) == count


def test_devices_after_an_invalid_one_are_hidden_as_cuda_hides_them() -> None:
    assert gpu.detect({gpu.VISIBLE_DEVICES: "0,-1,1"}) == 1


def test_an_unset_environment_shows_every_device() -> None:
    assert gpu.visible({}) is None


def test_a_process_is_shown_exactly_its_devices() -> None:
    assert gpu.environment([1, 3], {}) == {gpu.VISIBLE_DEVICES: "1,3"}


def test_devices_keep_the_names_that_the_node_was_given() -> None:
    environ = {gpu.VISIBLE_DEVICES: "5,GPU-b2,7"}
    assert gpu.environment([1, 2], environ) == {gpu.VISIBLE_DEVICES: "GPU-b2,7"}


def test_a_process_without_devices_gets_no_variable() -> None:
    assert gpu.environment([], {}) == {}
