"""``init`` and ``shutdown``: how a driver joins a cluster and leaves it."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from . import profiling, runtime
from .cluster_context import ClusterContext
from .config import resolve_keys
from .driver import Driver
from .embedded import newest_address, start_local
from .errors import ConfigurationError, NotInitializedError, RayError
from .init_arguments import (
    job_settings,
    refuse_unknown,
    set_up_logging,
    wanted_address,
)
from .labels import check_labels
from .resource_options import check_number, check_resources
from .runtime import RESULT_SECONDS

__all__ = [
    "ClusterContext",
    "init",
    "is_initialized",
    "shutdown",
    "timeline",
]

logger = logging.getLogger(__name__)

_session: Driver | None = None
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
            ``?ssl_ca_certs=/path``, and ``?global_keyprefix=shop:``, which stands before every key
            and channel, as Celery's setting of that name; ``"auto"``: the newest local cluster of
            this user; ``"local"``: always start one. None: the variable ``CELERY_ACTORS_ADDRESS``,
            then ``RAY_ADDRESS``, else start one.
        app: a Celery app whose broker is the address to join: its ``broker_url``,
            ``broker_use_ssl`` and in ``broker_transport_options`` ``master_name`` and
            ``global_keyprefix`` count.
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
        if _session is not None:
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
            return _begin(Driver(
                found, ring, namespace=namespace, log_to_driver=log_to_driver,
                result_seconds=result_seconds, env=env, app=app, leave=shutdown,
            ))  # fmt: skip
        words = _node_words(num_cpus, num_gpus, resources, memory, labels)
        words += ["--result-seconds", str(result_seconds)]
        words += ["--task-events"] if task_events or profiling.wanted() else []
        with _progress("starting a local cluster"):
            local = start_local(words, storage=storage)
        try:
            ring = resolve_keys(local.address, environment={})
            return _begin(Driver(
                local.address, ring, local=local, namespace=namespace, log_to_driver=log_to_driver,
                result_seconds=result_seconds, env=env, leave=shutdown,
            ))  # fmt: skip
        except BaseException:
            local.stop()
            raise


def _begin(driver: Driver) -> ClusterContext:
    global _session  # noqa: PLW0603 - a process has one cluster, as in Ray
    _session = driver
    runtime.set_current(driver.runtime)
    return driver.context


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


def shutdown(*, _exiting_interpreter: bool = False) -> None:
    """Leave the cluster: end this driver's actors, and the local cluster if ``init`` started it.

    Calling it twice, or before ``init``, does nothing. What Ray's programs may say with it changes
    nothing here.
    """
    global _session
    with _lock:
        session, _session = _session, None
        if session is not None:
            session.leave()


def timeline(filename: str | os.PathLike[str] | None = None) -> list[dict[str, Any]] | None:
    """Return the calls since ``init`` as events for Perfetto, or write them to a file, as JSON.

    Recorded where ``CELERY_ACTORS_PROFILING=1`` (or ``RAY_PROFILING=1``) was set before ``init``.
    ``celery_actors timeline`` records any cluster, for a while.

    Raises:
        RayError: it was not.
    """
    if _session is None or _session.recorder is None:
        raise RayError(
            f"no timeline has been recorded: set {profiling.VARIABLES[0]}=1 before init(), or "
            "run `celery_actors timeline -o trace.json` beside the program"
        )
    return _session.recorder.timeline(filename)


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
