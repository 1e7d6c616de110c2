"""What an actor of the chaos run ought to do: a counter and a register, call after call."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["FRESH", "METHODS", "State", "step"]


class State(NamedTuple):
    """The state of one actor."""

    total: int = 0
    register: int = 0


FRESH = State()
METHODS = ("add", "swap", "read")


def step(state: State, method: str, operand: int) -> tuple[State, Any]:
    """Return the state after a call, and the result that the call must have."""
    if method == "add":
        return State(state.total + operand, state.register), state.total + operand
    if method == "swap":
        return State(state.total, operand), state.register
    return state, [state.total, state.register]
