"""What a value holds: the path from a value that cannot be pickled to the part that is to blame."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Any, NamedTuple

__all__ = ["Member", "members"]


class Member(NamedTuple):
    """One part of a value."""

    path: str  # what a message adds to the owner's path: "[0]", ".lock", " closure variable 'lock'"
    name: str
    value: Any


def members(value: Any) -> list[Member]:
    """Return the parts of a value that are pickled with it."""
    if isinstance(value, dict):
        return [Member(f"[{key!r}]", str(key), member) for key, member in value.items()]
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [Member(f"[{index}]", str(index), member) for index, member in enumerate(value)]
    if inspect.isfunction(value):
        return list(_of_function(value))
    if inspect.ismethod(value):
        return [Member(".__self__", "__self__", value.__self__), *_of_function(value.__func__)]
    skipped = ("__dict__", "__weakref__")  # a class's own descriptors are never pickled
    held = getattr(value, "__dict__", {}).items()
    return [Member(f".{name}", name, member) for name, member in held if name not in skipped]


def _of_function(function: Any) -> Iterator[Member]:
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        yield Member(f" closure variable {name!r}", name, _contents(cell))
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        yield Member(f" global variable {name!r}", name, function.__globals__[name])
    for number, default in enumerate(function.__defaults__ or ()):
        yield Member(f" default {number}", f"default {number}", default)
    for name, default in (function.__kwdefaults__ or {}).items():
        yield Member(f" default of {name!r}", name, default)


def _names(code: CodeType) -> set[str]:
    """Return the global names that a function and the functions inside it may use."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None
