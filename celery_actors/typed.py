"""What type checkers know of ``.remote`` and ``.call``: an argument is a value or a reference.

Nothing here runs in a call. The decorators give a method its type for checkers and return it
unchanged. A parameter can be a reference where the arguments are given by position, up to ten of
them (four for ``handle.call``); with keywords, or with more, the function's own signature counts.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Protocol,
    TypeVar,
    cast,
    final,
    overload,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from typing import TypeAlias

    # The default is what lets people write ActorClass[T]. Python has it from 3.13.
    from typing_extensions import ParamSpec

    from .actor import ActorClass
    from .function import RemoteFunction
    from .handle import ActorHandle
    from .object_ref import ObjectRef
    from .object_ref_generator import ObjectRefGenerator

    Init = ParamSpec("Init", default=...)
    _V = TypeVar("_V")
    #: A value, or the reference to one.
    V: TypeAlias = _V | ObjectRef[_V]
else:
    from typing import ParamSpec

    Init = ParamSpec("Init")

__all__ = ["Init", "TypedClass", "class_call", "function_call", "handle_call"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
K = TypeVar("K")
M = TypeVar("M")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
X = TypeVar("X")
Y = TypeVar("Y")
#: The function or class behind a ``.remote``, as a ``Callable`` that returns what ``.remote`` does.
Shape_co = TypeVar("Shape_co", covariant=True)

# fmt: off


class Submit(Protocol[Shape_co]):
    """A ``.remote``: takes what its function takes, or references, and returns at once."""

    @overload
    def __call__(self: Submit[Callable[[A], X]], a: V[A], /) -> X: ...
    @overload
    def __call__(self: Submit[Callable[[A, B], X]], a: V[A], b: V[B], /) -> X: ...
    @overload
    def __call__(self: Submit[Callable[[A, B, C], X]], a: V[A], b: V[B], c: V[C], /) -> X: ...
    @overload
    def __call__(
        self: Submit[Callable[[A, B, C, D], X]], a: V[A], b: V[B], c: V[C], d: V[D], /
    ) -> X: ...
    @overload
    def __call__(
        self: Submit[Callable[[A, B, C, D, E], X]], a: V[A], b: V[B], c: V[C], d: V[D], e: V[E], /
    ) -> X: ...
    @overload
    def __call__(
        self: Submit[Callable[[A, B, C, D, E, F], X]], a: V[A], b: V[B], c: V[C], d: V[D],
        e: V[E], f: V[F], /
    ) -> X: ...
    @overload
    def __call__(
        self: Submit[Callable[[A, B, C, D, E, F, G], X]], a: V[A], b: V[B], c: V[C], d: V[D],
        e: V[E], f: V[F], g: V[G], /
    ) -> X: ...
    @overload
    def __call__(
        self: Submit[Callable[[A, B, C, D, E, F, G, H], X]], a: V[A], b: V[B], c: V[C], d: V[D],
        e: V[E], f: V[F], g: V[G], h: V[H], /
    ) -> X: ...
    @overload
    def __call__(
        self: Submit[Callable[[A, B, C, D, E, F, G, H, K], X]], a: V[A], b: V[B], c: V[C],
        d: V[D], e: V[E], f: V[F], g: V[G], h: V[H], k: V[K], /
    ) -> X: ...
    @overload
    def __call__(
        self: Submit[Callable[[A, B, C, D, E, F, G, H, K, M], X]], a: V[A], b: V[B], c: V[C],
        d: V[D], e: V[E], f: V[F], g: V[G], h: V[H], k: V[K], m: V[M], /
    ) -> X: ...
    @overload
    def __call__(
        self: Submit[Callable[P, X]], *args: P.args, **kwargs: P.kwargs
    ) -> X: ...


class CallOn(Protocol[T_co]):
    """A ``handle.call``: takes a method of the handle's class, then its arguments."""

    @overload
    def __call__(
        self, method: Callable[[T_co, A], Coroutine[Any, Any, R]], a: V[A], /
    ) -> ObjectRef[R]: ...
    @overload
    def __call__(
        self, method: Callable[[T_co, A, B], Coroutine[Any, Any, R]], a: V[A], b: V[B], /
    ) -> ObjectRef[R]: ...
    @overload
    def __call__(
        self, method: Callable[[T_co, A, B, C], Coroutine[Any, Any, R]], a: V[A], b: V[B],
        c: V[C], /
    ) -> ObjectRef[R]: ...
    @overload
    def __call__(
        self, method: Callable[[T_co, A, B, C, D], Coroutine[Any, Any, R]], a: V[A], b: V[B],
        c: V[C], d: V[D], /
    ) -> ObjectRef[R]: ...
    @overload
    def __call__(
        self, method: Callable[Concatenate[T_co, P], Coroutine[Any, Any, R]],
        /, *args: P.args, **kwargs: P.kwargs
    ) -> ObjectRef[R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, method: Callable[Concatenate[T_co, P], Iterator[Y] | AsyncIterator[Y]],
        /, *args: P.args, **kwargs: P.kwargs
    ) -> ObjectRefGenerator[Y]: ...
    @overload
    def __call__(self, method: Callable[[T_co, A], R], a: V[A], /) -> ObjectRef[R]: ...
    @overload
    def __call__(self, method: Callable[[T_co, A, B], R], a: V[A], b: V[B], /) -> ObjectRef[R]: ...
    @overload
    def __call__(
        self, method: Callable[[T_co, A, B, C], R], a: V[A], b: V[B], c: V[C], /
    ) -> ObjectRef[R]: ...
    @overload
    def __call__(
        self, method: Callable[[T_co, A, B, C, D], R], a: V[A], b: V[B], c: V[C], d: V[D], /
    ) -> ObjectRef[R]: ...
    @overload
    def __call__(
        self, method: Callable[Concatenate[T_co, P], R],
        /, *args: P.args, **kwargs: P.kwargs
    ) -> ObjectRef[R]: ...


