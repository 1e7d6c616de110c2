"""What the drivers of this machine say of its accelerators: NVML, and AMD's in the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from .devices import Device

__all__ = ["KFD", "Card", "amd", "nvidia"]

KFD = Path("/sys/class/kfd/kfd/topology/nodes")
# "NVIDIA H100 80GB HBM3" is an H100; a GeForce RTX 4090 needs its family's name to be told apart.
_KIND = re.compile(
    r"(?:(?:NVIDIA|Tesla|Quadro|GRID|GeForce)\s+)*+"
    r"((?:RTX|GTX|TITAN)(?:\s+PRO)?\s+\w+(?:\s+(?:Ti|SUPER|Ada))*|[A-Z0-9]+\b)"
)
# By PCI device number, under the names of Ray's `ray.util.accelerators`.
_INSTINCT = {
    0x738C: "AMD-Instinct-MI100",
    0x7408: "AMD-Instinct-MI250X",
    0x740C: "AMD-Instinct-MI250X-MI250",
    0x740F: "AMD-Instinct-MI210",
    0x74A1: "AMD-Instinct-MI300X-OAM",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What carries one number of the driver: a GPU, or the instances that MIG made of it."""

    uuid: str = ""
    parts: tuple[Device, ...] = ()  # none: it does not answer, yet it keeps its number

    def named(self) -> Iterator[tuple[str, Device]]:
        """Yield the UUIDs and what each shows; a GPU's own shows its first instance, as in CUDA."""
        for part in self.parts[:1]:
            yield self.uuid, part
        for part in self.parts:
            yield part.uuid, part


def nvidia() -> list[Card] | None:
    """Return the GPUs that NVML lists, by its numbers; None where it does not work.

    Source: NVML API reference, "Device Queries" and "Multi Instance GPU Management".
    """
    import pynvml  # 75 ms, which only nodes pay

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        cards = [_nvidia_card(pynvml, i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    if not any(part.name == part.uuid for card in cards for part in card.parts):
        return cards
    # Beside MIG instances whole GPUs go by UUID too: numbers and UUIDs do not mix in CUDA.
    return [
        Card(card.uuid, tuple(replace(part, name=part.uuid) for part in card.parts))
        for card in cards
    ]


def _nvidia_card(nvml: ModuleType, index: int) -> Card:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        match = _KIND.match(nvml.nvmlDeviceGetName(handle))
        kind = "-".join(match[1].split()) if match else ""
        uuid = nvml.nvmlDeviceGetUUID(handle)
    except nvml.NVMLError:  # lost, or another user's
        return Card()
    whole = Device(index, kind, _nvidia_memory(nvml, handle), uuid)
    try:
        cut = nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
        places = nvml.nvmlDeviceGetMaxMigDeviceCount(handle) if cut else 0
    except nvml.NVMLError:  # a GPU that cannot be cut, or a driver from before MIG
        cut, places = False, 0
    parts = []
    for place in range(places):
        with suppress(nvml.NVMLError):  # nothing was made in this place
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            uuid = nvml.nvmlDeviceGetUUID(part)
            parts.append(Device(uuid, kind, _nvidia_memory(nvml, part), uuid))
    return Card(whole.uuid, tuple(parts) if cut else (whole,))


def _nvidia_memory(nvml: ModuleType, handle: object) -> int:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:  # not supported where processor and GPU share their memory
        return 0


def amd(nodes: Path) -> list[Card] | None:
    """Return the GPUs among the nodes of the kernel's compute driver; None where there is none.

    Source: ROCm documentation, "KFD Topology". Processors are nodes too, with a ``simd_count``
    of 0; a GPU that belongs to another container cannot be read.
    """
    try:
        folders = sorted(nodes.iterdir(), key=lambda folder: (len(folder.name), folder.name))
    except OSError:
        return None
    cards: list[Card] = []
    for folder in folders:
        values = _properties(folder / "properties")
        if not values.get("simd_count"):
            continue
        banks = map(_properties, folder.glob("mem_banks/*/properties"))
        memory = sum(bank.get("size_in_bytes", 0) for bank in banks)
        unique = values.get("unique_id")
        uuid = f"GPU-{unique:016x}" if unique else ""
        kind = _INSTINCT.get(values.get("device_id", 0), "")
        cards.append(Card(uuid, (Device(len(cards), kind, memory, uuid),)))
    return cards


def _properties(file: Path) -> dict[str, int]:
    try:
        text = file.read_text()
    except OSError:
        return {}
    return {name: int(value) for name, value in re.findall(r"(?m)^(\w+) (\d+)$", text)}
