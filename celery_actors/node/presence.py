"""What a node shows of itself: to other processes of the cluster, and to Celery's tools."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from .. import registry
from ..assignment import Assignment, NodeSettings
from ..gpu import Devices
from ..need import ACCELERATOR
from ..placement import Ledger, NodeView
from ..shared_memory import SharedFolder, host_id
from .intake import Intake
from .process import WorkerProcess
from .reservations import Reservations

__all__ = ["FACE", "Presence", "view_of"]

#: The process that stands for the node in Celery's tools.
FACE = "face"


def view_of(
    settings: NodeSettings, devices: Devices, *, num_cpus: float, memory: float,
    resources: Mapping[str, float], labels: Mapping[str, str],
) -> NodeView:  # fmt: skip
    """Return the node as its own intake sees it: its books are the authority."""
    # A type that the resources name is that of devices whose driver does not tell theirs.
    stated = [name for name in resources if name.startswith(ACCELERATOR)]
    kind = stated[0].removeprefix(ACCELERATOR) if len(stated) == 1 else ""
    kinds = [device.kind or kind for device in devices.devices]
    custom = {**resources, f"node:{settings.ip}": 1.0}
    total = Ledger.of(cpus=num_cpus, gpus=len(kinds), memory=memory, custom=custom, kinds=kinds)
    every = {**registry.default_labels(settings.node_id, kinds), **labels}
    return NodeView(settings.node_id, settings.host, total, total.copy(), every)


class Presence:
    """What others see of one node."""

    def __init__(
        self, settings: NodeSettings, me: NodeView, intake: Intake, reservations: Reservations,
        workers: Mapping[str, WorkerProcess], shared: SharedFolder | None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._me = me
        self._intake = intake
        self._reservations = reservations
        self._workers = workers
        self._folder = str(shared.path) if shared is not None else ""
        self._told = ""
        self._open: tuple[str, ...] = ()
        self.draining = False  # the node is about to end, and takes no new work

    def news(self) -> str:
        """Return what the node says of itself; '' where the store has it already."""
        settings = self._settings
        about = registry.describe(
            self._me.free, self._intake.free(), self._me.labels, self._holders(),
            draining=self.draining, host=settings.host, pid=os.getpid(), ip=settings.ip,
            folder=self._folder,
            workers=sum(not worker.is_face for worker in self._workers.values()),
            hostname=socket.gethostname(), host_id=host_id(),
        )  # fmt: skip
        news = about if about != self._told else ""
        self._told = about
        return news

    def not_told(self) -> None:
        """Say everything again: nobody knows whether the last news arrived."""
        self._told = ""

    def _holders(self) -> list[dict[str, Any]]:
        """Return which workers and reservations have devices."""
        workers = [
            (worker.assignment.label, worker.pid, worker.grant.allocation)
            for worker in self._workers.values() if worker.grant is not None
        ]  # fmt: skip
        return [
            {"worker": name, "pid": pid, "gpu_ids": list(held.gpu_ids), "units": held.share}
            for name, pid, held in (*workers, *self._reservations.holders())
            if held.gpu_ids
        ]

    def face(self) -> Assignment | None:
        """Tell the node's face what could be served now; return one to start where none runs."""
        queues = () if self.draining else self._intake.open_queues()
        face = self._workers.get(FACE)
        if face is not None and queues != self._open:
            face.tell({"queues": queues})
        self._open = queues
        if face is not None or self.draining:
            return None
        return Assignment(
            worker_id=FACE, queue="", epoch="", owner="", session="", label="node",
            resident=False, queues=queues,
        )  # fmt: skip
