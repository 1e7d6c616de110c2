"""What a node has left, and what could be held where: pure values and decisions, no I/O.

Amounts are integers of 1/10,000, as in ``need``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .need import ACCELERATOR, UNIT, Need

__all__ = ["Allocation", "Grant", "Ledger", "NodeView", "shared_out"]


@dataclass(frozen=True, slots=True)
class Allocation:
    """A need that was granted, with the device numbers that came with it."""

    need: Need
    gpu_ids: tuple[int, ...] = ()

    @property
    def share(self) -> int:
        """Units of each of the devices."""
        return min(self.need.gpus, UNIT)


@dataclass(slots=True)
class Ledger:
    """The only authority on one node's resources, or on those of one reservation.

    ``devices``: units of each device by number; ``kinds``: its type, where that is known.
    """

    total: dict[str, int]
    devices: dict[int, int] = field(default_factory=dict)
    kinds: Mapping[int, str] = field(default_factory=dict)
    free: dict[str, int] = field(init=False)
    gpus: dict[int, int] = field(init=False)  # free units of each device

    def __post_init__(self) -> None:
        self.free = dict(self.total)
        self.gpus = dict(self.devices)

    @classmethod
    def of(
        cls, *, cpus: float, gpus: int = 0, memory: float = 0, custom: Mapping[str, float],
        kinds: Sequence[str] = (),
    ) -> Ledger:  # fmt: skip
        """Build a node's ledger from plain numbers; ``kinds``: the types of its devices."""
        types = {ACCELERATOR + kind: 1.0 for kind in kinds if kind}
        need = Need.of(cpus=cpus, gpus=gpus, memory=memory, custom={**custom, **types})
        total = dict(need.amounts)
        return cls(total, dict.fromkeys(range(gpus), UNIT), dict(enumerate(kinds)))

    @classmethod
    def within(cls, allocation: Allocation, kinds: Mapping[int, str]) -> Ledger:
        """Return the ledger of what was reserved: others take their share from it."""
        devices = dict.fromkeys(allocation.gpu_ids, allocation.share)
        return cls(dict(allocation.need.amounts), devices, kinds)

    def copy(self) -> Ledger:
        """Return books that say the same, to try something out on."""
        found = Ledger(self.total, self.devices, self.kinds)
        found.free, found.gpus = dict(self.free), dict(self.gpus)
        return found

    # -- granting --------------------------------------------------------------------------

    def acquire(self, need: Need) -> Allocation | None:
        """Grant the need, or return None if it does not fit now."""
        if self.short(need):
            return None
        devices = self._choose(need, self.gpus)
        if devices is None:
            return None
        for name, amount in need.amounts:
            self.free[name] -= amount
        allocation = Allocation(need, devices)
        for device in devices:
            self.gpus[device] -= allocation.share
        return allocation

    def release(self, allocation: Allocation) -> None:
        """Take back what ``acquire`` granted."""
        for name, amount in allocation.need.amounts:
            self.free[name] += amount
        for device in allocation.gpu_ids:
            self.gpus[device] += allocation.share

    def short(self, need: Need) -> set[str]:
        """Return the resources of which too little is free, devices apart."""
        return {name for name, amount in need.amounts if self.free.get(name, 0) < amount}

    def fits(self, need: Need) -> bool:
        """Tell whether the need could be granted now."""
        return not self.short(need) and self._choose(need, self.gpus) is not None

    def could_hold(self, need: Need) -> bool:
        """Tell whether the need could be granted if nothing else was."""
        enough = all(self.total.get(name, 0) >= amount for name, amount in need.amounts)
        return enough and self._choose(need, self.devices) is not None

    def leaves(self, need: Need, saved: Need) -> bool:
        """Tell whether granting ``need`` brings ``saved`` no further from being granted.

        So is everything that ``saved`` is not waiting for, and what is left of the rest.
        """
        after = self.copy()
        if after.acquire(need) is None:
            return True  # it is not granted at all
        for name, amount in saved.amounts:
            if name != "GPU" and need.amount(name) and after.free.get(name, 0) < amount:
                return False
        touched = [
            device for device in self._usable(saved) if after.gpus[device] != self.gpus[device]
        ]
        # Where it lacks devices now, each that comes free may be the one that it lacks.
        return not touched or self._choose(saved, after.gpus) is not None

    # -- those who wait --------------------------------------------------------------------

    def lend_cpus(self, allocation: Allocation) -> None:
        """Let others have the CPUs of one who waits for them; devices and the rest stay taken."""
        self.free["CPU"] = self.free.get("CPU", 0) + allocation.need.cpus

    def take_cpus(self, allocation: Allocation) -> None:
        """Give the waiting one its CPUs again, even where more is taken then than there is."""
        self.free["CPU"] = self.free.get("CPU", 0) - allocation.need.cpus

    # -- devices ---------------------------------------------------------------------------

    def _choose(self, need: Need, units: Mapping[int, int]) -> tuple[int, ...] | None:
        """Return the devices for a need, where each has so many units; None where it cannot be."""
        if need.gpus == 0:
            return ()
        share = min(need.gpus, UNIT)
        fitting = {device: units[device] for device in self._usable(need) if units[device] >= share}
        count = max(1, need.gpus // UNIT)
        if len(fitting) < max(count, len(need.gpu_ids)):
            return None
        # A share goes to the fullest device that has room, so that whole ones stay free.
        order = sorted(fitting, key=lambda device: (fitting[device], device))
        return tuple(sorted(order[:count]))

    def _usable(self, need: Need) -> list[int]:
        """Return the devices that a need could be met from, free or not."""
        if not need.gpus:
            return []
        return [
            device
            for device in self.devices
            if need.accelerator in ("", self.kinds.get(device, ""))
            and (not need.gpu_ids or device in need.gpu_ids)
        ]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a worker holds, and the ledger that it came from."""

    ledger: Ledger
    allocation: Allocation

    def release(self) -> None:
        """Give it back."""
        self.ledger.release(self.allocation)


@dataclass(frozen=True, slots=True)
class NodeView:
    """A live node as others see it: what it says of itself about once a second."""

    node_id: str
    host: str
    total: Ledger
    free: Ledger
    labels: Mapping[str, str]

    def could_hold(self, need: Need) -> bool:
        """Tell whether the node could ever hold the need."""
        if not need.amounts and not self.total.total.get("CPU", 0):
            return False  # Ray: what states no need goes to a node that has a CPU
        return need.welcomes(self.node_id, self.labels) and self.total.could_hold(need)


def shared_out(views: Iterable[NodeView], need: Need, turn: int) -> NodeView | None:
    """Return the node whose turn it is under ``SPREAD``: one that has no room passes it on."""
    able = sorted((view for view in views if view.could_hold(need)), key=lambda v: v.node_id)
    return able[turn % len(able)] if able else None
