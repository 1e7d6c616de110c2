"""The commands as people run them: real processes, a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.support import Server, redis_server


@pytest.fixture
def server() -> Iterator[Server]:
    """Debian's Redis on a Unix socket."""
    with redis_server() as found:
        yield found
