"""The commands as people run them: real processes, a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.census import leaving_nothing
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
