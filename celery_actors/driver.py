"""A driver: a process's connection to a cluster, its lease, and what ends with it."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from . import environment, registry, routing, runtime
from .assignment import LogBatch
from .cluster_context import ClusterContext
from .config import Address, KeyRing
from .driver_output import DriverOutput
from .embedded import LocalCluster
from .errors import LocalRayletDiedError, NotInitializedError, RayError
from .installation import import_path
from .node.recovery import end_session, node_lost
from .profiling import Recorder, wanted
from .runtime import RESULT_SECONDS, Runtime
from .store import Scripts, Store, silence_of
from .store.wire import pack

__all__ = ["Driver"]

logger = logging.getLogger(__name__)

RENEW_SECONDS = 3.0
#: Seconds for which a lease that ran out explains what the store has forgotten.
LAPSED_SECONDS = 60.0
#: Seconds for which a driver waits for a node whose lease is over: as long as a lease lasts.
LATE_SECONDS = 3.0


class Driver:
    """One driver, from the moment when it joins a cluster until it leaves.

    Args:
        address: the store.
        ring: the signing keys.
        local: the local cluster that it has started and ends with it; None: none.
        namespace: where names are looked up; None: one of its own.
        log_to_driver: print what its workers print.
        app: its Celery app; None: one on the store is made when it is needed.

    Raises:
        ClusterUnreachableError: the store does not answer.
    """

    def __init__(
        self, address: Address, ring: KeyRing, *, local: LocalCluster | None = None,
        namespace: str | None = None, log_to_driver: bool = True,
        result_seconds: int = RESULT_SECONDS, env: Mapping[str, Any] | None = None, app: Any = None,
        leave: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        Store.probe(address)
        self._address = address
        self.local = local
        self.output = DriverOutput() if log_to_driver else None
        self._renewed = time.monotonic()
        self._lapsed = 0.0, -math.inf  # seconds of silence, and when that was seen
        self._missing: dict[str, float] = {}  # nodes without a lease, and since when
        self._looked = 0.0  # when they were looked at
        self._flushed = threading.Event()
        self._runtime: Runtime | None = None  # while it is being made it calls back already
        context = Runtime(
            address, ring, namespace=namespace or "", node_id=local.node_id if local else "",
            on_log=self.on_log, on_tick=self.tick, result_seconds=result_seconds,
        )  # fmt: skip
        context.namespace = namespace or f"anonymous-{context.session}"
        try:
            environment.adopt(context, env or {})
            self._introduce(context)
        except BaseException:
            context.close()
            raise
        context.results.watchdog = self.watchdog
        context.results.lapse = self.lapse
        # While the store is away nodes take nobody for ended: that silence does not count.
        context.on_reconnected = self._renew
        self._renewed = time.monotonic()
        self._runtime = context
        node_id = local.node_id if local else next(iter(context.store.hash(routing.NODES)), "")
        self.context = ClusterContext(
            address.shared_form, context.namespace, node_id, context.session, context,
            leave or self.leave, app,
        )  # fmt: skip
        context.find_app = lambda: self.context.app
        self.recorder = Recorder(self.context.app) if wanted() else None

    @property
    def runtime(self) -> Runtime:
        """This process's runtime in the cluster.

        Raises:
            NotInitializedError: the driver has left.
        """
        if self._runtime is None:
            raise NotInitializedError("this driver has left its cluster")
        return self._runtime

    @property
    def _lease_ms(self) -> int:
        return registry.SESSION_MS if self.local is None else registry.OWN_SESSION_MS

    def _introduce(self, context: Runtime) -> None:
        """Tell the store of this driver, now and again after it has lost writes."""
        record = json.dumps({"path": import_path(), "namespace": context.namespace})
        known = ("SET", routing.session_key(context.session), record)
        begins = Scripts.pack(
            "renew_session", [routing.SESSIONS], context.session, self._lease_ms, "1"
        )
        context.store.run(*known)
        context.store.scripts.begin_session(routing.SESSIONS, context.session, self._lease_ms)

        def begin_again() -> None:
            context.mux.post(pack(known))
            context.mux.post(begins)

        context.on_rollback = begin_again

    def leave(self) -> None:
        """End what this driver has made, and the local cluster that it has started."""
        context, self._runtime = self._runtime, None
        if context is None:
            return
        try:
            context.calls.flush()
            context.results.release_all()
            self.collect_output(context)
            context.holdings.close()
            end_session(context.store, context.session, context.result_seconds)
            self.collect_output(context)
        except RayError as error:
            logger.debug("the store did not answer any more: %s", error)
        finally:
            if runtime.is_current(context):
                runtime.set_current(None)
            if self.recorder is not None:
                self.recorder.close()
            self.context.close_app()
            try:
                context.close()
            finally:
                if self.output is not None:
                    self.output.close()
                if self.local is not None:
                    self.local.stop()

    def on_log(self, payload: bytes) -> None:
        """Print what a worker printed, where the driver prints now."""
        batch = msgspec.json.decode(payload, type=LogBatch)
        if batch.flushed:
            self._flushed.set()
            return
        if self.output is not None:
            self.output.take(batch)

    def tick(self) -> None:
        """Renew the session's lease; print what was held back."""
        if self.output is not None:
            self.output.tick()
        self.lapse()
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self._renew()

    def _renew(self) -> None:
        if self._runtime is not None:
            self._renewed = time.monotonic()
            words = (self._runtime.session, self._lease_ms, "")
            self._runtime.mux.post(Scripts.pack("renew_session", [routing.SESSIONS], *words))

    def lapse(self) -> float:
        """Return how long this driver was silent when its lease ran out of late; 0: it did not."""
        now = time.monotonic()
        silent = now - self._renewed
        if self._runtime is not None and 1000 * silent > self._lease_ms:
            self._lapsed = silent, now
        silent, seen = self._lapsed
        return silent if now - seen < LAPSED_SECONDS else 0.0

    def watchdog(self) -> None:
        """While a result is long in coming: is there still anybody to make it?"""
        if self._runtime is None:
            return
        store = self._runtime.store
        missing = {node.node_id for node in registry.records(store) if not node.alive}
        if self.local is not None and self.local.node.poll() is None:
            missing.discard(self.local.node_id)  # it runs: it is only late, however late
        for node_id in self._overdue(missing):
            node_lost(store, node_id, self._runtime.result_seconds)
        if self.local is not None and self.local.node.poll() is not None:
            self._runtime.results.fail_pending(LocalRayletDiedError(
                f"the local node {self.local.node_id} ended with status "
                f"{self.local.node.returncode}; call shutdown() and init() to start another. Its "
                        f"log ends:\n{self.local.log_tail()}"
            ))  # fmt: skip

    def _overdue(self, missing: set[str]) -> list[str]:
        """Return the nodes whose leases have been missing for a while.

        A node on a busy machine may only be late, and takes its place again; so may one that has
        not found the new primary yet. Other nodes judge at once; a driver helps where none is left.
        """
        now = time.monotonic()
        known = self._missing if now - self._looked < 2 * LATE_SECONDS else {}
        self._looked = now
        self._missing = {node_id: known.get(node_id, now) for node_id in missing}
        late = LATE_SECONDS + (silence_of(self._address) or 0)
        return [node_id for node_id, since in self._missing.items() if now - since > late]

    def collect_output(self, context: Runtime) -> None:
        """Wait until a node has sent what this driver's workers printed, a second at most."""
        self._flushed.clear()
        context.store.run("PUBLISH", routing.BELL, f"flush:{context.session}")
        context.mux.wait(self._flushed.is_set, time.monotonic() + 1.0)
