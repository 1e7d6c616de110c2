"""Checks a history that only its callers saw: is there any order that explains it?

The search of Wing and Gong with Lowe's memory: of the calls that no other one has to precede, try
each as the next; a set of calls and a state that failed once are not tried again. The search is
exponential in how many calls overlap, so it is for slices of one actor's history; the whole of it
goes through ``witness.py``. Calls of unknown outcome overlap all that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .model import FRESH, State, step

__all__ = ["Operation", "UndecidedError", "is_linearizable"]

#: Sets of calls that are tried before the search is given up: about three seconds.
MOST_TRIED = 100_000


class UndecidedError(Exception):
    """Raised when a slice has too many overlapping calls for the search."""


class Operation(NamedTuple):
    """One call. ``returned`` None: nobody knows whether it happened, or when if it did."""

    invoked: int
    returned: int | None
    method: str
    operand: int
    result: Any = None


class _Node:
    """A begin or an end in a doubly linked list, from which tried calls are lifted."""

    __slots__ = ("after", "before", "end", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.end: _Node | None = None  # of a begin: the end of the same call, if it has one
        self.before: _Node | None = None
        self.after: _Node | None = None

    def lift(self) -> None:
        """Take the node out, and with a begin its end."""
        if self.before is not None:
            self.before.after = self.after
        if self.after is not None:
            self.after.before = self.before
        if self.end is not None:
            self.end.lift()

    def put_back(self) -> None:
        """Undo ``lift``; to be called in the opposite order."""
        if self.end is not None:
            self.end.put_back()
        if self.before is not None:
            self.before.after = self
        if self.after is not None:
            self.after.before = self


def _line_up(operations: Sequence[Operation]) -> _Node:
    """Return the head of the list of begins and ends, in the order of time."""
    events: list[tuple[int, int, _Node]] = []
    for number, operation in enumerate(operations):
        begin = _Node(number)
        events.append((operation.invoked, 0, begin))  # at the same moment: a begin comes first
        if operation.returned is not None:
            begin.end = _Node(-1)
            events.append((operation.returned, 1, begin.end))
    head = last = _Node(-1)
    for _, _, node in sorted(events, key=lambda event: event[:2]):
        last.after, node.before = node, last
        last = node
    return head


def is_linearizable(operations: Sequence[Operation], start: State = FRESH) -> bool:
    """Tell whether some order of the calls fits both the model and the time.

    Raises:
        UndecidedError: the search became too long.
    """
    head = _line_up(operations)
    missing = sum(operation.returned is not None for operation in operations)
    state, done = start, 0  # done: one bit for each call that has its place
    tried: set[tuple[int, State]] = set()
    steps: list[tuple[_Node, State]] = []
    node = head.after
    while missing:
        if node is not None and node.number >= 0:
            operation = operations[node.number]
            known = operation.returned is not None
            following, result = step(state, operation.method, operation.operand)
            mark = (done | 1 << node.number, following)
            if (not known or result == operation.result) and mark not in tried:
                tried.add(mark)
                if len(tried) > MOST_TRIED:
                    raise UndecidedError(f"{len(operations)} calls, {missing} of them not placed")
                steps.append((node, state))
                state, done = following, mark[0]
                node.lift()
                missing -= known
                node = head.after
            else:
                node = node.after
            continue
        # The end of a call that has no place yet: the last choice was wrong.
        if not steps:
            return False
        node, state = steps.pop()
        done ^= 1 << node.number
        missing += operations[node.number].returned is not None
        node.put_back()
        node = node.after
    return True
