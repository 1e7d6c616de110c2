"""What work needs and what a node has left: pure values and decisions, no I/O.

Amounts are integers of 1/10,000, Ray's precision, so fractions add up exactly.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["UNIT", "Allocation", "Ledger", "Need"]

UNIT = 10_000
#: Parts a label's resources from its environment; no name of a resource in a label has a dash.
_ENV = "-env-"


def _plain(amount: int) -> str:
    whole, part = divmod(amount, UNIT)
    return f"{whole}.{part:04d}".rstrip("0") if part else str(whole)


@dataclass(frozen=True, slots=True)
class Need:
    """Resources that one call or actor holds, in units of 1/10,000; sorted, without zeros."""

    amounts: tuple[tuple[str, int], ...] = ()
    env: str = ""  # the runtime environment: a worker serves one only

    @classmethod
    def of(cls, *, cpus: float = 0, gpus: float = 0, custom: Mapping[str, float]) -> Need:
        """Build a need from plain numbers."""
        given = {"CPU": cpus, "GPU": gpus, **custom}
        scaled = ((name, round(amount * UNIT)) for name, amount in given.items())
        return cls(tuple(sorted((name, amount) for name, amount in scaled if amount > 0)))

    @property
    def label(self) -> str:
        """A short name that is the same for equal needs: the tail of a queue name."""
        return f"{self._resources}{_ENV}{self.env}" if self.env else self._resources

    @classmethod
    def of_label(cls, label: str, amounts: Iterable[tuple[str, int]]) -> Need:
        """Return the need that has this label and these amounts."""
        return cls(tuple((name, amount) for name, amount in amounts), label.partition(_ENV)[2])

    @property
    def _resources(self) -> str:
        if not self.amounts:
            return "none"
        readable = all(
            name in ("CPU", "GPU")
            or (re.fullmatch("[a-z_]+", name) and name not in ("cpu", "gpu", "none", "x"))
            for name, _ in self.amounts
        )
        if not readable:  # two such names could run into the same text
            return "x" + hashlib.sha256(repr(self.amounts).encode()).hexdigest()[:16]
        return "-".join(f"{name.lower()}{_plain(amount)}" for name, amount in self.amounts)

    @property
    def plain(self) -> dict[str, float]:
        """The amounts as plain numbers."""
        return {name: amount / UNIT for name, amount in self.amounts}

    @property
    def cpus(self) -> int:
        """CPU units needed."""
        return dict(self.amounts).get("CPU", 0)

    @property
    def gpus(self) -> int:
        """GPU units needed."""
        return dict(self.amounts).get("GPU", 0)


@dataclass(frozen=True, slots=True)
class Allocation:
    """A need that was granted, with the device numbers that came with it."""

    need: Need
    gpu_ids: tuple[int, ...] = ()


@dataclass(slots=True)
class Ledger:
    """The only authority on one node's resources."""

    total: dict[str, int]
    free: dict[str, int] = field(init=False)
    gpus: list[int] = field(init=False)  # free units of each device

    def __post_init__(self) -> None:
        self.free = dict(self.total)
        self.gpus = [UNIT] * (self.total.get("GPU", 0) // UNIT)

    @classmethod
    def of(cls, cpus: float, gpus: int, custom: Mapping[str, float]) -> Ledger:
        """Build a ledger from plain numbers."""
        given = {"CPU": cpus, "GPU": gpus, **custom}
        return cls({name: round(amount * UNIT) for name, amount in given.items() if amount > 0})

    def acquire(self, need: Need) -> Allocation | None:
        """Grant the need, or return None if it does not fit now."""
        if any(self.free.get(name, 0) < amount for name, amount in need.amounts):
            return None
        devices = self._choose_devices(need.gpus)
        if devices is None:
            return None
        for name, amount in need.amounts:
            self.free[name] -= amount
        share = min(need.gpus, UNIT)
        for device in devices:
            self.gpus[device] -= share
        return Allocation(need, devices)

    def release(self, allocation: Allocation) -> None:
        """Take back what ``acquire`` granted."""
        for name, amount in allocation.need.amounts:
            self.free[name] += amount
        share = min(allocation.need.gpus, UNIT)
        for device in allocation.gpu_ids:
            self.gpus[device] += share

    def lend_cpus(self, allocation: Allocation) -> None:
        """Let others have the CPUs of one who waits for them; devices and the rest stay taken."""
        self.free["CPU"] = self.free.get("CPU", 0) + allocation.need.cpus

    def take_cpus(self, allocation: Allocation) -> None:
        """Give the waiting one its CPUs again, even where more is taken then than there is."""
        self.free["CPU"] = self.free.get("CPU", 0) - allocation.need.cpus

    def _choose_devices(self, units: int) -> tuple[int, ...] | None:
        if units == 0:
            return ()
        if units < UNIT:  # the fullest device that still has room
            fitting = [(free, i) for i, free in enumerate(self.gpus) if free >= units]
            return (min(fitting)[1],) if fitting else None
        whole = [i for i, free in enumerate(self.gpus) if free == UNIT][: units // UNIT]
        return tuple(whole) if len(whole) == units // UNIT else None
