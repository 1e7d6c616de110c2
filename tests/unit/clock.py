"""A clock that goes when it is told to."""

from __future__ import annotations

from types import ModuleType

import pytest


class Clock:
    """Stands for ``time`` in one module."""

    def __init__(self) -> None:
        self.now = 100.0

    @classmethod
    def of(cls, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> Clock:
        found = cls()
        monkeypatch.setattr(module, "time", found)
        return found

    def monotonic(self) -> float:
        return self.now
