"""A reference to a value that is, or will be, in the store."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .contents import note
from .errors import ObjectLostError

if TYPE_CHECKING:
    from .calls import Target
    from .holdings import Hold
    from .messages import Meta
    from .results import Results
    from .serialization import Blob

__all__ = ["ObjectRef"]

R_co = TypeVar("R_co", covariant=True)


class ObjectRef(Generic[R_co]):
    """The result of a call or of ``put``. Hashable, picklable, awaitable.

    One object per value and process: unpickling a ref that is held already gives that one.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_call",
        "_callbacks",
        "_error",
        "_hold",
        "_id",
        "_lineage",
        "_lost",
        "_meta",
        "_owned",
        "_parent",
        "_sequence",
        "_shared",
        "_stored",
        "_table",
        "_target",
        "_watched",
        "ready",
    )  # fmt: skip

    _id: str
    _table: Results

    def __init__(self, call_id: str, table: Results, *, owned: bool) -> None:
        self._id = call_id
        self._table = table
        self._owned = owned  # this process submitted the call: results come by its channel
        self._shared = False  # pickled: others may hold it, so its last local holder frees nothing
        self._hold: Hold | None = None  # keeps the value alive; a value of our own needs none
        self._stored = False  # the store had the value when this reference was made
        self._lost: list[Blob] = []  # what a value kept that was found lost: older news tell of it
        self._asked = 0.0  # when it was found lost, and its owner asked to make it again
        self._watched = owned
        self._target: Target | None = None  # where the call was sent, until its result is here
        self._sequence = 0  # its number among this process's calls to that target
        #: The call's target and message, and what keeps its arguments: to make a lost value again.
        self._lineage: tuple[Target, bytes, list[Any]] | None = None
        self._parent = ""  # the call that made this one
        self._call: ObjectRef[Any] | None = None  # of one of several values: the call itself
        self.ready = False  # the value or an error has arrived in this process
        self._meta: Meta | None = None
        self._error: Exception | None = None
        self._callbacks: list[Callable[[ObjectRef[Any]], None]] | None = None

    def hex(self) -> str:
        """Return the id as hexadecimal digits."""
        call_id, _, number = self._id.partition(".")
        return call_id.replace("-", "") + (f"{int(number):08x}" if number else "")

    def binary(self) -> bytes:
        """Return the id as bytes."""
        return bytes.fromhex(self.hex())

    def size(self) -> int:
        """Return how many bytes the id has."""
        return len(self.binary())

    def is_nil(self) -> bool:
        """Tell whether it names nothing; there is no such reference."""
        return False

    @property
    def id(self) -> str:
        """The Celery task id: ``AsyncResult(ref.id, app=app).get()`` returns the value.

        For value ``k`` of several, counted from 1, it is ``<id of the call>.<k>``.
        """
        return self._id

    @property
    def table(self) -> Results:
        """Where it is kept in this process."""
        return self._table

    def task_id(self) -> str:
        """Return the Celery task id of the call."""
        return self._id.partition(".")[0]

    @property
    def is_stored(self) -> bool:
        """True when the store is known to have had the value: if it has not now, it is lost."""
        if self._meta is None or (self._call is not None and self.failed):
            return self._stored
        return True

    @property
    def failed(self) -> bool:
        """True when the call is known to have failed."""
        if self._error is not None:
            return True
        return self._meta is not None and self._meta.status != "SUCCESS"

    def plain_json(self) -> bytes | None:
        """Return the value as JSON where it is here, small and plain; else None."""
        if self._meta is None or self._meta.status != "SUCCESS":
            return None
        raw = bytes(self._meta.result)
        return raw if len(raw) < 4096 and not raw.startswith(b'{"__type__"') else None

    def future(self) -> concurrent.futures.Future[R_co]:
        """Return a ``concurrent.futures.Future`` for the value."""
        future: concurrent.futures.Future[R_co] = concurrent.futures.Future()

        def deliver(ref: ObjectRef[Any]) -> None:
            if not future.running() and not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(self._table.value(ref))
            except ObjectLostError as error:
                self._again(deliver, future.set_exception, error)
            except Exception as error:  # noqa: BLE001 - the user's own exception is the result
                future.set_exception(error)

        self._table.notify(self, deliver)
        return future

    def _again(
        self, deliver: Callable[[ObjectRef[Any]], None], fail: Callable[[Exception], None],
        error: ObjectLostError,
    ) -> None:  # fmt: skip
        """Deliver a lost value once it is made again, or the error if it will not be."""

        def ask() -> None:
            try:
                if self._table.rebuild(self, error):
                    self._table.notify(self, deliver)
                else:
                    fail(error)
            except Exception as problem:  # noqa: BLE001 - it is the result
                fail(problem)

        # Not here: this is the thread that reads, and the owner's answer comes by it.
        threading.Thread(target=ask, daemon=True).start()

    def as_future(self) -> asyncio.Future[R_co]:
        """Return an asyncio future for the value; cancelling it does not cancel the call."""
        loop = asyncio.get_running_loop()
        return asyncio.wrap_future(self.future(), loop=loop)

    def _on_completed(self, callback: Callable[[Any], None]) -> None:
        """Call ``callback`` with the value, or with the error, as soon as it is here.

        It runs in the thread that reads results, or at once: keep it short.
        """

        def deliver(ref: ObjectRef[Any]) -> None:
            try:
                value = self._table.value(ref)
            except Exception as error:  # noqa: BLE001 - the user's own exception is the result
                value = error
            callback(value)

        self._table.notify(self, deliver)

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.as_future().__await__()

    def __reduce__(self) -> tuple[Any, ...]:
        self._table.share(self)
        for ref in (self, self._call):
            if ref is not None and not note(ref.id):
                self._table.holdings.pin(ref.id)
        return _rebuild, (self._id, self.is_stored)

    def __copy__(self) -> ObjectRef[R_co]:
        return self

    def __deepcopy__(self, _memo: Any) -> ObjectRef[R_co]:
        return self

    def __hash__(self) -> int:
        return hash(self._id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectRef) and other._id == self._id

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"

    def __del__(self) -> None:
        table = getattr(self, "_table", None)
        if table is not None:
            table.dropped(self)


def _rebuild(call_id: str, stored: bool) -> ObjectRef[Any]:
    from .runtime import current

    return current().results.borrow(call_id, stored=stored, kept=True)
