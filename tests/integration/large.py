"""What tests of large values share: actors that look at their memory, and a census of buffers."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np

import celery_actors as ca
from tests.integration.support import client_of

MEGABYTE = 1024 * 1024
SIZE = 50_000  # floats: well above what stays in a result record


@ca.remote
class Keeper:
    """Keeps an array and looks at its memory."""

    def __init__(self, array: Any = None) -> None:
        self.array = array

    def keep(self, array: Any) -> tuple[bool, int]:
        """Keep an array; return whether it can be written to, and the inode it is mapped from."""
        self.array = array
        return bool(array.flags.writeable), mapped_inode(array)

    def total(self) -> float:
        """Return the sum of the array."""
        return float(self.array.sum())

    def drop(self) -> None:
        """Let the array go."""
        self.array = None


@ca.remote(resources={"far": 1})
def far_ones(count: int) -> Any:
    """Return an array, made on the far host."""
    return np.ones(count)


@ca.remote(resources={"far": 1})
def far_sum(array: Any) -> float:
    """Return the sum of an array, taken on the far host."""
    return float(array.sum())


@ca.remote(resources={"near": 1})
def near_inode(array: Any) -> int:
    """Return the inode that an array is mapped from on the near host."""
    return mapped_inode(array)


def mapped_inode(array: Any) -> int:
    """Return the inode of the file from which an array is mapped; 0: from none."""
    address = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _mode, _offset, _device, inode, *_ = line.split()
        start, end = (int(edge, 16) for edge in span.split("-"))
        if start <= address < end:
            return int(inode)
    return 0


def lose_everything(cluster_address: str) -> None:
    """Remove every large value of the cluster's nodes, as the end of a node does."""
    for folder in folders(cluster_address):
        for path in folder.iterdir():
            if path.is_file() and path.stat().st_size >= SIZE * 8:
                path.unlink()


def folders(cluster_address: str) -> list[Path]:
    """Return the folders of shared memory of a cluster's nodes."""
    with contextlib.closing(client_of(cluster_address)) as client:
        return [Path(json.loads(about)["folder"]) for about in client.hgetall("ca:nodes").values()]


def buffers(cluster_address: str) -> list[str]:
    """Return the buffers that a cluster holds in shared memory and in the store."""
    found = [
        path.name
        for folder in folders(cluster_address)
        for path in folder.iterdir()
        if path.name not in ("node", "spare")
    ]
    with contextlib.closing(client_of(cluster_address)) as client:
        keys = [*client.scan_iter("ca:blob:*"), *client.scan_iter("ca:transfer:*")]
    return found + [key.decode() for key in keys]
