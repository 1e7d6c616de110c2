"""Celery's JSON has a few types more than JSON: dates, UUIDs, decimals. Plain clients send them."""

from __future__ import annotations

from typing import Any

from kombu.exceptions import EncodeError
from kombu.utils.json import dumps, loads

from ..errors import DeadLetterError
from ..serialization import SEALED
from .app import RefMarker, SealedValue

__all__ = ["read_typed", "write_typed"]


def read_typed(value: Any) -> Any:
    """Return an argument as a Celery worker would see it.

    Raises:
        DeadLetterError: a type that is not known here, or one of ours where it does not belong.
    """
    try:
        read = loads(dumps(value))
    except (TypeError, ValueError) as error:
        raise DeadLetterError(f"an argument is of an unknown type: {error}") from None
    if _holds_ours(read):
        raise DeadLetterError("an argument holds a signed value that was not made for this call")
    return read


def _holds_ours(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_ours, value.values()))
    if isinstance(value, list):
        return any(map(_holds_ours, value))
    return isinstance(value, SealedValue | RefMarker)


def write_typed(value: Any) -> bytes | None:
    """Return a result as Celery's JSON, for a plain client; None where it has no form for it."""
    try:
        text: str = dumps(value)
    except (EncodeError, TypeError, ValueError, RecursionError):
        return None
    data = text.encode("utf-8", "surrogatepass")
    return None if data.startswith(SEALED) else data
