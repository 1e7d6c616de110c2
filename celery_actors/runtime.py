"""One process's side of a cluster: its session, its connection, its calls and its results."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from . import recording, records, routing
from .buffers import Buffers
from .calls import Calls, Target
from .cancellation import Canceller
from .capacity import Capacity
from .code import CODE_SECONDS, load_code
from .config import Address, KeyRing
from .current_call import WorkerFacts
from .directory import ActorRecord, Creator
from .errors import GetTimeoutError, NotInitializedError, ObjectLostError, RayError
from .holdings import Holdings
from .lineage import Lineage
from .messages import MessageTemplate, decode_meta
from .methods import ActorTraits
from .object_ref import ObjectRef
from .object_ref_generator import ObjectRefGenerator
from .recording import step
from .results import Results
from .serialization import Sealer
from .store import Mux, Store
from .store.wire import pack
from .waiting import WaitingWork

__all__ = ["RESULT_SECONDS", "Runtime", "current", "is_current", "set_current"]

logger = logging.getLogger(__name__)

#: Seconds a result stays for those who do not hold its reference (Celery's `result_expires`).
RESULT_SECONDS = 24 * 3600


class Runtime:
    """What a process needs to call and to hear. Thread-safe.

    Args:
        job: the driver that this process works for; None: itself.
        session: the name of this process among others; None: a fresh one.
        on_log: gets what workers of this driver print.
        on_tick: called every quarter of a second or more often, from the reading thread.
        away_seconds: for how long a store that cannot be reached is tried again.
    """

    def __init__(
        self,
        address: Address,
        ring: KeyRing,
        *,
        job: str | None = None,
        session: str | None = None,
        namespace: str,
        node_id: str = "",
        on_log: Callable[[bytes], None] | None = None,
        on_tick: Callable[[], None] | None = None,
        result_seconds: int = RESULT_SECONDS,
        away_seconds: float = 0,
    ) -> None:
        self.address = address
        self.sealer = Sealer(ring)
        self.session = session or secrets.token_hex(8)
        self.job = job or self.session
        self.namespace = namespace
        self.node_id = node_id
        self.result_seconds = result_seconds
        self.store = Store(address, away=away_seconds)
        self.buffers = Buffers(self.store, self.sealer, node_id, result_seconds)
        self.sealer.buffers = self.buffers
        self._origin = f"{os.getpid()}@{node_id or 'driver'}"
        self._on_log = on_log
        self._on_tick = on_tick
        self._traits: dict[str, ActorTraits] = {}  # by content hash
        self._exported: dict[str, bytes] = {}  # code that this process has stored
        self.on_reconnected: Callable[[], None] = lambda: None
        #: Says again what the store must know of a driver, beside what follows here.
        self.on_rollback: Callable[[], None] = lambda: None
        self.worker: WorkerFacts | None = None  # None: a driver
        #: Returns the Celery app on this cluster.
        self.find_app: Callable[[], Any] = lambda: None
        #: What runs calls at once in this process (see ``inline``); None: they are sent.
        self.inline: Any = None
        self.is_cancelled: Callable[[str], bool] = lambda _call_id: False
        self.env: dict[str, Any] = {}  # the runtime environment that calls made here inherit
        self.environments: dict[str, str] = {}  # given environment -> name of the stored one
        lock = threading.RLock()
        self.holdings = Holdings(self.session, self.job, lock, self.buffers, result_seconds)
        self.results = Results(
            self.session, self.sealer, self.store, self.buffers, lock, result_seconds,
            self.holdings,
        )  # fmt: skip
        self.results.runtime = self
        self.buffers.reclaim = self.results.reclaim
        self.calls = Calls(
            self.session,
            self.sealer,
            self.buffers,
            self.results,
            lock,
            result_seconds,
            self.holdings,
        )
        self._log_channel = routing.log_channel(self.session).encode() if on_log else b""
        channels = [routing.reply_channel(self.session), self._log_channel.decode()]
        self.mux = Mux(
            address, list(filter(None, channels)), self._on_push, self._reconnected, self._tick
        )
        self.results.mux = self.calls.mux = self.holdings.mux = self.mux
        self.results.flush = self.calls.flush
        self.results.on_rollback = self._tell_again
        self.canceller = Canceller(self)
        self.lineage = Lineage(self)
        #: Ends the actor in this process from inside one of its calls; None: there is no actor.
        self.exit_actor: Callable[[str], None] | None = None
        self.creator = Creator()
        self.capacity = Capacity(self.store)
        self.waiting = self.calls.waiting = WaitingWork(self.capacity)
        self.waiting.mux = self.mux

    def template(
        self, target: Target, task: str, code: str = "", retries: int = 0, **more: Any
    ) -> MessageTemplate:
        """Return the fixed part of this process's messages for one method or function."""
        return MessageTemplate(
            task=task, queue=target.queue, caller=self.session, job=self.job, origin=self._origin,
            code=code, max_retries=retries, **more,
        )  # fmt: skip

    def _on_push(self, channel: bytes, payload: bytes) -> None:
        if channel == self._log_channel and self._on_log is not None:
            self._on_log(payload)
        else:
            self.results.on_push(channel, payload)

    def _reconnected(self) -> None:
        """Ask for what may have been missed; then whether the store is still the one it was."""
        self.on_reconnected()
        self.results.refetch()
        self.calls.check()

    def _tell_again(self) -> None:
        """Say once more what the store must know of this process: it has lost writes."""
        for digest, record in list(self._exported.items()):
            self.mux.post(pack(("SET", routing.code_key(digest), record, "EX", CODE_SECONDS)))
        self.holdings.tell_again()
        self.on_rollback()

    def _tick(self) -> None:
        self.calls.tick()
        self.results.flush_unwatched()
        self.buffers.let_go()
        self.results.report_unmet()
        self.waiting.tick()
        self.results.renew()
        self.calls.renew()
        if self._on_tick is not None:
            self._on_tick()

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """Return the values in order; raise as soon as one of the calls has failed."""
        if recording.current is None:
            return self._get(refs, timeout)
        return step("get", lambda: self._get(refs, timeout))

    def _get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        results = self.results
        deadline = None if timeout is None else time.monotonic() + timeout
        if not results.wait(refs, len(refs), timeout, fail_fast=True):
            missing = [ref for ref in refs if not ref.ready]
            raise GetTimeoutError(
                f"{len(missing)} of {len(refs)} values were not ready after {timeout} s; the first "
                f"is {missing[0]!r}. The calls go on: get them again, or wait longer"
            )
        for ref in refs:
            if ref.failed:
                self.value(ref)
        return [self.value(ref, deadline) for ref in refs]

    def value(self, ref: ObjectRef[Any], deadline: float | None = None) -> Any:
        """Return the value of a ready reference, made again if it was lost, or raise its error."""
        while True:
            try:
                return self.results.value(ref)
            except ObjectLostError as error:
                if not self.results.rebuild(ref, error):
                    raise
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self.results.wait([ref], 1, left, fail_fast=False):
                raise GetTimeoutError(
                    f"{ref!r} was lost, and the call that makes it again was not ready in time. It "
                    "goes on: get it again, or wait longer"
                )

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value and return its reference."""
        return step("put", lambda: self._put(value))

    def _put(self, value: Any) -> ObjectRef[Any]:
        call_id = self.calls.next_id().decode()
        record = records.success_record(value, call_id, self.sealer, "the value", self.holdings)
        self.mux.post(pack(("SET", routing.result_key(call_id), record, "EX", self.result_seconds)))
        ref = self.results.new(call_id)
        self.results.complete(ref, decode_meta(record), None)
        return ref

    def export(self, digest: str, record: bytes, things: Iterable[str] = ()) -> None:
        """Store a class or function under its content hash, once per process.

        ``things`` is what it refers to: kept alive as long as the driver.
        """
        if digest not in self._exported:
            self.holdings.carry(things, "c", digest)
            self.store.run("SET", routing.code_key(digest), record, "EX", CODE_SECONDS)
            self._exported[digest] = record

    def fetch_code(self, digest: str) -> bytes | None:
        """Return a stored class or function, which then stays for another while."""
        record = self.store.run("GETEX", routing.code_key(digest), "EX", CODE_SECONDS)
        return None if record is None else bytes(record)

    def traits_of(self, record: ActorRecord) -> ActorTraits | None:
        """Return what an actor's class can do; None where the store does not know it any more."""
        digest = record.meta.get("traits", "")
        if digest not in self._traits:
            try:
                self._traits[digest] = load_code(digest, self.fetch_code, self.sealer)
            except ObjectLostError:
                return None
        return self._traits[digest]

    def close(self) -> None:
        """Send what is left, then close the connections."""
        try:
            self.calls.tick()
            self.results.reclaim()
        except RayError as error:
            logger.debug("nothing more can be sent: %s", error)
        self.mux.close()
        self.buffers.let_go(after=0)
        self.store.close()


