"""What the cluster could hold, asked before work is sent: bad requests fail in the caller."""

from __future__ import annotations

import itertools
import json
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from . import registry
from .errors import InsufficientResourcesError
from .labels import example_of
from .need import ACCELERATOR, UNIT, Need, described, plain_amount, plain_number
from .placement import Ledger, NodeView, shared_out
from .resource_options import ResourceOptions
from .store import Store

__all__ = ["Capacity"]

#: Seconds for which a look at the nodes counts. What nodes have in total changes only as they come
#: and go.
FRESH_SECONDS = 1.0
#: Turns of ``SPREAD`` that a process may begin with: many times the nodes, so all are as likely.
_FIRST_TURNS = 2**32
#: Nodes that an error lists.
SHOWN_NODES = 10


class Capacity:
    """One process's view of the nodes. Thread-safe.

    ``captured``: the placement group that takes in what this process starts; '' for none.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._living: list[NodeView] = []
        #: Those whose loss is not settled: they may be slow only; and those that are about to end.
        self._silent: list[NodeView] = []
        self._until = 0.0
        self._fitting: set[Need] = set()  # what was found to fit at the last look
        # At random: from 0 on, a thousand workers that send one call each would choose one node.
        self._turns = itertools.count(secrets.randbelow(_FIRST_TURNS))
        self.captured = ""

    def nodes(self) -> list[NodeView]:
        """Return the living nodes, as they were a second ago at the earliest."""
        with self._lock:
            if time.monotonic() >= self._until:
                found = registry.records(self._store)
                takes_work = [record.alive and not record.draining for record in found]
                views = [record.view for record in found]
                self._living = list(itertools.compress(views, takes_work))
                self._silent = [v for v, takes in zip(views, takes_work, strict=True) if not takes]
                self._fitting = set()
                self._until = time.monotonic() + FRESH_SECONDS
            return self._living

    def place(self, options: ResourceOptions, need: Need, what: str) -> Need:
        """Return the need as it is to be sent: with its node or its group where that is settled.

        Raises:
            InsufficientResourcesError: no living node could ever hold it, and the options do not
                say to wait. ValueError: it is larger than the bundle it asks for.
        """
        if self.captured and options.leaves_place_open:
            need = replace(need, bundle=self.captured, captures=True)
        if need.bundle:
            self._check_bundle(options, need, what)
            return need
        for other in options.alternatives(need):
            if self._could_be_held(other):
                return self._take_turns(other) if options.spreads else other
        if not options.wait_for_resources:
            raise _insufficient(_free_of_soft(need), what, [*self._living, *self._silent])
        return need

    def _could_be_held(self, need: Need) -> bool:
        nodes = [*self.nodes(), *self._silent]
        if need in self._fitting:
            return True
        wanted = _free_of_soft(need)
        if wanted.node and all(node.node_id != wanted.node for node in nodes):
            return True  # its node is gone: what comes of that, its queue tells
        if nodes and not any(node.could_hold(wanted) for node in nodes):
            return False
        self._fitting.add(need)
        return True

    def _take_turns(self, need: Need) -> Need:
        node = shared_out(self.nodes(), need, next(self._turns))
        return need if node is None else replace(need, node=node.node_id, otherwise="full")

    @staticmethod
    def _check_bundle(options: ResourceOptions, need: Need, what: str) -> None:
        group = options.group
        if group is None:
            return  # the group that captures: what it cannot hold waits, as in Ray
        index = need.group[1]
        specs: Sequence[Need] = group.placement_group.needs
        asked = specs if index < 0 else [specs[index]]
        if not any(_bundle(spec).could_hold(need) for spec in asked):
            where = f"bundle {index}" if index >= 0 else "any bundle"
            raise ValueError(
                f"{what} needs {described(need.amounts)}, which is more than {where} of its "
                f"placement group has: {'; '.join(described(spec.amounts) for spec in asked)}"
            )


def _free_of_soft(need: Need) -> Need:
    """Return what must be met in the end: on its node only where it is bound to that."""
    return need if need.otherwise == "wait" else need.anywhere


def _bundle(spec: Need) -> Ledger:
    devices = dict.fromkeys(range(max(1, spec.gpus // UNIT)), min(spec.gpus, UNIT))
    kinds = dict.fromkeys(devices, spec.accelerator)
    return Ledger(dict(spec.amounts), devices if spec.gpus else {}, kinds)


def _insufficient(
    need: Need, what: str, nodes: Sequence[NodeView]
) -> InsufficientResourcesError:  # fmt: skip
    """Return the error for what no node could ever hold: what was asked, what is there, a cure."""
    totals = [
        f"{node.node_id} has {described(tuple(registry.shown(node.total.total).items()))}"
        for node in nodes
    ]
    if len(totals) > SHOWN_NODES:
        totals[SHOWN_NODES:] = [f"and {len(totals) - SHOWN_NODES} more nodes"]
    return InsufficientResourcesError(
        f"{what} {_why(need, nodes)}. In total {'; '.join(totals)}. To wait for such a node "
        "instead, give wait_for_resources=True"
    )


def _why(need: Need, nodes: Sequence[NodeView]) -> str:
    welcome = [node for node in nodes if need.welcomes(node.node_id, node.labels)]
    if not welcome:
        return _unlabelled(need)
    if not need.amounts:
        return "needs a node with a CPU: start `celery_actors worker --num-cpus 1`"
    place = f"the node {need.node}" if need.node else "one node"
    for name, amount in sorted(need.amounts, key=lambda pair: pair[0] != "GPU"):
        most = max(node.total.total.get(name, 0) for node in welcome)
        if most < amount:
            asked = described([(name, amount)])
            if name.startswith(ACCELERATOR):
                return f"needs {asked} on {place}, and there is none: start a node that has one"
            largest = "it" if need.node else "the largest node"
            return (
                f"needs {asked} on {place}; {largest} has {plain_amount(name, most)}: start "
                f"`celery_actors worker {_flag(name, amount)}` there. It asks for "
                f"{described(need.amounts)}"
            )
    if need.gpu_ids:
        return f"needs the devices {list(need.gpu_ids)} of {place}, which has no such devices"
    return f"needs {described(need.amounts)} together on {place}, and no node has all of it"


def _unlabelled(need: Need) -> str:
    wanted = ",".join(f"{name}={value}" for name, value in need.selector)
    if need.node:
        return f"needs the labels {wanted} on the node {need.node}, and that does not have them"
    such = ",".join(f"{name}={value}" for name, value in example_of(need.selector).items())
    cure = f"start `celery_actors worker --labels {such}`" if such else "start one that has"
    return f"needs a node with the labels {wanted}, and no node has them: {cure}"


def _flag(name: str, amount: int) -> str:
    flags = {"GPU": "--num-gpus", "CPU": "--num-cpus", "memory": "--memory"}
    if name in flags:
        return f"{flags[name]} {-(-amount // UNIT)}"
    return f"--resources '{{{json.dumps(name)}: {plain_number(amount)}}}'"
