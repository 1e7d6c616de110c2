from __future__ import annotations

import pynvml
import pytest

from tests.unit.gpu.nvml import fails


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests mean the same on machines with GPUs: they have none but those that a test installs."""
    monkeypatch.setattr(pynvml, "nvmlInit", fails(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
