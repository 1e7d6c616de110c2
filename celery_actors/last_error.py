"""A worker's last error, on the page that it shares with its supervisor.

Writing it costs a failing call a microsecond and no round trip; who watches reads it now and then.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

__all__ = ["LAST_ERROR_BYTES", "LastError", "read", "write"]

#: Bytes of the text that are kept.
TEXT_BYTES = 200
#: How many were written, twice that, and odd in the middle of a write; when; the text's length.
_HEAD = struct.Struct("<qdq")
_COUNT = struct.Struct("<q")
LAST_ERROR_BYTES = _HEAD.size + TEXT_BYTES


class LastError(NamedTuple):
    """What the last failing call raised, in one line; ``when``: seconds since 1970."""

    number: int
    when: float
    text: str


def write(page: mmap.mmap, offset: int, when: float, text: str) -> None:
    """Note an error in place of the one before."""
    (count,) = _COUNT.unpack_from(page, offset)
    raw = text.encode("utf-8", "replace")[:TEXT_BYTES]
    _COUNT.pack_into(page, offset, count + 1)
    page[offset + _HEAD.size : offset + _HEAD.size + len(raw)] = raw
    _HEAD.pack_into(page, offset, count + 2, when, len(raw))


def read(page: int, offset: int) -> LastError | None:
    """Return what is noted on a page, by its descriptor; None for nothing, or half of it."""
    raw = os.pread(page, LAST_ERROR_BYTES, offset)
    count, when, length = _HEAD.unpack_from(raw)
    if count == 0 or count % 2 or os.pread(page, LAST_ERROR_BYTES, offset) != raw:
        return None
    text = raw[_HEAD.size : _HEAD.size + length].decode("utf-8", "replace")
    return LastError(count // 2, when, text)
