"""How others may look into a node, as its command line says. A pure value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LogFormat", "Watching"]

LogFormat = Literal["text", "json"]


@dataclass(frozen=True, slots=True)
class Watching:
    """What a node offers to those who watch it."""

    metrics: tuple[str, int] | None = None  # host and port of the metrics; None: none
    log_format: LogFormat = "text"
    otel: bool = False  # workers make spans of their calls
