"""The seam to Redis or Valkey: connections, and one typed function per atomic step."""

from __future__ import annotations

from .client import Store
from .mux import Mux
from .scripts import Answer, Claim, Fence, Scripts
from .wire import StoreError, StoreUnreachableError, Wire

__all__ = [
    "Answer",
    "Claim",
    "Fence",
    "Mux",
    "Scripts",
    "Store",
    "StoreError",
    "StoreUnreachableError",
    "Wire",
]
