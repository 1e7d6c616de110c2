"""What a process needs to call and to hear: its session, its targets, its pending results."""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec

from . import records, routing
from .config import Address, KeyRing
from .errors import (
    ActorDiedError,
    GetTimeoutError,
    NotInitializedError,
    ObjectLostError,
    RayError,
)
from .messages import MessageTemplate, Meta, decode_meta, decode_metas, encode_body
from .object_ref import ObjectRef
from .placement import Need
from .serialization import Sealer, encode_plain
from .store import Answer, Mux, Scripts, Store
from .store.client import blob_keys
from .store.wire import pack

__all__ = ["Latch", "Runtime", "Target", "current", "set_current"]

logger = logging.getLogger(__name__)

#: Calls that one caller may be ahead of an actor before ``.remote()`` slows it down. At the
#: slowest measured rate (about 10,000 small calls a second) a read behind them takes half a second.
AHEAD_CALLS = 5_000
#: Calls submitted and not yet acknowledged before ``.remote()`` waits for the store.
UNACKNOWLEDGED_CALLS = 2_000
#: Submissions gathered into one script call while earlier ones are under way.
_BATCH = 48
_RELEASE_BATCH = 64
#: Seconds a result stays for those who do not hold its reference (Celery's `result_expires`).
RESULT_SECONDS = 24 * 3600
#: Seconds a class or function stays after a process last stored or loaded it.
CODE_SECONDS = 7 * 24 * 3600


class Target:
    """An actor's queue or a shared queue, with this process's stream of calls to it."""

    __slots__ = ("acknowledged", "actor_id", "ahead", "buffer", "death", "first", "ids", "keys",
                 "name", "need", "order", "queue", "sequence", "unlimited")  # fmt: skip

    def __init__(self, queue: str, name: str, keys: Sequence[str], actor_id: str, need: str) -> None:
        self.queue = queue
        self.name = name  # for messages to the user
        self.keys = keys
        self.actor_id = actor_id  # empty for a shared queue
        self.need = need  # shared queues: what to ring for
        self.order = threading.RLock()
        self.sequence = 0
        self.acknowledged = 0
        self.first = 0
        self.buffer: list[bytes] = []
        self.ids: list[str] = []
        self.ahead = 0
        self.unlimited = False  # a call to oneself must never wait for oneself
        self.death: ActorDiedError | None = None


class Latch:
    """Counts completions; done when enough have come, or the first failure if asked."""

    __slots__ = ("failed", "fast", "remaining")

    def __init__(self, remaining: int, fail_fast: bool) -> None:
        self.remaining = remaining
        self.fast = fail_fast
        self.failed = False

    def __call__(self, ref: ObjectRef[Any]) -> None:
        self.remaining -= 1
        if self.fast and ref.failed:
            self.failed = True

    def done(self) -> bool:
        return self.remaining <= 0 or self.failed


