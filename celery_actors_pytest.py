"""The pytest plug-in of celery_actors: fixtures that give a test a cluster.

A module of its own, so that pytest starts without importing the package: that costs as much as
pytest itself, and most runs of a project's tests need no cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from celery_actors import ClusterContext

__all__ = ["local_cluster", "shared_cluster"]


@pytest.fixture
def local_cluster() -> Iterator[ClusterContext]:
    """A fresh cluster of two CPUs for one test, gone after it."""
    from celery_actors.testing import running_cluster

    with running_cluster() as context:
        yield context


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[ClusterContext]:
    """A cluster of two CPUs that all tests which ask for it share: quicker, less separate."""
    from celery_actors.testing import running_cluster

    with running_cluster() as context:
        yield context
