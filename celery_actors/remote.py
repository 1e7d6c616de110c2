"""``@remote``, on a class or a function, bare or with options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from .actor import ActorClass
from .function import RemoteFunction
from .methods import MARK
from .options import (
    ActorOptions,
    FunctionOptions,
    MethodOptions,
    actor_options,
    function_options,
    method_options,
)

__all__ = ["method", "remote"]

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


@overload
def method(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def method(**options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def method(*functions: Any, **options: Any) -> Any:
    """Set options of an actor's method: ``@method(num_returns=2)``; bare, it changes nothing.

    Raises:
        TypeError: something else than one function, or empty parentheses.
        ValueError: an unknown option or an impossible value.
    """
    if len(functions) == 1 and not options and callable(functions[0]):
        return functions[0]
    if functions or not options:
        raise TypeError(
            "The @method decorator must be applied without parentheses (@method) or with named "
            "options (@method(num_returns=2))."
        )
    if refused := {"name", "countdown", "eta"} & options.keys():
        raise ValueError(f"{sorted(refused)} belong to one call: give them to .options()")
    chosen = method_options(MethodOptions(), options)

    def mark(function: Any) -> Any:
        setattr(function, MARK, chosen)
        return function

    return mark
