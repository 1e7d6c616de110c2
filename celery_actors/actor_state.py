"""The state of a durable actor as one signed value: taken from its instance, and put back.

It is the pickle of the instance, so a class's own ``__getstate__``, ``__setstate__`` and
``__reduce__`` count. The class itself is left out: a process that starts the actor has it already.
On the wire: a signature, then a line of JSON (``v``: the class's ``__state_version__``, ``n``: the
calls that it holds the effects of, where they are counted, ``h``: the ties of the handles and
references within, see ``tokens``), then the pickle. Nothing is unpickled before its signature is
verified.
"""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from .contents import collecting
from .errors import SerializationError, StateRefusedError
from .pickling import Pickler
from .serialization import SIGNATURE_BYTES, Sealer
from .unreadable import UNREADABLE

__all__ = ["STATE_BYTES", "ActorState", "Loaded", "Taken", "ties_of"]

#: The largest state: a server takes 512 MB in one string, and each commit writes the whole.
STATE_BYTES = 256 * 1024 * 1024


class _Header(msgspec.Struct, omit_defaults=True):
    v: int = 0
    n: int = 0
    h: list[str] = []


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(_Header).decode


class Loaded(NamedTuple):
    """What a stored state gives: the instance, the ties of what it refers to, the calls in it."""

    instance: Any
    ties: list[str]
    calls: int
    migrated: bool  # it was of another version


class Taken(NamedTuple):
    """A pickled instance, and the things (see ``tokens``) that it refers to."""

    data: bytes
    things: list[str]


class _Loading(threading.local):
    cls: type | None = None


_loading = _Loading()


def _own_class() -> type:
    """Stand for the actor's class in a state."""
    if _loading.cls is None:
        raise pickle.UnpicklingError("an actor's state is read by its own process only")
    return _loading.cls


class _StatePickler(Pickler):
    def __init__(self, file: io.BytesIO, cls: type) -> None:
        super().__init__(file, protocol=5)
        self._cls = cls

    def reducer_override(self, obj: Any) -> Any:
        if obj is self._cls:
            return _own_class, ()
        return super().reducer_override(obj)


class _Before:
    """Takes in what an instance of an older version of the class was."""

    state: Any = None

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _Before:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class ActorState:
    """Takes instances of one actor's class apart and puts them together."""

    def __init__(self, cls: type, actor_id: str, title: str, sealer: Sealer) -> None:
        self._cls = cls
        self._context = ("state", actor_id)
        self._title = title
        self._sealer = sealer
        self._version = int(getattr(cls, "__state_version__", 0))

    def take(self, instance: Any) -> Taken:
        """Return the pickle of an instance.

        Raises:
            SerializationError: it cannot be pickled, or is too large.
        """
        with io.BytesIO() as file, collecting() as things:
            try:
                _StatePickler(file, self._cls).dump(instance)
            except Exception as error:  # the user's own __getstate__ and __reduce__ run here
                raise SerializationError(
                    f"the state of {self._title} cannot be pickled: {error}. The call was rolled "
                    "back. Leave what cannot be kept out of __getstate__()"
                ) from error
            data = file.getvalue()
        if len(data) > STATE_BYTES:
            raise SerializationError(
                f"the state of {self._title} has {len(data)} bytes, and {STATE_BYTES} is the most "
                "that is kept. The call was rolled back. Keep large values outside the state"
            )
        return Taken(data, list(things))

    def sign(self, data: bytes, ties: list[str], calls: int = 0) -> bytes:
        """Return a pickled instance as it is stored."""
        body = b"%b\n%b" % (_encode(_Header(self._version, calls, ties)), data)
        return self._sealer.sign(body, self._context)

    def load(self, stored: bytes) -> Loaded:
        """Return the instance that a stored state holds.

        Raises:
            StateRefusedError: this class cannot take it. UntrustedPayloadError: it is not signed
                for this actor.
        """
        line, _, data = self._sealer.verified(stored, self._context).partition(b"\n")
        header = _decode_header(line)
        migrated = header.v != self._version
        instance = self._migrate(data, header.v) if migrated else self.restore(data)
        return Loaded(instance, header.h, header.n, migrated)

    def restore(self, data: bytes) -> Any:
        """Return the instance that ``take`` has pickled.

        Raises:
            StateRefusedError: this class cannot take it.
        """
        try:
            with _reading_as(self._cls):
                return pickle.loads(data)  # noqa: S301 - signed by us, see load
        except Exception as error:
            raise StateRefusedError(
                f"the state of {self._title} cannot be loaded ({type(error).__name__}: {error}). "
                "It is untouched. Has the class changed? Give it a __state_version__ and "
                "__migrate__(state, from_version)"
            ) from error

    def _migrate(self, data: bytes, before: int) -> Any:
        title = f"the state of {self._title} is of version {before}, its class of {self._version}"
        migrate = getattr(self._cls, "__migrate__", None)
        if migrate is None:
            raise StateRefusedError(
                f"{title}. The state is untouched: give the class a __migrate__(state, "
                "from_version) that returns the new state"
            )
        try:
            with _reading_as(_Before):
                old = pickle.loads(data)  # noqa: S301 - signed by us, see load
            state = migrate({} if old.state is None else old.state, before)
            make: Any = self._cls.__new__
            instance = make(self._cls)
            if hasattr(instance, "__setstate__"):
                instance.__setstate__(state)
            else:
                instance.__dict__.update(state)
        except Exception as error:
            raise StateRefusedError(
                f"{title}, and __migrate__ has failed ({type(error).__name__}: {error}). The state "
                "is untouched"
            ) from error
        return instance


@contextmanager
def _reading_as(cls: type) -> Iterator[None]:
    _loading.cls = cls
    try:
        yield
    finally:
        _loading.cls = None


def ties_of(stored: bytes) -> list[str]:
    """Return the ties of what a stored state refers to; none where it cannot be read.

    It is asked when an actor is buried: nothing that a stranger has written may keep it from that.
    """
    try:
        return _decode_header(stored[SIGNATURE_BYTES:].partition(b"\n")[0]).h
    except UNREADABLE:
        return []
