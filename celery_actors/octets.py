"""Large bytes objects out of band: a pickle would copy each of them twice on its way.

Asking for every object whether it is one costs a call into Python, so only values that hold one
near their top are pickled like this.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Sequence
from typing import Any

from .pickling import Pickler

__all__ = ["Unpickler", "dump"]


def dump(
    value: Any, buffers: list[pickle.PickleBuffer], least: int
) -> tuple[memoryview, list[memoryview]]:
    """Return the pickle of a value and what ``Unpickler`` needs beside it.

    Args:
        value: what to pickle.
        buffers: gets the out-of-band buffers (PEP 574).
        least: bytes from which a bytes object counts as large.
    """
    file = io.BytesIO()
    if not _is_near(value, least):
        Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
        return file.getbuffer(), []
    pickler = _Pickler(file, buffers, least)
    pickler.dump(value)
    return file.getbuffer(), [memoryview(found) for found in pickler.found]


def _is_near(value: Any, least: int) -> bool:
    kind = type(value)
    if kind is bytes or kind is bytearray:
        return len(value) >= least
    members: Iterable[Any] = ()
    if kind is list or kind is tuple:
        members = value
    elif kind is dict:
        members = value.values()
    return any(
        (type(member) is bytes or type(member) is bytearray) and len(member) >= least
        for member in members
    )


class _Pickler(Pickler):
    def __init__(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer], least: int) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self._least = least
        self._numbers: dict[int, int] = {}
        self.found: list[bytes | bytearray] = []

    def persistent_id(self, value: Any) -> tuple[int, bool] | None:
        kind = type(value)
        if (kind is not bytes and kind is not bytearray) or len(value) < self._least:
            return None
        number = self._numbers.setdefault(id(value), len(self.found))
        if number == len(self.found):
            self.found.append(value)  # also keeps its id its own
        return number, kind is bytearray


class Unpickler(pickle.Unpickler):
    """Reads what ``dump`` returned; one object per bytes object, as before."""

    def __init__(
        self, data: bytes | memoryview, octets: Sequence[bytes | memoryview], buffers: Iterable[Any]
    ) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._octets = octets
        self._made: dict[int, bytes | bytearray] = {}

    def persistent_load(self, pid: tuple[int, bool]) -> bytes | bytearray:
        """Return a large bytes object."""
        number, mutable = pid
        if number not in self._made:
            data = self._octets[number]
            self._made[number] = bytearray(data) if mutable else bytes(data)
        return self._made[number]
