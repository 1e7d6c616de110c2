"""``init`` and ``shutdown``: how a driver joins a cluster and leaves it."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from . import environment, registry, routing, runtime
from .assignment import LogBatch
from .cluster_context import ClusterContext
from .config import Address, KeyRing, resolve_keys
from .driver_output import DriverOutput
from .embedded import LocalCluster, newest_address, start_local
from .errors import ConfigurationError, LocalRayletDiedError, NotInitializedError, RayError
from .init_arguments import (
    job_settings,
    refuse_unknown,
    set_up_logging,
    wanted_address,
)
from .labels import check_labels
from .node.recovery import end_session, node_lost
from .resource_options import check_number, check_resources
from .runtime import RESULT_SECONDS, Runtime
from .store import Scripts, Store, silence_of
from .store.wire import pack

__all__ = [
    "ClusterContext",
    "init",
    "is_initialized",
    "shutdown",
]

logger = logging.getLogger(__name__)

RENEW_SECONDS = 3.0
#: Seconds for which a driver waits for a node whose lease is over: as long as a lease lasts.
LATE_SECONDS = 3.0


class _Session:
    """The driver's state between ``init`` and ``shutdown``."""

    def __init__(self, address: Address, local: LocalCluster | None, log_to_driver: bool) -> None:
        self._address = address
        self.local = local
        self.output = DriverOutput() if log_to_driver else None
        self.context: ClusterContext | None = None
        self.runtime: Runtime | None = None
        self._renewed = 0.0
        self._missing: dict[str, float] = {}  # nodes without a lease, and since when
        self._looked = 0.0  # when they were looked at
        self._flushed = threading.Event()

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
        now = time.monotonic()
        if self.runtime is not None and now - self._renewed > RENEW_SECONDS:
            self._renewed = now
            words = (self.runtime.session, registry.SESSION_MS, "")
            self.runtime.mux.post(Scripts.pack("renew_session", [routing.SESSIONS], *words))

    def watchdog(self) -> None:
        """While a result is long in coming: is there still anybody to make it?"""
        if self.runtime is None:
            return
        store = self.runtime.store
        missing = {node.node_id for node in registry.records(store) if not node.alive}
        for node_id in self._overdue(missing):
            node_lost(store, node_id, self.runtime.result_seconds)
        if self.local is not None and self.local.node.poll() is not None:
            self.runtime.results.fail_pending(LocalRayletDiedError(
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


_session: _Session | None = None
_lock = threading.RLock()


def init(
    address: str | None = None,
    *,
    app: Any = None,
    num_cpus: float | None = None,
    num_gpus: int | None = None,
    resources: Mapping[str, float] | None = None,
    memory: float | None = None,
    labels: Mapping[str, str] | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    job_config: Any = None,
    ignore_reinit_error: bool = False,
    log_to_driver: bool = True,
    configure_logging: bool = True,
    logging_level: int | str = logging.INFO,
    logging_format: str | None = None,
    storage: str | os.PathLike[str] | None = None,
    keys: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    insecure: bool = False,
    task_events: bool = False,
    result_seconds: int = RESULT_SECONDS,
    **rays_own: Any,
) -> ClusterContext:
    """Start a local cluster, or join a running one.

    Args:
        address: ``redis://…``, ``rediss://…`` (TLS), ``unix://…``,
            ``sentinel://host:port,host:port/name/db`` (``sentinels://…`` with TLS; ``name`` is what
            the sentinels call the primary), each with redis-py's options, such as
            ``?ssl_ca_certs=/path``; ``"auto"``: the newest local cluster of this user;
            ``"local"``: always start one. None: the variable ``CELERY_ACTORS_ADDRESS``, then
            ``RAY_ADDRESS``, else start one.
        app: a Celery app whose broker is the address to join: its ``broker_url``,
            ``broker_use_ssl`` and ``broker_transport_options["master_name"]`` count.
        num_cpus: processors of a started node; None: those found.
        num_gpus: GPUs of a started node; None: those found.
        resources: other resources of a started node, by name.
        memory: bytes of memory that a started node gives to work; None: what is found.
        labels: labels of a started node, for ``label_selector``.
        namespace: where names of actors are looked up; None: one of this driver's own.
        runtime_env: the environment of this driver's actors and functions: ``env_vars``,
            ``working_dir``, ``py_modules``, ``excludes``, ``worker_process_setup_hook``.
        job_config: Ray's ``JobConfig`` or a mapping: ``runtime_env`` and ``ray_namespace`` count.
        ignore_reinit_error: return the present context where ``init`` was called before.
        log_to_driver: show what workers print, prefixed with ``(Class pid=…)``; the variable
            ``RAY_LOG_TO_DRIVER=0`` turns that off, too.
        configure_logging: set up the logger ``celery_actors``; it gets a handler only where
            nobody has set one up.
        logging_level: the level of that logger.
        logging_format: the format of that handler.
        storage: a folder in which a started store keeps its data for the next run.
        keys: signing keys, separated by commas; None: ``key_file``, ``CELERY_ACTORS_KEYS``, or
            the local cluster's.
        key_file: a file that holds them.
        insecure: accept a loopback store without a key.
        task_events: let workers send an event for every call.
        result_seconds: seconds for which results stay that nobody holds a reference to.
        rays_own: taken so that Ray's programs run, and without effect, because what they tune is
            not here: ``include_dashboard``, ``dashboard_host``, ``dashboard_port`` (Flower is the
            dashboard), ``object_store_memory`` (values live in shared memory as they need and in
            the store), ``logging_config``, ``enable_resource_isolation``,
            ``system_reserved_cpu``, ``system_reserved_memory``, and private ones (``_temp_dir``,
            ``_system_config``, …).

    Raises:
        RuntimeError: called twice. ConfigurationError: settings contradict each other, or a key
            is missing. ClusterUnreachableError: the store does not answer, within seconds.
            TypeError: an unknown argument.
    """
    refuse_unknown(rays_own)
    log_to_driver = log_to_driver and os.environ.get("RAY_LOG_TO_DRIVER") != "0"
    with _lock:
        if _session is not None and _session.context is not None:
            if ignore_reinit_error:
                return _session.context
            raise RuntimeError(
                "celery_actors.init() was called already. Call shutdown() first, or pass "
                "ignore_reinit_error=True"
            )
        namespace, env = job_settings(namespace, runtime_env, job_config)
        if configure_logging:
            set_up_logging(logging_level, logging_format)
        wanted = wanted_address(address, app)
        if wanted is not None:
            found = newest_address() if wanted == "auto" else wanted
            given = {"num_cpus": num_cpus, "num_gpus": num_gpus, "resources": resources,
                     "memory": memory, "labels": labels, "storage": storage}  # fmt: skip
            if refused := [name for name, value in given.items() if value is not None]:
                raise ConfigurationError(
                    f"{', '.join(refused)} describe a cluster that init() starts, but "
                    f"{found.public} is joined. Give them to `celery_actors worker` there"
                )
            ring = resolve_keys(found, keys=keys, key_file=key_file, insecure=insecure)
            return _join(found, ring, None, namespace, log_to_driver, result_seconds, env)
        words = _node_words(num_cpus, num_gpus, resources, memory, labels)
        words += ["--result-seconds", str(result_seconds)]
        words += ["--task-events"] if task_events else []
        with _progress("starting a local cluster"):
            local = start_local(words, storage=storage)
        try:
            ring = resolve_keys(local.address, environment={})
            return _join(local.address, ring, local, namespace, log_to_driver, result_seconds, env)
        except BaseException:
            local.stop()
            raise


def _node_words(
    num_cpus: float | None, num_gpus: int | None, resources: Mapping[str, float] | None,
    memory: float | None, labels: Mapping[str, str] | None,
) -> list[str]:  # fmt: skip
    words: list[str] = []
    if num_cpus is not None:
        check_number("num_cpus", num_cpus)
        words += ["--num-cpus", str(num_cpus)]
    if num_gpus is not None:
        check_number("num_gpus", num_gpus)
        if num_gpus != int(num_gpus):
            raise ValueError(
                f"num_gpus of a node must be whole, got {num_gpus}: it counts devices. Actors and "
                "functions may ask for shares of them"
            )
        words += ["--num-gpus", str(int(num_gpus))]
    if resources is not None:
        check_resources("resources", resources)
        words += ["--resources", json.dumps(dict(resources))]
    if memory is not None:
        check_number("memory", memory)
        words += ["--memory", str(int(memory))]
    if labels is not None:
        check_labels("labels", labels)
        words += ["--labels", json.dumps(dict(labels))]
    return words


@contextlib.contextmanager
def _progress(what: str) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def _join(
    address: Address, ring: KeyRing, local: LocalCluster | None, namespace: str | None,
    log_to_driver: bool, result_seconds: int, env: Mapping[str, Any],
) -> ClusterContext:  # fmt: skip
    global _session  # noqa: PLW0603 - a process has one cluster, as in Ray
    Store.probe(address)
    session = _Session(address, local, log_to_driver)
    context = Runtime(
        address, ring, namespace=namespace or "", node_id=local.node_id if local else "",
        on_log=session.on_log, on_tick=session.tick, result_seconds=result_seconds,
    )  # fmt: skip
    context.namespace = namespace or f"anonymous-{context.session}"
    path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109 - a string is what is sent
    record = json.dumps({"path": path, "namespace": context.namespace})
    known = ("SET", routing.session_key(context.session), record)
    begins = Scripts.pack(
        "renew_session", [routing.SESSIONS], context.session, registry.SESSION_MS, "1"
    )
    try:
        environment.adopt(context, env)
        context.store.run(*known)
        context.store.scripts.begin_session(routing.SESSIONS, context.session, registry.SESSION_MS)
    except BaseException:
        context.close()
        raise
    context.results.watchdog = session.watchdog
    session.runtime = context

    def begin_again() -> None:
        context.mux.post(pack(known))
        context.mux.post(begins)

    context.on_rollback = begin_again
    node_id = local.node_id if local else next(iter(context.store.hash(routing.NODES)), "")
    session.context = ClusterContext(
        address.shared_form, context.namespace, node_id, context.session, context, shutdown
    )
    runtime.set_current(context)
    _session = session
    return session.context


def shutdown() -> None:
    """Leave the cluster: end this driver's actors, and the local cluster if ``init`` started it.

    Calling it twice, or before ``init``, does nothing.
    """
    global _session
    with _lock:
        session, _session = _session, None
        if session is None or session.runtime is None:
            return
        context = session.runtime
        try:
            context.calls.flush()
            context.results.release_all()
            session.collect_output(context)
            context.holdings.close()
            end_session(context.store, context.session, context.result_seconds)
            session.collect_output(context)
        except RayError as error:
            logger.debug("the store did not answer any more: %s", error)
        finally:
            runtime.set_current(None)
            if session.context is not None:
                session.context.close_app()
            try:
                context.close()
            finally:
                if session.output is not None:
                    session.output.close()
                if session.local is not None:
                    session.local.stop()


def is_initialized() -> bool:
    """Tell whether this process is in a cluster."""
    return runtime.is_current()


def _auto_init() -> None:
    if os.environ.get("CELERY_ACTORS_AUTO_INIT", "1") == "0":
        raise NotInitializedError("this process is in no cluster: call celery_actors.init()")
    init()


def _forget_in_child() -> None:
    # A fork of a driver must not end its parent's cluster when it exits.
    global _session  # noqa: PLW0603 - a process has one cluster, as in Ray
    _session = None


runtime.auto_init = _auto_init
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
atexit.register(shutdown)
