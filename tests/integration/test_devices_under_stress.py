"""A slice of ``make stress``: whatever is created and killed, no device is given out twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.support import Server
from tests.placement_stress import Stress, plan

pytestmark = pytest.mark.debian_redis

SEED, STEPS = 9, 250


def test_no_device_is_given_out_twice_or_leaks_whatever_is_killed(server: Server, tmp_path: Path):
    kinds = {step.kind for step in plan(SEED, STEPS)}
    assert {"kill", "kill -9", "kill -9 of a node", "SIGTERM of a node", "drop"} <= kinds
    stress = Stress(server, tmp_path)

    assert stress.run(SEED, STEPS) == []

    assert stress.counts["processes with devices"] > 20, stress.counts
