"""What a stored result shows to people without opening anything that is signed."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from .serialization import SEALED
from .unreadable import UNREADABLE

__all__ = ["Failure", "failure_of", "plain_result"]


class Failure(NamedTuple):
    """What was raised: the name of its type, the texts of its arguments, where."""

    name: str
    messages: tuple[str, ...]
    traceback: str | None

    @property
    def text(self) -> str:
        """The exception as ``repr`` shows it."""
        return f"{self.name}({', '.join(repr(message) for message in self.messages)})"

    @property
    def line(self) -> str:
        """Its name, and the first line of what it says."""
        first = (self.messages[0].strip().splitlines() or [""])[0] if self.messages else ""
        return f"{self.name}: {first}" if first else self.name


class _Raised(msgspec.Struct):
    exc_type: str = "Exception"
    exc_message: list[str] = []


class _Failed(msgspec.Struct):
    result: _Raised
    traceback: str | None = None


class _Stored(msgspec.Struct):
    result: msgspec.Raw


_decode_stored = msgspec.json.Decoder(_Stored).decode
_decode_failed = msgspec.json.Decoder(_Failed).decode
_decode_any = msgspec.json.Decoder().decode


def failure_of(record: bytes) -> Failure | None:
    """Return what a failed call's record says; None where it is none."""
    try:
        failed = _decode_failed(record)
    except UNREADABLE:
        return None
    return Failure(failed.result.exc_type, tuple(failed.result.exc_message), failed.traceback)


def plain_result(record: bytes) -> Any:
    """Return the plain value of a successful call's record.

    Raises:
        ValueError: the value is signed, and stays closed. UNREADABLE: this is no record.
    """
    raw = bytes(_decode_stored(record).result)
    if raw.startswith(SEALED):
        raise ValueError("the value is signed")
    return _decode_any(raw)
