"""Which accelerators a node has, as a value: their names, and what a process is told of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["CUDA", "Device", "Devices"]

CUDA = "CUDA_VISIBLE_DEVICES"
NOSET = "CELERY_ACTORS_NOSET_VISIBLE_DEVICES"
ON_ZERO = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator, as far as this process may use it.

    Attributes:
        name: its number, or the string by which the environment of the node names it.
        kind: its type, such as ``"H100"`` or ``"RTX-4090"``, in letters, digits and dashes: Ray's
            names, save for families where Ray keeps the first word alone; empty: unknown.
        memory: its own memory in bytes; 0: unknown, or shared with the processors.
        uuid: what its driver calls it, on every boot the same; empty: unknown.
    """

    name: int | str
    kind: str = ""
    memory: int = 0
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Devices:
    """The accelerators of a node, all of one vendor; their places here are their ids.

    Attributes:
        variable: the environment variable by which the vendor's driver hides devices.
    """

    variable: str = CUDA
    devices: tuple[Device, ...] = ()

    def __len__(self) -> int:
        return len(self.devices)

    @property
    def kind(self) -> str:
        """Return the type that all of them have; empty where they differ, or there is none."""
        kinds = {device.kind for device in self.devices}
        return kinds.pop() if len(kinds) == 1 else ""

    def names(self, ids: Sequence[int]) -> list[int | str]:
        """Return what ``get_gpu_ids`` returns for these ids: numbers, or strings if preset.

        Raises:
            IndexError: there are fewer devices than that.
        """
        return [self.devices[i].name for i in ids]

    def environment(
        self, ids: Sequence[int], environ: Mapping[str, str] = os.environ
    ) -> dict[str, str]:
        """Return the variables that show a process exactly these devices.

        As in Ray, a process without devices keeps the node's variable, unless
        ``RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1`` hides all devices from it; and no variable is set
        where ``RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES=1`` (HIP and others likewise) or
        ``CELERY_ACTORS_NOSET_VISIBLE_DEVICES=1`` leaves the choice to the user's code.

        Raises:
            IndexError: there are fewer devices than that.
        """
        if _on(environ, NOSET) or _on(environ, f"RAY_EXPERIMENTAL_NOSET_{self.variable}"):
            return {}
        if not ids and not _on(environ, ON_ZERO):
            return {}
        return {self.variable: ",".join(map(str, self.names(ids)))}


def _on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() in {"1", "true"}  # as Ray reads its own
