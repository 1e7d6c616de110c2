"""Buffers beside a message, held in a dictionary: the smallest thing that keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from celery_actors.serialization import Blob, offsets


class Held:
    """Keeps buffers here: with a digest like the store, without like shared memory."""

    def __init__(self, node: str = "") -> None:
        self.node = node
        self.blobs: dict[str, bytearray] = {}

    def keep(self, blob_id: str, parts: Sequence[memoryview]) -> Blob:
        starts, size = offsets(map(len, parts))
        whole = self.blobs[blob_id] = bytearray(size)
        for start, part in zip(starts, parts, strict=True):
            whole[start : start + len(part)] = part
        digest = "" if self.node else hashlib.sha256(whole).hexdigest()
        return Blob(blob_id, size, self.node, digest)

    def fetch(self, blob: Blob) -> memoryview:
        return memoryview(self.blobs[blob.id])[: blob.size].toreadonly()

    def free(self, blobs: Sequence[Blob]) -> None:
        for blob in blobs:
            self.blobs.pop(blob.id, None)
