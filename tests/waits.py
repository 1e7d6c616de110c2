"""Waits for states: every folder of tests uses these, and none waits for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

__all__ = ["wait_empty", "wait_until"]

T = TypeVar("T")


def wait_until(state: Callable[[], T], what: str, seconds: float = 15.0) -> T:
    """Return what ``state`` returns as soon as that is true; fail after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = state()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"{seconds:g} s passed without this: {what}; the last look gave {found!r}")
        time.sleep(0.01)


def wait_empty(found: Callable[[], Any], what: str, seconds: float = 15.0) -> None:
    """Wait until ``found`` returns nothing; fail with what it still returns after the deadline."""
    deadline = time.monotonic() + seconds
    while left := found():
        if time.monotonic() > deadline:
            pytest.fail(f"{seconds:g} s passed without this: {what}; left: {left!r}")
        time.sleep(0.01)
