"""The seam to Redis or Valkey: connections, and one typed function per atomic step."""

from __future__ import annotations

from .client import Store
from .mux import Mux
from .scripts import Answer, Claim, Scripts
from .wire import StoreError, StoreFullError, StoreUnreachableError, Wire

__all__ = [
    "Answer",
    "Claim",
    "Mux",
    "Scripts",
    "Store",
    "StoreError",
    "StoreFullError",
    "StoreUnreachableError",
    "Wire",
]
