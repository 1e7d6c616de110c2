"""What a handle can call: the methods of a class, their signatures and their options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .messages import STREAMING
from .options import MethodOptions
from .signatures import Signature

__all__ = [
    "EVERY_ACTOR",
    "TERMINATE",
    "ActorTraits",
    "Method",
    "class_methods",
    "is_async_class",
    "is_stream",
    "own_options",
    "returns_of",
]

#: Where ``@method`` leaves the options of a method.
MARK: Final = "__celery_actors_method__"


@dataclass(frozen=True, slots=True)
class Method:
    """One method as callers know it. ``options``: what ``@method`` said, None for nothing.

    The exception types to retry on stay with the class: a handle must not drag them along.
    """

    signature: Signature
    stream: bool = False  # a generator: its values are fetched one by one
    options: MethodOptions | None = None

    @property
    def returns(self) -> int:
        """How many values a call gives, or STREAMING."""
        wanted = self.options.num_returns if self.options else None
        return returns_of(wanted, stream=self.stream)


@dataclass(frozen=True, slots=True)
class ActorTraits:
    """What callers and the actor's process must know of an actor, fixed at its creation."""

    methods: dict[str, Method]
    max_task_retries: int = 0
    max_pending_calls: int = -1
    blocks_when_full: bool = False
    is_async: bool = False
    max_concurrency: int = 1
    groups: dict[str, int] = field(default_factory=dict)
    out_of_order: bool = False
    task_events: bool = True
    durable: str = ""  # what its durability rests on, "state" or "journal"; empty: it has none
    commit_every: int = 1
    rollback_on_error: bool = False
    snapshot_every: int = 100
    idle_timeout: float | None = None  # seconds after which a durable actor's process ends

    @property
    def is_concurrent(self) -> bool:
        """True where calls may overlap."""
        return self.is_async or self.max_concurrency > 1 or bool(self.groups)


#: The method that ends an actor once the calls before it are done.
TERMINATE: Final = "__ray_terminate__"
#: Methods that every actor has, beside its class's own.
EVERY_ACTOR = {
    "__ray_ready__": Method(Signature(())),
    "__ray_call__": Method(Signature(None)),
    TERMINATE: Method(Signature(())),
}


def returns_of(wanted: int | str | None, *, stream: bool) -> int:
    """Return the number of values of a call, or STREAMING.

    Raises:
        ValueError: ``"streaming"`` for something that is not a generator.
    """
    if wanted is None:
        return STREAMING if stream else 1
    if isinstance(wanted, str):
        if not stream:
            raise ValueError(f"num_returns={wanted!r} is for generator functions and methods only")
        return STREAMING
    return wanted


def is_stream(function: Any) -> bool:
    """Tell whether calls of a function give their values one by one."""
    function = inspect.unwrap(function)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def own_options(function: Any) -> MethodOptions | None:
    """Return what ``@method`` said of a function."""
    found: MethodOptions | None = getattr(function, MARK, None)
    return found


def class_methods(cls: type) -> dict[str, Method]:
    """Return what a handle of this class can call: its functions, inherited ones too."""
    methods = {}
    for name, function, kind in _functions(cls):
        options = own_options(function)
        if options is not None and options.retry_exceptions is not None:
            options = replace(options, retry_exceptions=None)
        signature = Signature.of(function, skip_first=kind is None)
        methods[name] = Method(signature, is_stream(function), options)
    return methods


def is_async_class(cls: type) -> bool:
    """Tell whether a class makes async actors: one ``async def`` anywhere does."""
    constructor = inspect.getattr_static(cls, "__init__")
    functions = [constructor, *(function for _, function, _ in _functions(cls))]
    found = [inspect.unwrap(function) for function in functions]
    return any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in found)


def _functions(cls: type) -> list[tuple[str, Callable[..., Any], type | None]]:
    """Return (name, function, None or staticmethod or classmethod) of what can be called."""
    found: list[tuple[str, Callable[..., Any], type | None]] = []
    # Not dir(): a metaclass may hide names from it, as that of enumerations does.
    for name in sorted({name for kind in cls.__mro__ for name in vars(kind)}):
        static = inspect.getattr_static(cls, name)
        dunder = name.startswith("__") and name.endswith("__")
        if dunder and (name == "__init__" or not inspect.isfunction(static)):
            continue
        function = getattr(cls, name, None)
        if isinstance(static, staticmethod | classmethod) and function is not None:
            found.append((name, function, type(static)))
        elif inspect.isroutine(static) and function is not None:
            found.append((name, function, None))
    return found
