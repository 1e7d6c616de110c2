"""Celery's canvas, for those who may not know Celery."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery import group

__all__ = ["group_of"]


def group_of(signatures: Iterable[Any], app: Any) -> Any:
    """Return signatures that run side by side, as far as their queues let them."""
    return group(signatures, app=app)
