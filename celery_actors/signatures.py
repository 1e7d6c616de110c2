"""Signatures of methods and functions: checked in the caller, carried by handles."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Signature", "name_of"]


class _Some:
    """Stands for a default, which stays at home."""

    def __repr__(self) -> str:
        return "…"


_SOME = _Some()

_KINDS = {int(kind): kind for kind in (
    inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Signature:
    """Names and kinds of parameters, without annotations and defaults, so it always pickles."""

    parameters: tuple[tuple[str, int, bool], ...] | None  # (name, kind, has a default); None: any

    @classmethod
    def of(cls, function: Callable[..., Any], *, skip_first: bool) -> Signature:
        """Read a function's signature; ``skip_first`` leaves out ``self``."""
        try:
            found = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # built in C, no signature to check against
            return cls(None)
        if skip_first and found and found[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            found = found[1:]
        return cls(tuple((p.name, int(p.kind), p.default is not p.empty) for p in found))

    def positional_bounds(self) -> tuple[int, int]:
        """Return (least, most) positional arguments of a call without keywords."""
        if self.parameters is None:
            return 0, 1_000_000
        least = most = 0
        for _name, kind, has_default in self.parameters:
            if kind == inspect.Parameter.VAR_POSITIONAL:
                most = 1_000_000
            elif kind == inspect.Parameter.KEYWORD_ONLY:
                if not has_default:
                    return 1, 0  # a keyword is required: never the quick way
            elif kind != inspect.Parameter.VAR_KEYWORD:
                most += 1
                least += not has_default
        return least, most

    def check(self, what: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Bind the arguments as Python would.

        Raises:
            TypeError: they do not fit; the message names the function.
        """
        if self.parameters is None:
            return
        signature = inspect.Signature(
            [
                inspect.Parameter(
                    name,
                    _KINDS[kind],
                    default=_SOME if has_default else inspect.Parameter.empty,
                )
                for name, kind, has_default in self.parameters
            ]
        )
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{what}: {error}. Its signature is {signature}") from None


def name_of(function: Any) -> str:
    """Return the name by which people know a function; a partial one has that of its function."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(function.__qualname__).replace("<locals>.", "")
