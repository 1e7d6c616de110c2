"""The scripts of kombu itself: its bindings of queues. It loads them where its user may."""

from __future__ import annotations

from kombu.transport.redis import REFRESH_BINDING, SWEEP_BINDINGS

__all__ = ["SOURCES"]

SOURCES = (REFRESH_BINDING.encode(), SWEEP_BINDINGS.encode())
