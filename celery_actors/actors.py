"""``Actors(app)``: actors and remote functions in a Celery deployment that exists."""

from __future__ import annotations

import atexit
import functools
import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, cast

from . import actor, objects, runtime
from .app_settings import address_of
from .cluster_context import ClusterContext
from .config import Address, resolve_keys
from .driver import Driver
from .errors import ConfigurationError, NotInitializedError
from .function import RemoteFunction
from .inline import InlineActor, InlineCluster
from .remote import make
from .runtime import RESULT_SECONDS, Runtime

__all__ = ["Actors"]

#: The namespace of names where none is given: every process of a deployment finds the same actors.
NAMESPACE = "default"


def _in_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that does the same in the cluster of its Actors."""

    @functools.wraps(function)
    def method(actors: Actors, *args: Any, **kwargs: Any) -> Any:
        with runtime.using(actors.runtime()):
            return function(*args, **kwargs)

    return method


class Actors:
    """Actors and remote functions on a Celery app of yours, with its settings.

    ``actors = Actors(app)``, then ``@actors.remote`` on classes and functions. The cluster is
    joined when the first of them is used, so it costs nothing to import. Several in one process,
    each with an app of its own, do not meet. What you have (tasks, workers, queues, beat) stays
    as it is.

    A process that uses an actor is a driver: actors that it creates end with it, unless they have
    ``lifetime="detached"``, as those of a web application should.

    With the app's ``task_always_eager`` everything runs at once in the calling process: see
    ``inline``.

    Args:
        app: your Celery app; None: ``init_app`` names it later, as in Flask's factories.
        store: the Redis or Valkey where actors live; None: the app's ``broker_url``, or with
            another broker, such as RabbitMQ, its ``result_backend``.
        namespace: where names of actors are looked up.
        keys: signing keys, separated by commas; None: ``key_file``, the app's setting
            ``celery_actors_keys``, or the variable ``CELERY_ACTORS_KEYS``.
        key_file: a file that holds them.
        insecure: accept a loopback store without a key.
        log_to_driver: print here what workers print.
        runtime_env: as in ``init``.
        result_seconds: seconds for which results stay that nobody holds a reference to; None: the
            app's ``result_expires``.
    """

    def __init__(
        self, app: Any = None, *, store: str | None = None, namespace: str = NAMESPACE,
        keys: str | None = None, key_file: str | os.PathLike[str] | None = None,
        insecure: bool = False, log_to_driver: bool = False,
        runtime_env: Mapping[str, Any] | None = None, result_seconds: int | None = None,
    ) -> None:  # fmt: skip
        if not namespace or not isinstance(namespace, str):
            raise ValueError(f"namespace must be a string that is not empty, got {namespace!r}")
        self.app = app
        self.namespace = namespace
        self._store = Address.parse(store) if store is not None else None
        self._keys, self._key_file, self._insecure = keys, key_file, insecure
        self._log_to_driver = log_to_driver
        self._env, self._result_seconds = runtime_env, result_seconds
        self._driver: Driver | None = None
        self._pid = 0
        self._inline: InlineCluster | None = None
        self._functions: list[RemoteFunction[Any]] = []  # that the app does not know yet
        self._lock = threading.RLock()

    def init_app(self, app: Any) -> None:
        """Name the Celery app, where it was not there yet.

        Raises:
            ConfigurationError: it has another one, or has joined a cluster already.
        """
        if self.app is not None and self.app is not app:
            raise ConfigurationError(
                "these Actors have a Celery app already: make Actors() for each app"
            )
        self.app = app
        self._register()

    # -- declaring -------------------------------------------------------------------------

    def remote(self, *targets: Any, **options: Any) -> Any:
        """Make an actor class or a remote function of this deployment: see ``remote``.

        Raises:
            TypeError, ValueError: as ``celery_actors.remote``.
        """
        if len(targets) == 1 and not options:
            return self._made(make(targets[0], {}, self.runtime))
        if targets or not options:
            raise TypeError("use @actors.remote bare, or with named options: @actors.remote(…)")
        return lambda target: self._made(make(target, options, self.runtime))

    def _made(self, target: Any) -> Any:
        """Let the app's own workers know a function, as soon as there is an app."""
        if isinstance(target, RemoteFunction):
            self._functions.append(target)
            self._register()
        return target

    def _register(self) -> None:
        if self.app is None or not hasattr(self.app, "finalize"):
            return
        functions, self._functions = self._functions, []
        if functions:
            from .stock_worker import register

            for each in functions:
                register(self.app, each.task_name, each.__celery_actors_wrapped__, self.runtime)

    # -- using -----------------------------------------------------------------------------

    get = _in_scope(objects.get)
    put = _in_scope(objects.put)
    wait = _in_scope(objects.wait)
    cancel = _in_scope(objects.cancel)

    def kill(self, handle: Any, *, no_restart: bool = True) -> None:
        """End an actor's process at once: see ``celery_actors.kill``."""
        if isinstance(handle, InlineActor):
            cast("InlineCluster", self.runtime()).end(handle)
            return
        with runtime.using(self.runtime()):
            actor.kill(handle, no_restart=no_restart)

    get_actor = _in_scope(actor.get_actor)

    @property
    def context(self) -> ClusterContext:
        """The cluster: its address, namespace, and Celery app."""
        self.runtime()
        if self._driver is None:
            raise NotInitializedError("inside a worker there is no driver's context")
        return self._driver.context

    def runtime(self) -> Runtime:
        """Return this process's runtime in the cluster; joins it first.

        Inside an actor or a function it is that process's own.

        Raises:
            ConfigurationError: the app's settings do not do; says what to set.
            ClusterUnreachableError: the store does not answer.
        """
        if (driver := self._driver) is not None and self._pid == os.getpid():
            return driver.runtime
        if runtime.is_current() and (here := runtime.current()).worker is not None:
            return here
        with self._lock:
            return self._join()

    def _join(self) -> Runtime:
        if self._driver is not None and self._pid == os.getpid():
            return self._driver.runtime  # another thread was first
        if self.app is None:
            raise ConfigurationError("these Actors have no Celery app yet: call init_app(app)")
        conf = self.app.conf
        if conf.task_always_eager:
            self._inline = self._inline or InlineCluster(lambda: self.app, self.namespace)
            return cast("Runtime", self._inline)
        self._inline = None
        address = self._store or address_of(self.app)
        keys = self._keys or conf.get("celery_actors_keys")
        ring = resolve_keys(address, keys=keys, key_file=self._key_file, insecure=self._insecure)
        driver = Driver(
            address, ring, namespace=self.namespace, log_to_driver=self._log_to_driver,
            result_seconds=self._result_seconds or _seconds(conf.result_expires), env=self._env,
            app=self.app, leave=self.shutdown,
        )  # fmt: skip
        found = driver.runtime
        found.results.scope = lambda: runtime.using(found)
        if self._driver is None:
            atexit.register(self.shutdown)
        self._driver, self._pid = driver, os.getpid()
        return found

    def shutdown(self) -> None:
        """Leave the cluster: end the actors of this process that are not detached.

        The next use joins again.
        """
        with self._lock:
            self._inline = None
            driver, self._driver = self._driver, None
            if driver is not None and self._pid == os.getpid():
                driver.leave()
                atexit.unregister(self.shutdown)

    def __enter__(self) -> Actors:
        self.runtime()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def __reduce__(self) -> tuple[Any, ...]:
        return Actors, ()  # in a worker its cluster is the worker's own

    def __repr__(self) -> str:
        return f"Actors({getattr(self.app, 'main', None) or 'no app'})"


def _seconds(expires: Any) -> int:
    """Return Celery's ``result_expires`` in seconds; it may be a timedelta, or None for ever."""
    if expires is None:
        return RESULT_SECONDS
    return int(expires.total_seconds() if hasattr(expires, "total_seconds") else expires)