# fmt: on


@final
class _Unknown:
    """What nothing is but ``Any``: a function that may return anything is no generator."""


class _FunctionCall(Protocol):
    @overload
    def __get__(
        self, instance: RemoteFunction[Callable[P, _Unknown]], owner: Any, /
    ) -> Submit[Callable[P, ObjectRef[Any]]]: ...
    @overload
    def __get__(
        self, instance: RemoteFunction[Callable[P, Iterator[Y]]], owner: Any, /
    ) -> Submit[Callable[P, ObjectRefGenerator[Y]]]: ...
    @overload
    def __get__(
        self, instance: RemoteFunction[Callable[P, R]], owner: Any, /
    ) -> Submit[Callable[P, ObjectRef[R]]]: ...


class _ClassCall(Protocol):
    def __get__(
        self, instance: ActorClass[T, P], owner: Any, /
    ) -> Submit[Callable[P, ActorHandle[T]]]: ...


class _HandleCall(Protocol):
    def __get__(self, instance: ActorHandle[T], owner: Any, /) -> CallOn[T]: ...


def function_call(method: Callable[..., Any]) -> _FunctionCall:
    """Give ``RemoteFunction.remote`` its type."""
    return cast("_FunctionCall", method)


def class_call(method: Callable[..., Any]) -> _ClassCall:
    """Give ``ActorClass.remote`` its type."""
    return cast("_ClassCall", method)


def handle_call(method: Callable[..., Any]) -> _HandleCall:
    """Give ``ActorHandle.call`` its type."""
    return cast("_HandleCall", method)


if TYPE_CHECKING:

    class TypedClass(Generic[T, Init]):
        """Knows the class ``T`` and the parameters of its constructor."""

else:

    class TypedClass:
        """Takes type parameters: one for people, two for checkers."""

        __class_getitem__ = classmethod(types.GenericAlias)
