"""Exceptions of two types at once: the package's own and the user's, made at raise time."""

from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, TypeVar

__all__ = ["arguments_of", "dual_error"]

E = TypeVar("E", bound=Exception)
_dual_types: dict[tuple[type[Exception], type[BaseException]], Any] = {}


def dual_error(base: type[E], cause: BaseException) -> E:
    """Return an uninitialised exception that is a ``base`` and of the cause's own type.

    It has the cause's attributes. ``base`` must set ``cause`` before anybody asks for more.

    Raises:
        Exception: whatever a type raises that does not want to be subclassed.
    """
    kind = type(cause)
    dual = _dual_types.get((base, kind))
    if dual is None:
        dual = _dual_types[base, kind] = _make(base, kind)
    if isinstance(cause, BaseExceptionGroup):  # what `except*` splits is set by its __new__ alone
        error: E = dual.__new__(dual, cause.message, cause.exceptions)
    else:
        error = dual.__new__(dual)
    error.__dict__.update(cause.__dict__)
    return error


def _make(base: type[Exception], kind: type[BaseException]) -> Any:
    def forward(self: Any, name: str) -> Any:
        if name.startswith("__") or name == "cause":
            raise AttributeError(name)
        return getattr(self.cause, name)

    members: dict[str, Any] = {"__getattr__": forward, "__module__": kind.__module__}
    for name in _stored_outside_dict(kind):
        members[name] = property(_reader(name))
    if issubclass(kind, BaseExceptionGroup):
        members["derive"] = lambda self, errors: self.cause.derive(errors)
    return type(f"{base.__name__}({kind.__name__})", (base, kind), members)


def arguments_of(error: BaseException) -> tuple[Any, ...]:
    """Return the arguments that Python keeps, also where the user's class has its own ``args``."""
    arguments: tuple[Any, ...] = vars(BaseException)["args"].__get__(error)
    return arguments


def _stored_outside_dict(kind: type[BaseException]) -> list[str]:
    """Return the attributes that live in C structures or slots, such as ``OSError.errno``."""
    classes = kind.__mro__[: kind.__mro__.index(BaseException)]
    return [
        name
        for cls in classes
        for name, value in vars(cls).items()
        if isinstance(value, GetSetDescriptorType | MemberDescriptorType)
        and not name.startswith("__")
    ]


def _reader(name: str) -> Any:
    return lambda self: getattr(self.cause, name)
