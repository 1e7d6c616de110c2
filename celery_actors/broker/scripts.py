"""The scripts of kombu and Celery: bindings of queues, and chords. Each loads them if it may."""

from __future__ import annotations

from celery.backends.redis import (
    CHORD_CLAIM_EXTEND_LUA,
    CHORD_CLEANUP_LUA,
    CHORD_PART_RETURN_LUA,
)
from kombu.transport.redis import REFRESH_BINDING, SWEEP_BINDINGS

__all__ = ["SOURCES"]

SOURCES = tuple(
    text.encode() for text in (
        REFRESH_BINDING, SWEEP_BINDINGS, CHORD_PART_RETURN_LUA, CHORD_CLEANUP_LUA,
        CHORD_CLAIM_EXTEND_LUA,
    )
)  # fmt: skip
