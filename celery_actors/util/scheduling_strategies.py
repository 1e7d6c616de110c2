"""Where calls and actors may run: Ray's module of this name."""

from __future__ import annotations

from ..strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

__all__ = ["NodeAffinitySchedulingStrategy", "PlacementGroupSchedulingStrategy"]
