"""What a reader has to know of the machine: never its name, its addresses or its folders."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path


def describe() -> dict[str, object]:
    """Return the processor, its cores, the memory, Python's version, the date and the load."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load_before": load(),
    }


def processor() -> str:
    """Return the processor's model as Linux names it, or else the architecture."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def load() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 2)
