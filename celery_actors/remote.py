"""``@remote``, on a class or a function, bare or with options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from .actor import ActorClass
from .function import RemoteFunction
from .options import ActorOptions, FunctionOptions, actor_options, function_options

__all__ = ["remote"]

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


@overload
def remote(target: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap] # a class is callable, too
@overload
def remote(target: Callable[P, R], /) -> RemoteFunction[P, R]: ...
@overload
def remote(**options: Any) -> Callable[[Any], Any]: ...
def remote(*targets: Any, **options: Any) -> Any:
    """Make an actor class of a class, or a remote function of a function.

    Use it bare (``@remote``), with options (``@remote(num_cpus=2)``), or as a function
    (``CounterActor = remote(Counter)``, the form that every type checker understands).

    Raises:
        TypeError: the target is neither a class nor a function, or empty parentheses were used.
        ValueError: an unknown option or an impossible value.
    """
    if len(targets) == 1 and not options:
        return _make(targets[0], {})
    if targets or not options:
        raise TypeError(
            "The @remote decorator must be applied without parentheses (@remote) or with named "
            "options (@remote(num_cpus=2))."
        )
    return lambda target: _make(target, options)


def _make(target: Any, options: dict[str, Any]) -> Any:
    if inspect.isclass(target):
        return ActorClass(target, actor_options(ActorOptions(), options))
    if callable(target) and hasattr(target, "__qualname__"):
        return RemoteFunction(target, function_options(FunctionOptions(), options))
    raise TypeError(f"@remote works on a class or a function, not on {type(target).__name__}")
