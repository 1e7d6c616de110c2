"""The references of one process: which values it waits for, holds, has shared or has dropped."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from . import records, routing
from .buffers import Buffers
from .errors import ObjectLostError, RayError
from .holdings import Hold, Holdings
from .messages import Meta, decode_meta, decode_metas
from .object_ref import ObjectRef
from .object_ref_generator import ObjectRefGenerator
from .serialization import Blob, Sealer
from .several import Several
from .store import Answer, Mux, Scripts, Store
from .store.wire import pack
from .unreadable import UNREADABLE
from .watchdog import Watchdog

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["Latch", "Results"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Results freed with one command.
_RELEASE_BATCH = 64
#: Seconds that a smaller group of them waits for company.
_RELEASE_SECONDS = 0.1
#: Seconds of silence after which a waiting call looks whether anybody is left to answer it.
SILENCE_SECONDS = 2.0
#: Variables that silence the failures nobody asked for, ours and Ray's.
IGNORE_VARIABLES = ("CELERY_ACTORS_IGNORE_UNHANDLED_ERRORS", "RAY_IGNORE_UNHANDLED_ERRORS")
#: What processes say to each other on the channels of results: about calls that are cancelled,
#: about how far the reader of a generator is, and about values that somebody found lost.
WORDS = frozenset({"CANCEL", "DROPPED", "RUNNING", "FINISHED", "ASKED", "TAKEN", "REBUILD"})


#: What a thread can wait for: a value, or the next one of a generator.
Waitable = ObjectRef[Any] | ObjectRefGenerator[Any]


class Counted(Protocol):
    """Something that counts calls under way."""

    pending: int


class Latch:
    """Counts completions; done when enough have come, or at the first failure if asked."""

    __slots__ = ("failed", "fast", "remaining", "unless")

    def __init__(
        self, remaining: int, *, fail_fast: bool, unless: Callable[[], bool] | None = None
    ) -> None:
        self.remaining = remaining
        self.unless = unless
        self.fast = fail_fast
        self.failed = False

    def __call__(self, ref: Waitable) -> None:
        """Count one completion."""
        self.remaining -= 1
        if self.fast and ref.failed:
            self.failed = True

    def done(self) -> bool:
        """Tell whether the wait is over."""
        return self.remaining <= 0 or self.failed or (self.unless is not None and self.unless())


class Results:
    """The table of references. The reading thread completes them; any thread may wait."""

    mux: Mux  # set once the connection exists: it calls us back
    runtime: Runtime

    def __init__(
        self, session: str, sealer: Sealer, store: Store, buffers: Buffers, lock: threading.RLock,
        seconds: int, holdings: Holdings,
    ) -> None:  # fmt: skip
        self.holdings = holdings
        self._sealer = sealer
        self._buffers = buffers
        self._store = store
        self._lock = lock
        self._seconds = seconds
        self._reply_channel = routing.reply_channel(session).encode()
        self._call_prefix = routing.call_prefix(session)
        self._refs: dict[str, weakref.ref[ObjectRef[Any]]] = {}
        self._released: deque[tuple[str, Meta | None]] = deque()
        self._freed = 0.0  # when the last of them were freed for their age
        self._shared_pending: dict[str, Hold] = {}  # dropped here before their results came
        self._renewed = time.monotonic()
        self._unwatched: deque[str] = deque()
        self._met: set[str] = set()  # failed calls whose error somebody was given
        self._unmet: deque[Meta] = deque()
        self._attended: dict[Callable[[Any], None], Waitable] = {}
        self._counted: dict[str, Counted] = {}
        self.several = Several(self)
        self.flush: Callable[[], None] = lambda: None
        self.parent: Callable[[], str] | None = None  # in a worker: the id of the running call
        #: Has a lost value made again: see ``Lineage``.
        self.rebuild: Callable[[ObjectRef[Any], ObjectLostError], bool] = lambda _ref, _error: False
        #: Says again what the store must know of this process: it has lost writes.
        self.on_rollback: Callable[[], None] = lambda: None
        #: Seconds for which this process was silent when its lease ran out; 0: that never happened.
        self.lapse: Callable[[], float] = lambda: 0.0
        self.on_rebuild: Callable[[Meta], None] | None = None
        self.on_word: Callable[[Meta], None] | None = None  # hears what is not a result
        self.on_taken: Callable[[Meta], None] | None = None  # in a worker: how far readers are
        self.blocking: Callable[[], AbstractContextManager[None]] = nullcontext
        self.watchdog: Callable[[], None] | None = None
        #: Stands around unpickling in a process of several clusters: what is inside is this one's.
        self.scope: Callable[[], AbstractContextManager[None]] | None = None

    # -- holding ---------------------------------------------------------------------------

    def new(self, call_id: str) -> ObjectRef[Any]:
        """Return the reference of a value that this process asks for."""
        ref: ObjectRef[Any] = ObjectRef(call_id, self, owned=True)
        if self.parent is not None:
            ref._parent = self.parent()
        self._refs[call_id] = weakref.ref(ref)
        return ref

    def hold(self, ref: ObjectRef[Any]) -> None:
        """Take a reference into the table."""
        self._refs[ref.id] = weakref.ref(ref)

    def count(self, call_id: str, target: Counted) -> None:
        """Count a call as under way until its result is here."""
        target.pending += 1
        self._counted[call_id] = target

    def _uncount(self, call_id: str) -> None:
        target = self._counted.pop(call_id, None)
        if target is not None:
            target.pending -= 1
            self.mux.wake_followers()

    def children(self, call_id: str) -> list[ObjectRef[Any]]:
        """Return the references of the calls that a call has made and that are not over."""
        held = [weak() for weak in list(self._refs.values())]
        return [r for r in held if r is not None and r._parent == call_id and not r.ready]

    def pending(self) -> list[ObjectRef[Any]]:
        """Return the references that wait for the results of calls of this process."""
        held = [weak() for weak in list(self._refs.values())]
        return [r for r in held if r is not None and r._target is not None and not r.ready]

    def held(self, call_id: str) -> ObjectRef[Any] | None:
        """Return the reference with this id, if this process holds it."""
        weak = self._refs.get(call_id)
        return weak() if weak is not None else None

    def borrow(self, call_id: str, *, stored: bool, kept: bool = False) -> ObjectRef[Any]:
        """Return this process's reference to a value by id.

        ``stored``: it was in the store. ``kept``: the reference keeps it alive; one at the top of
        a call's arguments need not, the call does.
        """
        with self._lock:
            ref = self.held(call_id)
            if ref is None:
                ref = ObjectRef(call_id, self, owned=False)
                ref._shared = True
                if "." in call_id:
                    ref._call = self.borrow(call_id.partition(".")[0], stored=False)
                self._refs[call_id] = weakref.ref(ref)
            ref._stored = ref._stored or stored
            if kept and ref._shared and ref._hold is None:
                ref._hold = self.holdings.hold(call_id)
                if ref._call is not None:
                    self.borrow(ref._call.id, stored=False, kept=True)
            return ref

    def share(self, ref: ObjectRef[Any]) -> None:
        """Note that another process will hold this reference; what only we know is stored."""
        ref._shared = True
        if ref._call is not None:
            self.share(ref._call)  # whoever waits for the value must hear of its call's failure
        if isinstance(ref._error, RayError):
            record = records.error_record(ref._error, ref.id)
            self._store.scripts.answer(self._seconds, [Answer(routing.result_key(ref.id), record)])
        if ref._hold is None:
            ref._hold = self.holdings.hold(ref.id)

    def dropped(self, ref: ObjectRef[Any]) -> None:
        """Forget a reference. Called by the garbage collector: takes no lock, sends nothing."""
        weak = self._refs.get(ref._id)
        if weak is not None and ((held := weak()) is None or held is ref):
            self._refs.pop(ref._id, None)
        if ref._owned and not ref._shared:
            if ref._meta is not None and (ref._call is None or not ref.failed):
                self._released.append((ref._id, ref._meta))
            return
        self._met.discard(ref._id)
        if not ref.ready:
            if not ref._owned:
                if ref._watched:
                    self._unwatched.append(ref._id)
            elif ref._hold is not None:
                self._shared_pending[ref._id] = ref._hold  # its result comes to us: stay till then

    def flush_released(self, minimum: int = _RELEASE_BATCH) -> None:
        """Free the results that nobody holds any more, if there are enough of them."""
        if len(self._released) < minimum or self.mux.closed:
            return
        keys = []
        blobs: list[Blob] = []
        for call_id, meta in _drained(self._released):
            if meta is not None and meta.status == "STORED":
                # Too large to be sent to us: what it keeps is known where it is.
                self.holdings.drop((f"{call_id} -",))
                continue
            keys.append(routing.result_key(call_id))
            if meta is None:
                continue
            blobs += records.blobs_of(meta)
            self.holdings.drop(records.contained(meta))
            if meta.status != "SUCCESS":
                if call_id not in self._met:
                    self._unmet.append(meta)
                self._met.discard(call_id)
        if keys:
            self._post("UNLINK", *keys)
        if blobs:
            self._buffers.free(blobs, self._post)

    def tick(self) -> None:
        """Free what nobody holds any more, now and then."""
        now = time.monotonic()
        if self._released and now - self._freed >= _RELEASE_SECONDS:
            self._freed = now
            self.reclaim()

    def _post(self, *words: Any) -> None:
        self.mux.post(pack(words))

    def reclaim(self) -> None:
        """Free now what nobody holds any more: a large value is about to need room."""
        with self._lock:
            self.flush_released(1)

    def report_unmet(self) -> None:
        """Log the failures whose references were dropped before anybody asked for them."""
        for meta in _drained(self._unmet):
            text = records.unhandled(meta)
            if text and not any(os.environ.get(name) == "1" for name in IGNORE_VARIABLES):
                logger.error(
                    "Unhandled error of call %s, whose reference was dropped (suppress with "
                    "%s=1):\n%s", meta.task_id, IGNORE_VARIABLES[0], text,
                )  # fmt: skip

    def renew(self) -> None:
        """Keep what this process holds from expiring, now and then."""
        now = time.monotonic()
        if now - self._renewed < self._seconds / 4:
            return
        self._renewed = now
        for weak in list(self._refs.values()):
            ref = weak()
            if ref is None or not (ref._owned or ref._hold):
                continue
            if ref._hold is not None:
                self.holdings.renew(ref._hold)
            if ref._meta is not None:
                chunks = self._buffers.renew(records.blobs_of(ref._meta))
                keys = [routing.result_key(ref.id), *chunks]
                self.mux.post(Scripts.pack("extend", keys, self._seconds))

    def flush_unwatched(self) -> None:
        """Stop hearing of values that came or that nobody here holds any more."""
        for call_id in _drained(self._unwatched):
            ref = self.held(call_id)
            if ref is None or ref.ready:
                self.mux.unsubscribe(routing.result_key(call_id))

    def release_all(self) -> None:
        """Free the results that only this process knows of: it leaves."""
        for weak in list(self._refs.values()):
            ref = weak()
            if ref is not None and ref._owned and not ref._shared:
                self._met.add(ref.id)  # it may still be asked for after the end
                self._released.append((ref.id, ref._meta))
        self.flush_released(1)

    # -- hearing ---------------------------------------------------------------------------

    def on_push(self, channel: bytes, payload: bytes) -> None:
        """Take in what the store has pushed."""
        try:
            if channel == self._reply_channel:
                for meta in decode_metas(payload):
                    self.arrived(meta)
            else:
                self.arrived(decode_meta(payload))
        except UNREADABLE as error:
            logger.warning("a message on %r is not what belongs there: %s", channel, error)

    def arrived(self, meta: Meta) -> None:
        """Take in a result, or a word of another process."""
        if meta.status in WORDS:
            self._heard(meta)
            return
        if self._counted:
            self._uncount(meta.task_id)
        ref = self.held(meta.task_id)
        if ref is None:
            self._refs.pop(meta.task_id, None)
            self._unheld(meta.task_id, meta)
        elif ref.ready:
            ref._meta = ref._meta or meta  # known to be cancelled; its record is freed with it
        elif meta.status == "STORED":
            self.fetch(ref)
        elif not ref._lost or not self._is_old(ref, meta):
            self.complete(ref, meta, None)

    @staticmethod
    def _is_old(ref: ObjectRef[Any], meta: Meta) -> bool:
        """Tell whether a record, late on its way, is that of a value which was found lost."""
        return bool(ref._lost) and records.blobs_of(meta) == ref._lost

    def _unheld(self, call_id: str, meta: Meta) -> None:
        """Free a value of ours that came after its reference was dropped here.

        One that was borrowed here until a moment ago is its owner's, who had it made again.
        """
        if "." in call_id and self.several.arrived(meta):
            return
        if self._shared_pending.pop(call_id, None) is not None:
            self._forget_values(call_id)
        elif call_id.startswith(self._call_prefix):
            self._released.append((call_id, meta))

    def _forget_values(self, call_id: str) -> None:
        """Let go of the values of a call that has ended: what has not come will not."""
        start = f"{call_id}."
        for value_id in [other for other in self._shared_pending if other.startswith(start)]:
            del self._shared_pending[value_id]

    def _heard(self, meta: Meta) -> None:
        listeners = {"ASKED": self.several.asked, "TAKEN": self.on_taken,
                     "REBUILD": self.on_rebuild}  # fmt: skip
        listener = listeners.get(meta.status, self.on_word)
        if listener is not None:
            listener(meta)

    def complete(self, ref: ObjectRef[Any], meta: Meta | None, error: Exception | None) -> None:
        """Give a reference its value or its error, once, and wake who waits for it."""
        ref._meta, ref._error, ref.ready = meta, error, True
        ref._target = None
        if ref._lineage is not None and (meta is None or not records.blobs_of(meta)):
            ref._lineage = None  # what is here cannot be lost
        if self._counted:
            self._uncount(ref.id)
        if not ref._owned and ref._watched:
            self._unwatched.append(ref.id)
        callbacks, ref._callbacks = ref._callbacks, None
        if callbacks:
            for callback in callbacks:
                callback(ref)
            if self.mux.followers:
                self.mux.wake_followers()

    def reset(self, ref: ObjectRef[Any]) -> None:
        """Wait for a reference's value again: the one that came is lost."""
        if ref._meta is not None:
            ref._lost = records.blobs_of(ref._meta)
        ref.ready = False
        ref._meta = ref._error = None
        ref._asked = time.monotonic()
        ref._watched = ref._owned

    def fail(self, call_ids: Sequence[str], error: Exception) -> None:
        """Complete calls that will never run."""
        for call_id in call_ids:
            self._uncount(call_id)
            ref = self.held(call_id)
            if ref is None:
                if self._shared_pending.pop(call_id, None) is not None:
                    self._forget_values(call_id)
            elif not ref.ready:
                self.complete(ref, None, error)
                if ref._shared:
                    self.share(ref)

    def fail_pending(self, error: RayError) -> None:
        """Complete every reference that still waits: nobody is left to make their values."""
        self.fail(list(self._refs), error)

    def fetch(self, ref: ObjectRef[Any]) -> None:
        """Ask the store for a value."""
        weak, call_id, owned = weakref.ref(ref), ref.id, ref._owned

        def handle(reply: Any) -> None:
            if isinstance(reply, Exception):
                return
            ref = weak()
            if ref is not None:
                self._take_record(ref, reply)
            elif owned and reply is not None:
                self._unheld(call_id, decode_meta(reply))

        self.mux.post(pack(("GET", routing.result_key(ref.id))), handle)

    def _take_record(self, ref: ObjectRef[Any], record: bytes | None) -> None:
        if ref.ready:
            return
        if record is None:
            # Not in the store after a lost one was asked for: it is being made, or, after a while,
            # nobody is left who makes it.
            if ref._stored and time.monotonic() - ref._asked > SILENCE_SECONDS / 2:
                self.complete(ref, None, records.lost(ref.id))
            return
        meta = decode_meta(record)
        if meta.status in ("SUCCESS", "FAILURE", "REVOKED") and not self._is_old(ref, meta):
            self.complete(ref, meta, None)

    def _watch(self, ref: Waitable) -> None:
        """Hear about a value that another process asked for."""
        if not ref._watched and isinstance(ref, ObjectRef):
            ref._watched = True
            self.mux.subscribe(routing.result_key(ref.id))
            self.fetch(ref)
            if ref._call is not None:
                self.several.follow(ref, ref._call)

    def refetch(self) -> None:
        """Ask for everything that is still missing: a push may have been lost."""
        for weak in list(self._refs.values()):
            ref = weak()
            if ref is not None and not ref.ready and ref._watched:
                self.fetch(ref)
        self.several.refetch()

    def on_ready(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> None:
        """Call back once the value is here, however late its push is read; at once if it is."""
        if ref.ready or not self._add_callback(ref, callback):
            callback(ref)
        else:
            self._watch(ref)

    def notify(self, ref: Waitable, callback: Callable[[Any], None]) -> None:
        """Call back once the value is here, from whichever thread reads; at once if it is.

        The reference is held until then: who awaits one may hold nothing else of it.
        """

        def deliver(ref: Any) -> None:
            self._attended.pop(deliver, None)
            self.mux.attend(-1)
            callback(ref)

        if not ref.ready:
            self.mux.attend(1)
            self._attended[deliver] = ref
            if self._add_callback(ref, deliver):
                self._watch(ref)
                self.flush()
                self.mux.kick()
                return
            del self._attended[deliver]
            self.mux.attend(-1)
        callback(ref)

    def _add_callback(self, ref: Waitable, callback: Callable[[Any], None]) -> bool:
        """Register a callback; False if the value came meanwhile and it will not be called."""
        with self._lock:
            ref._callbacks = [*(ref._callbacks or ()), callback]
        if not ref.ready:
            return True
        # Completed in between: either the reader took our callback along, or it is still there.
        with self._lock:
            left = ref._callbacks or []
            ref._callbacks = [other for other in left if other is not callback]
            return len(ref._callbacks) == len(left)

    # -- waiting ---------------------------------------------------------------------------

    def wait(
        self, refs: Sequence[Waitable], needed: int, timeout: float | None, *,
        fail_fast: bool, unless: Callable[[], bool] | None = None,
    ) -> bool:  # fmt: skip
        """Block until ``needed`` of the refs are ready; False when the time is over.

        ``unless`` ends the wait, too, when it returns true: whoever changes that sends something
        on this process's connection, so that the reading thread looks up.
        """
        pending = [ref for ref in refs if not ref.ready]
        ready = len(refs) - len(pending)
        if ready >= needed:
            return True
        if fail_fast and ready and any(ref.failed for ref in refs):
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        for ref in pending:
            self._watch(ref)
        self.flush()
        latch = Latch(needed - ready, fail_fast=fail_fast, unless=unless)
        for ref in pending:
            if not self._add_callback(ref, latch):
                latch(ref)
        if latch.done():
            return True
        if self.blocking is nullcontext:
            return self._wait_for(latch, deadline)
        with self.blocking():
            return self._wait_for(latch, deadline)

    def _wait_for(self, latch: Latch, deadline: float | None) -> bool:
        watchdog = None
        while True:
            step = time.monotonic() + SILENCE_SECONDS
            until = step if deadline is None else min(step, deadline)
            if self.mux.wait(latch.done, until):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return latch.done()
            # Look after nodes that died with nobody left to notice, and for lost pushes.
            if watchdog is None and self.watchdog is not None:
                watchdog = Watchdog(self.watchdog)
            if watchdog is not None:
                watchdog.look()
            self.refetch()

    def wait_stored(self, refs: Sequence[ObjectRef[Any]]) -> bool:
        """Look into the store once; True if all the refs are ready now."""
        for ref in refs:
            self._watch(ref)
        stored = self._store.many(routing.result_key(ref.id) for ref in refs)
        for ref, record in zip(refs, stored, strict=True):
            self._take_record(ref, record)
        return all(ref.ready for ref in refs)

    def value(self, ref: ObjectRef[Any]) -> Any:
        """Return the value of a ready reference, or raise its error."""
        if ref._error is not None:
            raise ref._error
        if ref._meta is None:
            raise LookupError(f"{ref!r} is not ready")
        # A value that will never be carries the failure of its call, signed as the call's.
        owner = ref._call.id if ref._call is not None and ref.failed else ref.id
        if ref._meta.status != "SUCCESS":
            self._met.add(owner)
        if self.scope is None:
            return records.read_result(ref._meta, owner, self._sealer)
        with self.scope():
            return records.read_result(ref._meta, owner, self._sealer)


def _drained(queue: deque[T]) -> Iterator[T]:
    """Give what a queue has, until it has no more: other threads may take of it meanwhile."""
    with suppress(IndexError):
        while True:
            yield queue.popleft()
