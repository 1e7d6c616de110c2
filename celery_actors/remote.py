"""``@remote``, on a class or a function, bare or with options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, get_origin, overload

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
from .runtime import Binding
from .typed import Init

if TYPE_CHECKING:
    from functools import _Wrapped

__all__ = ["make", "method", "remote"]

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class _Coded(Protocol):
    """A function, for type checkers: unlike a class it has code of its own."""

    @property
    def __code__(self) -> CodeType: ...


Function = TypeVar("Function", bound=_Coded)

# A class is callable, too: it is what none of the others takes. Checkers are told so in this order.
# fmt: off


class _Decorator(Protocol):
    """What ``remote(num_cpus=2)`` returns."""

    @overload
    def __call__(self, target: Function, /) -> RemoteFunction[Function]: ...
    @overload
    def __call__(self, target: _Wrapped[Any, Any, P, R], /) -> RemoteFunction[Callable[P, R]]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, target: functools.partial[R], /) -> RemoteFunction[Callable[..., R]]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, target: Callable[Init, T], /) -> ActorClass[T, Init]: ...  # type: ignore[overload-cannot-match]


@overload
def remote(target: Function, /) -> RemoteFunction[Function]: ...
@overload
def remote(target: _Wrapped[Any, Any, P, R], /) -> RemoteFunction[Callable[P, R]]: ...  # type: ignore[overload-overlap]
@overload
def remote(target: functools.partial[R], /) -> RemoteFunction[Callable[..., R]]: ...  # type: ignore[overload-overlap]
@overload
def remote(target: Callable[Init, T], /) -> ActorClass[T, Init]: ...  # type: ignore[overload-cannot-match]
@overload
def remote(**options: Any) -> _Decorator: ...
# fmt: on
def remote(*targets: Any, **options: Any) -> Any:
    """Make an actor class of a class, or a remote function of a function.

    Use it bare (``@remote``), with options (``@remote(num_cpus=2)``), or as a function
    (``CounterActor = remote(Counter)``, the form that every type checker understands).

    Raises:
        TypeError: the target is neither a class nor a function, or empty parentheses were used.
        ValueError: an unknown option or an impossible value.
    """
    if len(targets) == 1 and not options:
        return make(targets[0], {})
    if targets or not options:
        raise TypeError(
            "The @remote decorator must be applied without parentheses (@remote) or with named "
            "options (@remote(num_cpus=2))."
        )
    return lambda target: make(target, options)


def make(target: Any, options: dict[str, Any], bind: Binding | None = None) -> Any:
    """Make an actor class or a remote function; ``bind`` finds the cluster that it belongs to.

    Raises:
        TypeError, ValueError: as ``remote``.
    """
    target = get_origin(target) or target  # Box[int] is the class Box
    if isinstance(target, ActorClass | RemoteFunction):
        raise TypeError(
            f"{target!r} is remote already: use its .options(), or apply @remote to what it was "
            "made of"
        )
    if inspect.isclass(target):
        return ActorClass(target, actor_options(ActorOptions(), options), bind)
    if inspect.isroutine(target) or isinstance(target, functools.partial):
        return RemoteFunction(target, function_options(FunctionOptions(), options), bind)
    raise TypeError(
        f"The @remote decorator must be applied to either a function or a class, not to "
        f"{type(target).__name__}. To run an object, make a function that calls it"
    )


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
