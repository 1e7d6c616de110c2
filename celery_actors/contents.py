"""What a value contains: handles and references note themselves while it is pickled."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

__all__ = ["collecting", "note"]


class _Found(threading.local):
    things: dict[str, None] | None = None


_found = _Found()


@contextlib.contextmanager
def collecting() -> Iterator[dict[str, None]]:
    """Collect the names of the things that are pickled inside, in this thread, in order."""
    outer = _found.things
    things: dict[str, None] = {}
    _found.things = things
    try:
        yield things
    finally:
        _found.things = outer


def note(thing: str) -> bool:
    """Note a thing that is being pickled; False where nobody collects: the pickle is the user's."""
    if _found.things is None:
        return False
    _found.things[thing] = None
    return True
