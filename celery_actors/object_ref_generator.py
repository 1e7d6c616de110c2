"""The values of a generator that runs elsewhere, one reference after the other."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from .object_ref import ObjectRef

if TYPE_CHECKING:
    from .several import Several

__all__ = ["ObjectRefGenerator"]

R = TypeVar("R")


class ObjectRefGenerator(Generic[R]):
    """Gives the references of a streaming call's values, each as soon as its value was yielded.

    ``for ref in generator`` and ``async for ref in generator`` end with the call. An exception of
    the call is raised by its last reference. Dropping the generator frees the values that were not
    taken; the call goes on, except where it waits for its reader
    (``_generator_backpressure_num_objects``): there it is closed.
    """

    def __init__(self, call: ObjectRef[Any], several: Several, *, limited: bool) -> None:
        self._call = call
        self._several = several
        self._limited = limited  # the call waits for us when it is too far ahead
        self._channel = ""  # where its worker hears how far we are
        self._here: dict[int, ObjectRef[R]] = {}  # values that came and were not taken
        self._known = 0  # every value up to this one came
        self._taken = 0
        self._over = False
        self._order = threading.Lock()
        # What whoever waits looks at, as in a reference (``Results.wait``).
        self.failed = False
        self._callbacks: list[Callable[[Any], None]] | None = None
        self._watched = True
        weak = weakref.ref(self)

        def ended(_call: ObjectRef[Any]) -> None:
            generator = weak()
            if generator is not None:
                generator._wake()

        call._callbacks = [ended]

    # -- reading ---------------------------------------------------------------------------

    def __iter__(self) -> ObjectRefGenerator[R]:
        return self

    def __next__(self) -> ObjectRef[R]:
        while True:
            ref = self._take()
            if ref is not None:
                return ref
            self._several.wait(self)

    def __aiter__(self) -> ObjectRefGenerator[R]:
        return self

    async def __anext__(self) -> ObjectRef[R]:
        while True:
            try:
                ref = self._take()
            except StopIteration:
                raise StopAsyncIteration from None
            if ref is not None:
                return ref
            await self._several.arrival(self)

    @property
    def ready(self) -> bool:
        """True when the next reference, or the end, is here."""
        return self._taken + 1 in self._here or self._call.ready

    def next_ready(self) -> bool:
        """Tell whether ``next`` would return, or stop, without waiting."""
        return self.ready

    def is_finished(self) -> bool:
        """Tell whether every reference was taken and the call is over."""
        if self._over:
            return True
        call = self._call
        return call.ready and not call.failed and self._taken >= self._several.count(call)

    def completed(self) -> ObjectRef[None]:
        """Return the reference of the call itself: ``get`` of it waits for the end.

        It raises what the call raised.
        """
        return self._call

    def _take(self) -> ObjectRef[R] | None:
        """Return the next reference; None if it is not here yet.

        Raises:
            StopIteration: there is none any more.
        """
        over = self._call.ready  # looked at first: values come before the end
        with self._order:
            ref = self._here.pop(self._taken + 1, None)
            if ref is None and over:
                ref = self._at_end()
            if ref is None:
                return None
            self._taken += 1
        if self._limited:
            self._tell(ref)
        return ref

    def _at_end(self) -> ObjectRef[R]:
        if self._over:
            raise StopIteration
        ref = self._several.last(self._call, self._taken + 1)
        self._over = ref is None or (ref.failed and self._call.failed)
        if ref is None:
            raise StopIteration
        return ref

    def _tell(self, ref: ObjectRef[R]) -> None:
        self._channel = self._several.worker_of(ref) or self._channel
        if self._channel:
            self._several.tell(self._channel, self._call.id, self._taken)

    # -- called by the thread that reads -----------------------------------------------------

    def missing(self) -> int | None:
        """Return the number of the first value that has not come; None once the call is over."""
        return None if self._call.ready else self._known + 1

    def admit(self, ref: ObjectRef[R], number: int) -> bool:
        """Take in a value that came; False for one that came before."""
        with self._order:
            if number <= self._known or number in self._here:
                return False
            self._here[number] = ref
            while self._known + 1 in self._here:
                self._known += 1
        self._wake()
        return True

    def asked(self, channel: str) -> int:
        """Return how many values were taken; ``channel`` is where the worker hears it from now."""
        self._channel = channel
        return self._taken

    def _wake(self) -> None:
        callbacks, self._callbacks = self._callbacks, None
        if callbacks:
            for callback in callbacks:
                callback(self)
            self._several.wake_waiting()

    # --------------------------------------------------------------------------------------

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an ObjectRefGenerator cannot be passed on: its values come to the process that made "
            "the call. Pass the references that it gives"
        )

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._call.hex()})"
