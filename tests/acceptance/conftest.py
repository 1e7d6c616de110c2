"""The commands as people run them: real processes, a real server."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.census import leaving_nothing
from tests.integration.gates import Gate
from tests.integration.support import Server, redis_server


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Every test here leaves the machine as it found it."""
    with leaving_nothing():
        yield


@pytest.fixture
def server() -> Iterator[Server]:
    """Debian's Redis on a Unix socket."""
    with redis_server() as found:
        yield found
        gc.collect()  # an AsyncResult that dies later would look for a store that is gone


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A gate at which a method waits for the test."""
    return Gate(tmp_path)
