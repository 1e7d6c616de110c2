"""A machine's GPUs as NVML would describe them: this one library is not there in tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NoReturn

import pynvml
import pytest


@dataclass(frozen=True)
class Gpu:
    uuid: str
    name: str = "NVIDIA A100-SXM4-40GB"
    memory: int | None = 40_000  # None: shared with the processor, which NVML does not support
    instances: Sequence[Gpu | None] | None = None  # None: MIG is off; in it, None: an empty place
    error: int = 0  # that which every question about it meets


def fails(code: int) -> Callable[..., NoReturn]:
    def call(*_: object) -> NoReturn:
        raise pynvml.NVMLError(code)

    return call


def install(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu) -> list[str]:
    """Let pynvml describe these; return where its start and its end are noted."""
    noted: list[str] = []

    def by_index(index: int) -> Gpu:
        if gpus[index].error:
            raise pynvml.NVMLError(gpus[index].error)
        return gpus[index]

    def memory(gpu: Gpu) -> SimpleNamespace:
        if gpu.memory is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(total=gpu.memory)

    def mig_mode(gpu: Gpu) -> list[int]:
        if "A100" not in gpu.name:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(gpu.instances is not None)] * 2

    def instance(gpu: Gpu, place: int) -> Gpu:
        found = (gpu.instances or ())[place]
        if found is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found

    for name, call in {
        "nvmlInit": lambda: noted.append("open"),
        "nvmlShutdown": lambda: noted.append("closed"),
        "nvmlDeviceGetCount": lambda: len(gpus),
        "nvmlDeviceGetHandleByIndex": by_index,
        "nvmlDeviceGetName": lambda gpu: gpu.name,
        "nvmlDeviceGetUUID": lambda gpu: gpu.uuid,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetMigMode": mig_mode,
        "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: len(gpu.instances),
        "nvmlDeviceGetMigDeviceHandleByIndex": instance,
    }.items():
        monkeypatch.setattr(pynvml, name, call)
    return noted
