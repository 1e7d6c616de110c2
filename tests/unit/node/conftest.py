from __future__ import annotations

import pytest

from celery_actors.node import reservations
from celery_actors.store import Store
from tests.unit.clock import Clock
from tests.unit.node.reserving import Holder
from tests.unit.views import node


@pytest.fixture
def reserving_clock(monkeypatch: pytest.MonkeyPatch, no_hurry: None) -> Clock:
    return Clock.of(monkeypatch, reservations)


@pytest.fixture
def pair(store: Store, reserving_clock: Clock) -> list[Holder]:
    """Two nodes of four CPUs and two devices."""
    return [Holder(store, node(name, cpus=4, gpus=2)) for name in ("a", "b")]
