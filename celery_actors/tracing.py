"""Where spans come from: what the call path asks of a tracer, while there is one.

``otel`` puts one here. Without one, a call costs a look at ``current`` on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from .messages import Message

__all__ = ["Sent", "Tracer"]

#: Takes the id of a call that is being sent; returns the headers that carry its trace.
Sent = Callable[[str], Mapping[str, str]]


class Tracer(Protocol):
    """Makes the spans of one process. What a worker asks of it raises nothing."""

    def sending(self, task: str, queue: str) -> AbstractContextManager[Sent]:
        """Stand around the sending of one call."""

    def begin(self, message: Message, label: str) -> None:
        """A call begins, in this thread or asyncio task."""

    def failed(self, call_id: str, error: BaseException) -> None:
        """The call came to this error: what it raised, or why it did not run."""

    def end(self, call_id: str, *, succeeded: bool) -> None:
        """A call ended, in the thread or task in which it began."""

    def close(self) -> None:
        """End the spans of calls that end with the process."""


#: The tracer of this process; None: nobody wants spans.
current: Tracer | None = None
