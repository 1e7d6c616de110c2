"""The accelerators of a machine, and how a process is told which of them are its own."""

from __future__ import annotations

from .detection import found, logical
from .devices import Device, Devices

__all__ = ["Device", "Devices", "found", "logical"]
