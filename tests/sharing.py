"""How a run's tests are dealt out to its processes: ``pytest -n 2 --dist loadscope``.

A module's tests stay together, for they share a cluster. Where each has servers of its own they are
dealt out one by one, as the last ones: a long module at the end would leave a process without work.
"""

from __future__ import annotations

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling

__all__ = ["Sharing"]

#: Modules of long tests that share nothing.
APART = frozenset({
    "test_crash_points", "test_cut_off_nodes", "test_durable_nodes", "test_fairness_nodes",
    "test_lost_drivers", "test_lost_nodes", "test_node_ends", "test_passive_nodes",
    "test_programs", "test_resource_nodes", "test_rollback", "test_sentinels", "test_store_away",
})  # fmt: skip


class Sharing(LoadScopeScheduling):
    """Deals out whole modules, the largest first, and single tests of those in ``APART``."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return nodeid if PurePath(path).stem in APART else super()._split_scope(nodeid)
