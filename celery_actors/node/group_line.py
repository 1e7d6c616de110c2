"""The line of placement groups that wait, as far as a node has to look at it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from .. import bundles, groups
from ..placement import NodeView
from ..store import Store

__all__ = ["FIRST", "GroupLine"]

#: Groups that are planned for at a time: so many of those that the cluster could hold.
FIRST = 20
#: Groups that are judged in one look: could the cluster ever hold them?
JUDGED = 200


class GroupLine:
    """The line as it was when it changed last, and which groups in it may find a place at all.

    A group that no nodes could hold together waits for other nodes. It counts for nothing until the
    cluster has changed, so it keeps none behind it waiting.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cluster: list[object] = []
        self._judged: dict[str, bool] = {}  # id -> could the cluster hold it?
        self._first: list[groups.Group] = []
        self._first_of = ""  # the mark of the line that they were chosen from
        #: Changes with the line, its order, and what became of the groups in it.
        self.mark = ""
        #: Since when each has been seen to wait.
        self.since: dict[str, float] = {}
        #: Those that a plan is made for.
        self.reserving: Sequence[groups.Group] = ()
        #: False where the next look must go on with judging.
        self.complete = True

    def read(self, ids: Collection[str]) -> dict[str, groups.Group]:
        """Look at the line; return the groups of these ids, those that are known."""
        seen = groups.look(self._store, self.mark, ids)
        if seen.mark != self.mark:
            now = time.monotonic()
            self.reserving = groups.records(self._store, seen.reserving)
            self.since = {group_id: self.since.get(group_id, now) for group_id in seen.ids}
            self._judged = {k: could for k, could in self._judged.items() if k in self.since}
            self.mark = seen.mark
        return {group.group_id: group for group in seen.asked}

    def first(self, nodes: Sequence[NodeView]) -> list[groups.Group]:
        """Return the first groups that these nodes could hold, in the order of the line."""
        cluster: list[object] = [(node.node_id, node.total, node.labels) for node in nodes]
        if cluster != self._cluster:
            self._cluster = cluster
            self._judged.clear()
        elif self.mark == self._first_of and self.complete:
            return self._first
        wanted, able, unknown = [], 0, 0
        for group_id in self.since:
            could = self._judged.get(group_id)
            if able == FIRST or (could is None and unknown == JUDGED):
                break
            able += could is True
            unknown += could is None
            if could is not False:
                wanted.append(group_id)
        found = groups.records(self._store, wanted)
        self._judge([group for group in found if group.group_id not in self._judged], nodes)
        self._first = [group for group in found if self._judged[group.group_id]][:FIRST]
        self._first_of = self.mark
        self.complete = len(self._first) == FIRST or all(
            group_id in self._judged for group_id in self.since
        )
        return self._first

    def _judge(self, unknown: Sequence[groups.Group], nodes: Sequence[NodeView]) -> None:
        """Judge by what the nodes have in total; groups that are alike at once."""
        verdicts: dict[object, bool] = {}
        for group in unknown:
            if group.shape not in verdicts:
                plan = bundles.plan(group.bundles, group.strategy, nodes, group.places, empty=True)
                verdicts[group.shape] = plan is not None
            self._judged[group.group_id] = verdicts[group.shape]
