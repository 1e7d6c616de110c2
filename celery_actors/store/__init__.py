"""The seam to Redis or Valkey: connections, and one typed function per atomic step."""

from __future__ import annotations

from .client import Store
from .connections import silence_of
from .mux import WAITS, Mux
from .scripts import (
    Answer,
    Claim,
    Durable,
    Fence,
    Scripts,
    ScriptsMissingError,
    Seen,
    Step,
    Tick,
    Waiting,
)
from .wire import StoreError, StoreFullError, StoreUnreachableError, Wire

__all__ = [
    "WAITS",
    "Answer",
    "Claim",
    "Durable",
    "Fence",
    "Mux",
    "Scripts",
    "ScriptsMissingError",
    "Seen",
    "Step",
    "Store",
    "StoreError",
    "StoreFullError",
    "StoreUnreachableError",
    "Tick",
    "Waiting",
    "Wire",
    "silence_of",
]
