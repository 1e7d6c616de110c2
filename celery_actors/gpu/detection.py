"""Which accelerators this process may use: those of the machine that its environment shows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import ConfigurationError
from .devices import CUDA, Device, Devices
from .drivers import KFD, Card, amd, nvidia

__all__ = ["found", "logical"]

ROCR, HIP = "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
# For accelerators unknown here: the variable that shows them, such as ASCEND_RT_VISIBLE_DEVICES.
OTHER = "CELERY_ACTORS_VISIBLE_DEVICES_VARIABLE"


def found(environ: Mapping[str, str] = os.environ, *, kfd: Path = KFD) -> Devices:
    """Return the accelerators that this process may use: NVIDIA's, else AMD's, else none.

    A machine without driver, library or permission has none, quietly. NVIDIA's are asked for
    through NVML, AMD's are read from the kernel; where neither answers, the entries of a preset
    variable count, unverified. A GPU in MIG mode counts as its instances, each named by its UUID,
    since CUDA cannot use it as a whole. Numbers are NVML's, in the order of the bus: on a machine
    with unlike GPUs, ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` gives CUDA the same numbers.

    Args:
        environ: ``CELERY_ACTORS_VISIBLE_DEVICES_VARIABLE`` in it names the variable of another
            vendor, whose entries alone are then counted.
        kfd: the nodes of AMD's kernel driver.
    """
    if other := environ.get(OTHER):
        return _seen((other,), None, environ)
    vendors: tuple[tuple[tuple[str, ...], Callable[[], list[Card] | None]], ...] = (
        ((CUDA,), nvidia),
        ((ROCR, HIP), lambda: amd(kfd)),
    )
    for variables, ask in vendors:
        devices = _seen(variables, ask(), environ)
        if len(devices) > 0:
            return devices
    return Devices()


def logical(count: int, environ: Mapping[str, str] = os.environ, *, kfd: Path = KFD) -> Devices:
    """Return ``count`` devices: the first ones found, then made-up ones that are numbered on.

    As Ray's ``--num-gpus`` on a machine without GPUs, this serves tests and unknown devices.

    Raises:
        ConfigurationError: a made-up device would bear the name of one that a variable hides.
    """
    real = found(environ, kfd=kfd)
    shown_all = {name: value for name, value in environ.items() if name not in (CUDA, ROCR, HIP)}
    if len(real) < count and len(found(shown_all, kfd=kfd)) > len(real):
        raise ConfigurationError(
            f"{real.variable}={environ.get(real.variable, '')!r} shows {len(real)} devices and "
            f"hides others, and {count} are asked for: ask for fewer, or show more"
        )
    taken = {str(device.name) for device in real.devices}
    numbers = (Device(n) for n in itertools.count(len(real)) if str(n) not in taken)
    every = itertools.chain(real.devices, numbers)
    return Devices(real.variable, tuple(itertools.islice(every, count)))


def _seen(
    variables: Sequence[str], cards: list[Card] | None, environ: Mapping[str, str]
) -> Devices:
    """Apply the variables of a vendor, each to what the one before has left.

    The last one that is preset tells processes their devices: it counts from what the others
    show (ROCm, "GPU isolation techniques"). Where none is, the last one: Ray sets HIP's too.
    """
    variable = variables[-1]
    for name in variables:
        if name in environ:
            variable = name
            cards = [Card(device.uuid, (device,)) for device in _chosen(cards, environ[name])]
    return Devices(variable, tuple(part for card in cards or () for part in card.parts))


def _chosen(cards: list[Card] | None, value: str) -> list[Device]:
    """Read a variable as CUDA does: an invalid entry hides itself and all that follow.

    Source: CUDA programming guide, "CUDA_VISIBLE_DEVICES". That a device which is named twice
    hides all is not written there: PyTorch's ``_parse_visible_devices`` records it.
    """
    chosen = []
    for name in map(str.strip, value.split(",")):
        device = _lookup(cards, name)
        if device is None:
            break
        chosen.append(replace(device, name=name))
    once = {device.uuid or device.name for device in chosen}
    return chosen if len(once) == len(chosen) else []


def _lookup(cards: list[Card] | None, name: str) -> Device | None:
    """Return the device with this number, UUID or unique beginning of a UUID."""
    if cards is None:  # nobody to ask; NoDevFiles is Slurm's word for none
        return None if name in {"", "NoDevFiles"} or name.startswith("-") else Device(name)
    if name.isdecimal():
        return next((part for card in cards[int(name) :][:1] for part in card.parts), None)
    if not name.startswith(("GPU-", "MIG-")):
        return None
    start = name.lower()  # ROCm documents upper case and prints lower case
    matches = {
        part for card in cards for uuid, part in card.named() if uuid.lower().startswith(start)
    }
    return matches.pop() if len(matches) == 1 else None