_current: Runtime | None = None
#: Set by the edge that knows how to start a cluster: joins one when the first call needs it.
auto_init: Callable[[], None] | None = None


def _forget_in_child() -> None:
    # A fork of a driver must not write to its parent's connections; init() gives it its own.
    set_current(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def set_current(runtime: Runtime | None) -> None:
    """Make this the runtime of the process."""
    global _current  # noqa: PLW0603 - a process has one cluster, as in Ray
    _current = runtime


#: Finds, or joins, the cluster to which a class or function belongs.
Binding = Callable[[], Runtime]
_scope: ContextVar[Runtime | None] = ContextVar("celery_actors.runtime", default=None)
#: True once a process has joined a cluster beside its own: see ``using``.
_several = False


@contextlib.contextmanager
def using(context: Runtime) -> Iterator[None]:
    """Make this the runtime of what runs inside: a process may be in several clusters."""
    global _several  # noqa: PLW0603 - who is in one cluster pays for no look
    _several = True
    token = _scope.set(context)
    try:
        yield
    finally:
        _scope.reset(token)


def scoped() -> Runtime | None:
    """Return the runtime in whose ``using`` this runs, which what is made here belongs to."""
    return _scope.get() if _several else None


def holder(refs: Iterable[ObjectRef[Any] | ObjectRefGenerator[Any]]) -> Runtime:
    """Return the runtime that waits for these values.

    Raises:
        ValueError: they belong to several clusters.
    """
    if not _several:
        return current()
    calls = [ref if isinstance(ref, ObjectRef) else ref.completed() for ref in refs]
    found = {id(ref.table): ref.table.runtime for ref in calls}
    if len(found) > 1:
        raise ValueError("these references are of several clusters: ask for those of each alone")
    return next(iter(found.values()), None) or current()


def current() -> Runtime:
    """Return the runtime of the process; joins a cluster first where that is possible.

    Raises:
        NotInitializedError: the process has not joined a cluster.
    """
    if _several and (found := _scope.get()) is not None:
        return found
    if _current is None:
        if auto_init is None:
            raise NotInitializedError("this process is in no cluster: call celery_actors.init()")
        auto_init()
    if _current is None:
        raise NotInitializedError("celery_actors.init() did not give a runtime")
    return _current


def is_current(context: Runtime | None = None) -> bool:
    """Tell whether this process is in a cluster, or by this runtime."""
    found = scoped() or _current
    return found is not None if context is None else _current is context
