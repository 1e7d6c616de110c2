"""Remote classes and functions that tell what their process was given."""

from __future__ import annotations

import ctypes
import os
import subprocess
from typing import Any

import celery_actors as ca

#: What user code finds when it is imported: the variable must be there by then.
AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES")


def given() -> dict[str, Any]:
    """Return the devices of this process: as we say, as its C environment and its children do."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    raw = getenv(b"CUDA_VISIBLE_DEVICES")
    child = subprocess.run(
        ["/usr/bin/env"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    prefix = "CUDA_VISIBLE_DEVICES="
    return {
        "ids": ca.get_gpu_ids(),
        "variable": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "in C": None if raw is None else raw.decode(),
        "in a child": next(
            (line.removeprefix(prefix) for line in child if line.startswith(prefix)), None
        ),
        "at import": AT_IMPORT,
        "accelerators": ca.get_runtime_context().get_accelerator_ids(),
        "resources": ca.get_runtime_context().get_assigned_resources(),
        "node": ca.get_runtime_context().get_node_id(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "pid": os.getpid(),
    }


@ca.remote
class Holder:
    """Holds what it was given for as long as it lives."""

    def given(self) -> dict[str, Any]:
        return given()

    def node(self) -> str:
        return ca.get_runtime_context().get_node_id()

    def see(self, devices: str) -> str:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
        return devices

    def pid(self) -> int:
        return os.getpid()


@ca.remote
def told() -> dict[str, Any]:
    return given()


@ca.remote
def where() -> str:
    return ca.get_runtime_context().get_node_id()