class Runtime:
    """One process's side of the cluster. Thread-safe."""

    def __init__(
        self,
        address: Address,
        ring: KeyRing,
        *,
        job: str | None = None,
        namespace: str,
        node_id: str = "",
        on_log: Callable[[bytes], None] | None = None,
        on_tick: Callable[[], None] | None = None,
        result_seconds: int = RESULT_SECONDS,
    ) -> None:
        self.address = address
        self.ring = ring
        self.sealer = Sealer(ring)
        self.session = secrets.token_hex(8)
        self.job = job or self.session
        self.namespace = namespace
        self.node_id = node_id
        self.result_seconds = result_seconds
        self.origin = f"{os.getpid()}@{node_id or 'driver'}"
        self.self_queue = ""  # the queue of the actor that runs in this process, if any
        self.blocking: Callable[[], AbstractContextManager[None]] = nullcontext
        self.watchdog: Callable[[], None] | None = None
        self.store = Store(address)
        self._extra_tick = on_tick
        digits = self.session
        self._id_prefix = f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[13:16]}-".encode()
        self._count = 0
        self._lock = threading.RLock()
        self._targets: dict[str, Target] = {}
        self._dirty: list[Target] = []
        self._buffered = 0
        self._refs: dict[str, weakref.ref[ObjectRef[Any]]] = {}
        self._released: deque[tuple[str, Meta | None]] = deque()
        self._shared_pending: set[str] = set()
        self._unwatched: deque[str] = deque()
        self._exported: set[str] = set()
        self._channels: dict[str, Callable[[bytes], None]] = {}
        if on_log is not None:
            self._channels[routing.log_channel(self.session)] = on_log
        self._reply_channel = routing.reply_channel(self.session).encode()
        self.mux = Mux(
            address,
            [self._reply_channel.decode(), *self._channels],
            self._on_push,
            self._on_reconnect,
            self._tick,
        )

    # -- sending ---------------------------------------------------------------------------

    def actor_target(self, queue: str, actor_id: str, name: str) -> Target:
        """Return this process's stream of calls to an actor; one, however many handles."""
        with self._lock:
            target = self._targets.get(actor_id)
            if target is None:
                keys = routing.ActorKeys(queue, actor_id)
                words = (queue, keys.meta, keys.callers)
                target = self._targets[actor_id] = Target(queue, name, words, actor_id, "")
                target.unlimited = queue == self.self_queue
            return target

    def shared_target(self, queue: str, name: str, need: str) -> Target:
        """Return this process's stream of calls to a shared queue."""
        with self._lock:
            target = self._targets.get(queue)
            if target is None:
                words = (queue, routing.CALLERS + self.session, routing.BELL)
                target = self._targets[queue] = Target(queue, name, words, "", need)
            return target

    def template(self, target: Target, task: str, code: str = "", retries: int = 0) -> MessageTemplate:
        """Return the fixed part of this process's messages for one method or function."""
        return MessageTemplate(
            task=task, queue=target.queue, caller=self.session, job=self.job, origin=self.origin,
            code=code, max_retries=retries,
        )  # fmt: skip

    def submit(
        self,
        target: Target,
        template: MessageTemplate,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> ObjectRef[Any]:
        """Send one call; return at once, unless this caller is far ahead of the target.

        Raises:
            SerializationError: an argument cannot be pickled; nothing was sent.
        """
        body = _EMPTY if not args and not kwargs else None
        with target.order:
            sequence = target.sequence + 1
            self._count += 1
            call_id = b"%b%012x" % (self._id_prefix, self._count)
            name = call_id.decode()
            if body is None:
                body = self._body(target, method, sequence, name, args, kwargs)
            message = template.build(call_id, sequence, body)
            ref: ObjectRef[Any] = ObjectRef(name, self, owned=True)
            self._refs[name] = weakref.ref(ref)
            target.sequence = sequence
            with self._lock:
                if not target.buffer:
                    target.first = sequence
                    self._dirty.append(target)
                target.buffer.append(message)
                target.ids.append(name)
                self._buffered += 1
                if self._buffered >= _BATCH or not self.mux.pending:
                    self._flush()
        if target.ahead > AHEAD_CALLS or sequence - target.acknowledged > UNACKNOWLEDGED_CALLS:
            self._throttle(target)
        return ref

    def _body(
        self, target: Target, method: str, sequence: int, call_id: str,
        args: Sequence[Any], kwargs: dict[str, Any],
    ) -> bytes:  # fmt: skip
        owner = target.actor_id or target.queue
        encoded = []
        for position, value in enumerate([*args, *kwargs.values()]):
            encoded.append(encode_plain(value) or self._argument(
                value, ("argument", str(position), owner, self.session, str(sequence), call_id,
                        method), f"{call_id}.{position}",
                f"argument {position if position < len(args) else list(kwargs)[position - len(args)]!r}"
                f" of {target.name if target.actor_id else ''}{'.' if target.actor_id else ''}{method}",
            ))  # fmt: skip
        named = dict(zip(kwargs, encoded[len(args) :], strict=True))
        return encode_body(encoded[: len(args)], named)

    def _argument(
        self, value: Any, context: tuple[str, ...], blob_prefix: str, describe: str
    ) -> bytes:
        if isinstance(value, ObjectRef):
            return self._ref_argument(value)
        raw, blobs = self.sealer.seal(value, context, blob_prefix, describe)
        for blob_id, data in blobs:
            self.store.put_blob(blob_id, data, self.result_seconds)
        return raw

    def _ref_argument(self, ref: ObjectRef[Any]) -> bytes:
        meta = ref._meta
        if meta is not None and meta.status == "SUCCESS" and len(bytes(meta.result)) < 4096:
            raw = bytes(meta.result)
            if not raw.startswith(b'{"__type__"'):
                return raw  # known, small and plain: the value travels instead of the reference
        self.share(ref)
        return b'{"__type__":"ca-ref","__value__":"%b"}' % ref.id.encode()

    def flush(self) -> None:
        """Send everything that is still gathered here."""
        if self._dirty or self._released:
            with self._lock:
                self._flush()
                self._flush_released(1)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        self._buffered = 0
        for target in dirty:
            messages, ids = target.buffer, target.ids
            target.buffer, target.ids = [], []
            if target.actor_id:
                words = (self.session, target.first, *messages)
                command = Scripts.pack("submit", target.keys, *words)
            else:
                words = (target.first, self.result_seconds, target.need, *messages)
                command = Scripts.pack("submit_shared", target.keys, *words)
            self.mux.post(command, _Acknowledge(self, target, target.first, ids))
        self._flush_released(_RELEASE_BATCH)

    def _throttle(self, target: Target) -> None:
        unacknowledged = UNACKNOWLEDGED_CALLS
        if target.sequence - target.acknowledged > unacknowledged:
            self.flush()
            self.mux.wait(
                lambda: target.sequence - target.acknowledged <= unacknowledged // 2, None
            )
        if target.ahead > AHEAD_CALLS and not target.unlimited:
            # Never blocks for good: cycles of actors must be able to pass, slowly.
            excess = (target.ahead - AHEAD_CALLS) / AHEAD_CALLS
            time.sleep(min(0.010, 0.002 * excess))

    # -- hearing ---------------------------------------------------------------------------

    def _on_push(self, channel: bytes, payload: bytes) -> None:
        name = channel.decode()
        try:
            if channel == self._reply_channel:
                for meta in decode_metas(payload):
                    self._arrived(meta)
            elif name in self._channels:
                self._channels[name](payload)
            elif name.startswith(routing.RESULT_PREFIX):
                self._arrived(decode_meta(payload))
        except msgspec.MsgspecError as error:
            logger.warning("a message on %s is not what belongs there: %s", name, error)

    def _arrived(self, meta: Meta) -> None:
        weak = self._refs.get(meta.task_id)
        ref = weak() if weak is not None else None
        if ref is None:
            self._refs.pop(meta.task_id, None)
            if meta.task_id in self._shared_pending:
                self._shared_pending.discard(meta.task_id)
            else:
                self._released.append((meta.task_id, meta))
            return
        if ref.ready:
            return
        if meta.status == "STORED":
            self._fetch(ref)
            return
        self._complete(ref, meta, None)

    def _complete(self, ref: ObjectRef[Any], meta: Meta | None, error: Exception | None) -> None:
        ref._meta, ref._error = meta, error
        if not ref._owned and ref._watched:
            self._unwatched.append(ref.id)
        callbacks, ref._callbacks = ref._callbacks, None
        if callbacks:
            for callback in callbacks:
                callback(ref)
            self.mux.wake_followers()

    def _fetch(self, ref: ObjectRef[Any]) -> None:
        weak = weakref.ref(ref)

        def handle(reply: Any) -> None:
            ref = weak()
            if ref is None or ref.ready or not isinstance(reply, bytes):
                return
            meta = decode_meta(reply)
            if meta.status in ("SUCCESS", "FAILURE", "REVOKED"):
                meta.task_id = ref.id
                self._complete(ref, meta, None)

        self.mux.post(pack(("GET", routing.result_key(ref.id))), handle)

    def _watch(self, ref: ObjectRef[Any]) -> None:
        """Hear about a value that another process asked for."""
        if not ref._watched:
            ref._watched = True
            self.mux.subscribe(routing.result_key(ref.id))
            self._fetch(ref)

    def _on_reconnect(self) -> None:
        for weak in list(self._refs.values()):
            ref = weak()
            if ref is not None and not ref.ready and ref._watched:
                self._fetch(ref)

    def _tick(self) -> None:
        self.flush()
        while self._unwatched:
            call_id = self._unwatched.popleft()
            if call_id not in self._refs or self.borrow(call_id).ready:
                self.mux.unsubscribe(routing.result_key(call_id))
        if self._extra_tick is not None:
            self._extra_tick()

    # -- references ------------------------------------------------------------------------

    def borrow(self, call_id: str) -> ObjectRef[Any]:
        """Return this process's reference to a value by id."""
        with self._lock:
            weak = self._refs.get(call_id)
            ref = weak() if weak is not None else None
            if ref is None:
                ref = ObjectRef(call_id, self, owned=False)
                ref._shared = True
                self._refs[call_id] = weakref.ref(ref)
            return ref

    def share(self, ref: ObjectRef[Any]) -> None:
        """Note that another process will hold this reference; what only we know is stored."""
        ref._shared = True
        if ref._error is not None and isinstance(ref._error, RayError):
            record = records.error_record(ref._error, ref.id)
            self.store.scripts.answer(
                self.result_seconds, [Answer(routing.result_key(ref.id), record)]
            )

    def dropped(self, ref: ObjectRef[Any]) -> None:
        """Called by the garbage collector: takes no lock, sends nothing."""
        weak = self._refs.get(ref._id)
        if weak is not None and weak() in (None, ref):
            self._refs.pop(ref._id, None)
        if ref._shared or not ref._owned:
            if ref._owned and not ref.ready:
                self._shared_pending.add(ref._id)
            elif ref._watched and not ref._owned and not ref.ready:
                self._unwatched.append(ref._id)
            return
        if ref._meta is not None:
            self._released.append((ref._id, ref._meta))

    def _flush_released(self, minimum: int) -> None:
        if len(self._released) < minimum or self.mux.closed:
            return
        keys = []
        while self._released:
            call_id, meta = self._released.popleft()
            keys.append(routing.result_key(call_id))
            raw = b"" if meta is None else bytes(meta.result)
            if raw.startswith(b'{"__type__":"ca"'):
                keys += blob_keys(Sealer.blob_ids(raw))
        if keys:
            self.mux.post(pack(("UNLINK", *keys)))

    def notify(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> None:
        """Call back once the value is here, from whichever thread reads; at once if it is."""

        def deliver(ref: ObjectRef[Any]) -> None:
            self.mux.attention -= 1
            callback(ref)

        with self._lock:
            if not ref.ready:
                self.mux.attention += 1
                ref._callbacks = [*(ref._callbacks or ()), deliver]
                self._watch(ref)
                self.flush()
                self.mux.kick()
                if not ref.ready or ref._callbacks is None:
                    return
        callback(ref)

    # -- get, put, wait --------------------------------------------------------------------

    def wait(
        self, refs: Sequence[ObjectRef[Any]], needed: int, timeout: float | None, fail_fast: bool
    ) -> bool:
        """Block until ``needed`` of the refs are ready; False when the time is over."""
        ready = 0
        pending = []
        for ref in refs:
            if ref._meta is None and ref._error is None:
                pending.append(ref)
            else:
                ready += 1
                if fail_fast and ref.failed:
                    return True
        if ready >= needed:
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        for ref in pending:
            self._watch(ref)
        self.flush()
        latch = Latch(needed - ready, fail_fast)
        with self._lock:
            for ref in pending:
                if ref.ready:
                    latch(ref)
                elif ref._callbacks is None:
                    ref._callbacks = [latch]
                else:
                    ref._callbacks.append(latch)
        # Completed between the check and the append: nobody will call the latch any more.
        for ref in pending:
            if ref.ready and ref._callbacks and latch in ref._callbacks:
                ref._callbacks = None
                latch(ref)
        if latch.done():
            return True
        with self.blocking():
            return self._wait_watched(latch, deadline)

    def wait_stored(self, refs: Sequence[ObjectRef[Any]]) -> bool:
        """Look into the store once; True if all the refs are ready now."""
        for ref in refs:
            self._watch(ref)
        stored = self.store.many(routing.result_key(ref.id) for ref in refs)
        for ref, record in zip(refs, stored, strict=True):
            if record is not None and not ref.ready:
                self._complete(ref, decode_meta(record), None)
        return all(ref.ready for ref in refs)

    def _wait_watched(self, latch: Latch, deadline: float | None) -> bool:
        while True:
            step = time.monotonic() + 2.0
            until = step if deadline is None else min(step, deadline)
            if self.mux.wait(latch.done, until):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return latch.done()
            # Long silence: look after nodes that died with nobody left to notice, and read the
            # stored results in case a push was lost.
            if self.watchdog is not None:
                self.watchdog()
            self._on_reconnect()

    def value(self, ref: ObjectRef[Any]) -> Any:
        """Return the value of a ready reference, or raise its error."""
        if ref._error is not None:
            raise ref._error
        assert ref._meta is not None
        return records.read_result(ref._meta, ref.id, self.sealer, self.fetch_blob(ref.id))

    def fetch_blob(self, call_id: str) -> Callable[[str, int], memoryview]:
        """Return the function that loads the large buffers of a value."""

        def fetch(blob_id: str, size: int) -> memoryview:
            try:
                return self.store.need_blob(blob_id, size)
            except ObjectLostError:
                raise records.lost(call_id) from None

        return fetch

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """Return the values in order; raise as soon as one of the calls has failed."""
        if not self.wait(refs, len(refs), timeout, fail_fast=True):
            missing = [ref for ref in refs if not ref.ready]
            raise GetTimeoutError(
                f"{len(missing)} of {len(refs)} values were not ready after {timeout} s; the first "
                f"is {missing[0]!r}. The calls go on: get them again, or wait longer"
            )
        for ref in refs:
            if ref.failed:
                self.value(ref)
        return [self.value(ref) for ref in refs]

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value and return its reference."""
        with self._lock:
            self._count += 1
            call_id = (b"%b%012x" % (self._id_prefix, self._count)).decode()
        record, blobs = records.success_record(value, call_id, self.sealer, "the value")
        for blob_id, data in blobs:
            self.store.put_blob(blob_id, data, self.result_seconds)
        ref: ObjectRef[Any] = ObjectRef(call_id, self, owned=True)
        self._refs[call_id] = weakref.ref(ref)
        self.mux.post(pack(("SET", routing.result_key(call_id), record, "EX", self.result_seconds)))
        ref._meta = decode_meta(record)
        return ref

    # -- code ------------------------------------------------------------------------------

    def export(self, digest: str, record: bytes) -> None:
        """Store a class or function under its content hash, once per process."""
        if digest not in self._exported:
            self.store.run("SET", routing.code_key(digest), record, "EX", CODE_SECONDS)
            self._exported.add(digest)

    def fetch_code(self, digest: str) -> bytes | None:
        """Return a stored class or function, which then stays for another while."""
        record = self.store.run("GETEX", routing.code_key(digest), "EX", CODE_SECONDS)
        return None if record is None else bytes(record)

    def announce_need(self, need: Need) -> None:
        """Tell nodes about a kind of call that they do not keep workers ready for."""
        self.store.run("HSET", routing.NEEDS, need.label, json.dumps(need.amounts))

    def fail_target(self, target: Target, ids: Iterable[str], error: ActorDiedError) -> None:
        """Complete calls that the store refused because their actor is dead."""
        target.death = error
        target.ahead = 0
        for call_id in ids:
            weak = self._refs.get(call_id)
            ref = weak() if weak is not None else None
            if ref is not None and not ref.ready:
                self._complete(ref, None, error)
                if ref._shared:
                    self.share(ref)

    def fail_pending(self, error: RayError) -> None:
        """Complete every reference that still waits: nobody is left to make their values."""
        for weak in list(self._refs.values()):
            ref = weak()
            if ref is not None and not ref.ready:
                self._complete(ref, None, error)

    def release_results(self) -> None:
        """Free the results that only this process knows of: it leaves."""
        for weak in list(self._refs.values()):
            ref = weak()
            if ref is not None and ref._owned and not ref._shared:
                self._released.append((ref.id, ref._meta))
        self.flush()

    def close(self) -> None:
        """Send what is left, then close the connections."""
        try:
            self.flush()
        except RayError as error:
            logger.debug("nothing more can be sent: %s", error)
        self.mux.close()
        self.store.close()


class _Acknowledge:
    """Handles the store's answer to one batch of submissions."""

    __slots__ = ("first", "ids", "runtime", "target")

    def __init__(self, runtime: Runtime, target: Target, first: int, ids: list[str]) -> None:
        self.runtime, self.target, self.first, self.ids = runtime, target, first, ids

    def __call__(self, reply: Any) -> None:
        target = self.target
        target.acknowledged = max(target.acknowledged, self.first + len(self.ids) - 1)
        if isinstance(reply, Exception):
            self._fail(RayError(f"the store refused {len(self.ids)} calls: {reply}"))
            return
        code = reply[0]
        if code == 0:
            target.ahead = reply[1]
        elif code == -2:
            cause = reply[1].decode() or "it was ended"
            message = f"{target.name} is dead: {cause}"
            error = ActorDiedError(message, target.actor_id, reply[2] == b"1")
            self.runtime.fail_target(target, self.ids, error)
        elif code == -1:
            message = (
                f"{target.name} is not known to this store: it ended long ago, or the store was "
                "emptied. Create it again"
            )
            error = ActorDiedError(message, target.actor_id)
            self.runtime.fail_target(target, self.ids, error)
        else:
            last = reply[1]
            self._fail(RayError(
                f"the store has forgotten calls to {target.name}: it knows them up to number "
                f"{last}, this process sent {self.first} next. The store lost writes"
            ))  # fmt: skip

    def _fail(self, error: RayError) -> None:
        for call_id in self.ids:
            weak = self.runtime._refs.get(call_id)
            ref = weak() if weak is not None else None
            if ref is not None and not ref.ready:
                self.runtime._complete(ref, None, error)


_EMPTY = encode_body([], {})

_current: Runtime | None = None
#: Set by the edge that knows how to start a cluster: joins one when the first call needs it.
auto_init: Callable[[], None] | None = None


def _forget_in_child() -> None:
    # A fork of a driver must not write to its parent's connections; init() gives it its own.
    global _current  # noqa: PLW0603 - as set_current
    _current = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def set_current(runtime: Runtime | None) -> None:
    """Make this the runtime of the process."""
    global _current  # noqa: PLW0603 - a process has one cluster, as in Ray
    _current = runtime


def current() -> Runtime:
    """Return the runtime of the process; joins a cluster first where that is possible.

    Raises:
        NotInitializedError: the process has not joined a cluster.
    """
    if _current is None:
        if auto_init is None:
            raise NotInitializedError("this process is in no cluster: call celery_actors.init()")
        auto_init()
    if _current is None:
        raise NotInitializedError("celery_actors.init() did not give a runtime")
    return _current


def is_current() -> bool:
    """Tell whether this process is in a cluster."""
    return _current is not None
