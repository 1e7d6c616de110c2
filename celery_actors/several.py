"""Calls that give another number of values than one: what their callers hold, and what arrives.

Value ``k`` of a call is a result of its own with the id ``<call id>.<k>``, counted from 1. The
call's own record comes after them: success with their number, or the failure. Whoever answers for
a call that died writes only that, so a value that is not there then will never be.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from typing import TYPE_CHECKING, Any

import msgspec

from . import records, routing
from .messages import STREAMING, CallOptions, Meta, decode_meta
from .object_ref import ObjectRef
from .object_ref_generator import ObjectRefGenerator
from .store.wire import pack

if TYPE_CHECKING:
    from .results import Results

__all__ = ["GONE", "Asked", "Several"]

#: What a worker that asks is told where nobody reads the values any more.
GONE = -1


class Asked(msgspec.Struct):
    """A worker's question how many values were taken: ``n`` that it knows of, its channel."""

    n: int = 0
    w: str = ""


class Several:
    """The calls of one process that give several values. Part of its table of references."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._streams: weakref.WeakValueDictionary[str, ObjectRefGenerator[Any]]
        self._streams = weakref.WeakValueDictionary()

    # -- a call is made --------------------------------------------------------------------

    def promise(self, call: ObjectRef[Any], options: CallOptions) -> Any:
        """Return what the caller of a call gets: None, references, or their generator."""
        if options.returns == 0:
            return None
        if options.returns == STREAMING:
            limited = options.backpressure > 0
            generator = ObjectRefGenerator[Any](call, self, limited=limited)
            self._streams[call.id] = generator
            return generator
        refs = [self._value(call, number) for number in range(1, options.returns + 1)]
        weak_refs = [weakref.ref(ref) for ref in refs]

        def ended(call: ObjectRef[Any]) -> None:
            for weak in weak_refs:
                ref = weak()
                if ref is not None and not ref.ready:
                    self._settle(ref, call)

        call._callbacks = [ended]
        return refs

    def _value(self, call: ObjectRef[Any], number: int) -> ObjectRef[Any]:
        ref: ObjectRef[Any] = ObjectRef(f"{call.id}.{number}", self._results, owned=True)
        ref._call = call
        self._results.hold(ref)
        return ref

    def _settle(self, ref: ObjectRef[Any], call: ObjectRef[Any]) -> None:
        """Complete a value of a call that has ended."""
        if call.failed:
            self._results.complete(ref, call._meta, call._error)
        else:
            ref._stored = True  # its push was lost: it is in the store, or lost, too
            self._results.fetch(ref)

    # -- values arrive ---------------------------------------------------------------------

    def arrived(self, meta: Meta) -> bool:
        """Take in a value that nobody holds; False where nobody wants it."""
        call_id, _, number = meta.task_id.partition(".")
        generator = self._streams.get(call_id)
        if generator is None or not number.isdecimal():
            return False
        ref = self._value(generator._call, int(number))
        if meta.status == "STORED":
            ref._stored = True
            self._results.fetch(ref)
        else:
            ref._meta, ref.ready = meta, True
        return generator.admit(ref, int(number))

    def refetch(self) -> None:
        """Look for the values of streams whose pushes may have been lost."""
        for call_id in list(self._streams):
            self._seek(call_id)

    def _seek(self, call_id: str) -> None:
        generator = self._streams.get(call_id)
        number = generator.missing() if generator is not None else None
        if number is None:
            return

        def handle(reply: Any) -> None:
            if isinstance(reply, bytes):
                self._results.arrived(decode_meta(reply))
                self._seek(call_id)

        self._results.mux.post(pack(("GET", routing.result_key(f"{call_id}.{number}"))), handle)

    def follow(self, ref: ObjectRef[Any], call: ObjectRef[Any]) -> None:
        """Complete a passed value when its call ends without it."""
        weak = weakref.ref(ref)

        def settle(reply: Any) -> None:
            ref = weak()
            if ref is None or ref.ready or isinstance(reply, Exception):
                return
            if reply is not None:
                self._results.complete(ref, decode_meta(reply), None)
            elif call.failed:
                self._results.complete(ref, call._meta, call._error)
            else:
                self._results.complete(ref, None, records.lost(ref.id))

        def ended(_call: ObjectRef[Any]) -> None:
            ref = weak()
            if ref is not None and not ref.ready:
                self._results.mux.post(pack(("GET", routing.result_key(ref.id))), settle)

        self._results.on_ready(call, ended)

    # -- for generators --------------------------------------------------------------------

    def wait(self, generator: ObjectRefGenerator[Any]) -> None:
        """Block until the next value or the end is here."""
        self._results.wait([generator], 1, None, fail_fast=False)

    async def arrival(self, generator: ObjectRefGenerator[Any]) -> None:
        """Wait for the next value or the end."""
        loop = asyncio.get_running_loop()
        here = loop.create_future()

        def arrived() -> None:
            if not here.done():
                here.set_result(None)

        def tell(_generator: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(arrived)

        self._results.notify(generator, tell)
        await here

    def wake_waiting(self) -> None:
        """Let waiting threads look again."""
        self._results.mux.wake_followers()

    def last(self, call: ObjectRef[Any], number: int) -> ObjectRef[Any] | None:
        """Return a reference for what a call that has ended left at this place; None: nothing.

        That is a value whose push was lost, or the call's own failure behind its last value.
        """
        if not call.failed and number > self.count(call):
            return None
        ref = self._value(call, number)
        ref._stored = not call.failed
        if call._error is None:
            self._results.wait_stored([ref])
        if not ref.ready:
            self._results.complete(ref, call._meta, call._error)
        return ref

    @staticmethod
    def count(call: ObjectRef[Any]) -> int:
        """Return how many values a call gave that has succeeded."""
        return 0 if call._meta is None else records.beside(call._meta).n

    @staticmethod
    def worker_of(ref: ObjectRef[Any]) -> str:
        """Return the channel of the worker that a value came from, where its record says so."""
        worker = "" if ref._meta is None else records.beside(ref._meta).w
        return routing.reply_channel(worker) if worker else ""

    def tell(self, channel: str, call_id: str, taken: int) -> None:
        """Tell the worker that runs a call how many of its values were taken."""
        word = [{"status": "TAKEN", "task_id": call_id, "ca": {"n": taken}}]
        self._results.mux.post(pack(("PUBLISH", channel, msgspec.json.encode(word))))

    def asked(self, meta: Meta) -> None:
        """Answer a worker that waits for its reader."""
        asked = msgspec.json.decode(meta.ca, type=Asked)
        channel = routing.reply_channel(asked.w)
        generator = self._streams.get(meta.task_id)
        taken = GONE if generator is None else generator.asked(channel)
        if taken == GONE or taken > asked.n:
            self.tell(channel, meta.task_id, taken)
