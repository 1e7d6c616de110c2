"""The pickler of every value and every class: cloudpickle, and what a user registered."""

from __future__ import annotations

import io
from collections import ChainMap
from collections.abc import Callable
from types import CodeType
from typing import Any, ClassVar, TypeVar

import cloudpickle

__all__ = ["Pickler", "deregister_serializer", "dumps", "register_serializer"]

T = TypeVar("T")

#: By exact class, as pickle looks it up: how this process takes an instance apart.
_reducers: dict[type, Callable[[Any], tuple[Any, ...]]] = {}


#: What cloudpickle puts in the place of a code object's file name, from version 3.1.3 on.
_NO_FILE = "<dynamic-code>"
_reduce_code = cloudpickle.Pickler.dispatch_table[CodeType]


def _code_with_file(code: CodeType) -> tuple[Any, ...]:
    """Take a code object apart, file name and all: tracebacks of a worker show it."""
    make, words, *rest = _reduce_code(code)
    return (make, tuple(code.co_filename if word == _NO_FILE else word for word in words), *rest)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types
    """cloudpickle's pickler, with the registered serialisers before everybody else's."""

    dispatch_table: ClassVar[ChainMap[type, Any]] = ChainMap(
        _reducers, {CodeType: _code_with_file}, *cloudpickle.Pickler.dispatch_table.maps
    )


def dumps(value: Any) -> bytes:
    """Return the pickle of a value, buffers within."""
    with io.BytesIO() as file:
        Pickler(file, protocol=5).dump(value)
        return file.getvalue()


def register_serializer(
    cls: type[T], *, serializer: Callable[[T], Any], deserializer: Callable[[Any], T]
) -> None:
    """Let this process send instances of ``cls`` in a form of your own.

    Instances of exactly this class are covered, not those of its subclasses. ``serializer`` turns
    an instance into something that can be pickled; ``deserializer`` travels with each value and
    makes an instance of that again, in whichever process opens it. A registration holds for the
    process that makes it: workers that send such instances register them, too.

    Raises:
        TypeError: ``cls`` is no class, or one of the functions cannot be called.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer() takes a class, not {type(cls).__name__}: {cls!r}")
    for name, function in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(function):
            raise TypeError(
                f"the {name} of {cls.__name__} must be a function, not {type(function).__name__}"
            )
    _reducers[cls] = lambda instance: (deserializer, (serializer(instance),))


def deregister_serializer(cls: type) -> None:
    """Forget this process's serialiser of ``cls``; does nothing where there is none."""
    _reducers.pop(cls, None)
