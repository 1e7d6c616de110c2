"""Checks a history against the order that the actor itself tells: linear in its length.

The actor numbers the calls of one state. If the calls, replayed in that order, give the results
that were seen, and no call is placed before one that had returned when it was made, then the
history is linearizable, and the order is the proof.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .model import FRESH, State, step

__all__ = ["Applied", "replay"]


class Applied(NamedTuple):
    """One call at its place in the order. ``returned`` is 0 where no result reached the caller."""

    ordinal: int
    caller: str
    number: int
    method: str
    operand: int
    result: Any
    invoked: int  # ns
    returned: int  # ns

    def __str__(self) -> str:
        return f"call {self.number} of {self.caller} ({self.method} {self.operand})"


def replay(order: Sequence[Applied], *, by_caller: bool = True, start: State = FRESH) -> list[str]:
    """Return what contradicts the model, in words; ``order`` is ascending by ordinal.

    ``by_caller``: the calls of one caller must be in their order, too.
    """
    return [
        *_gaps(order),
        *_wrong_results(order, start),
        *_against_time(order),
        *(_out_of_order(order) if by_caller else _doubled(order)),
    ]


def _gaps(order: Iterable[Applied]) -> list[str]:
    """The numbering must have neither holes nor doubles: nothing is lost, nothing runs twice."""
    return [
        f"place {expected} in the order is missing or taken twice: found {call.ordinal}, {call}"
        for expected, call in enumerate(order, 1)
        if call.ordinal != expected
    ][:1]


def _wrong_results(order: Iterable[Applied], state: State) -> list[str]:
    faults = []
    for call in order:
        state, result = step(state, call.method, call.operand)
        if result != call.result:
            faults.append(f"{call} gave {call.result} where the model gives {result}")
    return faults[:3]


def _against_time(order: Sequence[Applied]) -> list[str]:
    """No call may stand behind one that was made only after it had returned."""
    faults = []
    earliest: Applied | None = None  # of those behind, the one that returned first
    for call in reversed(order):
        if earliest is not None and earliest.returned < call.invoked:
            faults.append(f"{earliest} had returned before {call} was made, but stands behind it")
        if call.returned and (earliest is None or call.returned < earliest.returned):
            earliest = call
    return faults[:3]


def _out_of_order(order: Iterable[Applied]) -> list[str]:
    faults = []
    last: dict[str, int] = {}
    for call in order:
        before = last.get(call.caller, 0)
        if call.number <= before:
            faults.append(f"{call} stands behind call {before} of the same caller")
        last[call.caller] = max(before, call.number)
    return faults[:3]


def _doubled(order: Iterable[Applied]) -> list[str]:
    seen: set[tuple[str, int]] = set()
    faults = []
    for call in order:
        if (call.caller, call.number) in seen:
            faults.append(f"{call} was applied twice")
        seen.add((call.caller, call.number))
    return faults[:3]
