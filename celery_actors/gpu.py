"""The GPUs of this machine, and how a process is told which ones are its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

__all__ = ["VISIBLE_DEVICES", "detect", "environment", "names", "visible"]

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


def visible(environ: Mapping[str, str] = os.environ) -> list[str] | None:
    """Return the devices this process may use, as its environment names them; None: all."""
    value = environ.get(VISIBLE_DEVICES)
    if value is None:
        return None
    names = [name.strip() for name in value.split(",") if name.strip()]
    # As CUDA reads it: an invalid entry hides itself and all that follow.
    invalid = [i for i, name in enumerate(names) if name.startswith("-")]
    return names[: invalid[0]] if invalid else names


def detect(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of NVIDIA GPUs; no driver, no library and no device are all a zero."""
    named = visible(environ)
    if named is not None:
        return len(named)
    import pynvml  # 75 ms that only a node without stated GPUs needs

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0
    finally:
        pynvml.nvmlShutdown()


def names(gpu_ids: Sequence[int], environ: Mapping[str, str] = os.environ) -> list[int | str]:
    """Return these devices by number, or as the node's own environment names them."""
    named = visible(environ)
    return [named[i] if named and i < len(named) else i for i in gpu_ids]


def environment(gpu_ids: Sequence[int], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that show a process exactly these devices; none for no device."""
    if not gpu_ids:
        return {}
    return {VISIBLE_DEVICES: ",".join(map(str, names(gpu_ids, environ)))}
