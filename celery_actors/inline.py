"""Calls that run at once, in this process: what ``task_always_eager`` asks for, in unit tests.

No store, no worker, no copy: a method sees the very objects that it is given, breakpoints hold, and
a database transaction of the test covers it. What only processes have (restarts, cancelling a
running call, resources, generators) is not there.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from .errors import ActorAlreadyExistsError, ActorDiedError, RayTaskError
from .object_ref import ObjectRef
from .verbs import CeleryVerbs

if TYPE_CHECKING:
    from .results import Results

__all__ = ["InlineActor", "InlineCluster", "InlineMethod"]


class InlineCluster:
    """Stands for a cluster: makes actors and runs calls in this process.

    Args:
        find_app: finds the Celery app, for ``delay`` and signatures.
        namespace: where names are looked up.
    """

    def __init__(self, find_app: Callable[[], Any], namespace: str) -> None:
        self.find_app = find_app
        self.namespace = namespace
        self.inline = self
        self.worker = None
        self.results = _Table(self)
        self._named: dict[tuple[str, str], InlineActor] = {}

    # -- actors and calls --------------------------------------------------------------------

    def create(
        self, cls: type, args: Sequence[Any], kwargs: Mapping[str, Any], options: Any
    ) -> InlineActor:
        """Make an actor: an instance in this process.

        Raises:
            ActorAlreadyExistsError: the name is taken. What ``__init__`` raises.
        """
        place = (options.namespace or self.namespace, options.name)
        if options.name:
            found = self._named.get(place)
            if found is not None and options.get_if_exists:
                return found
            if found is not None:
                raise ActorAlreadyExistsError(f"The name {options.name} is already taken")
        actor = InlineActor(self, cls(*self._values(args), **self._named_values(kwargs)))
        if options.name:
            self._named[place] = actor
        return actor

    def find(self, name: str, namespace: str) -> InlineActor | None:
        """Return a named actor."""
        return self._named.get((namespace, name))

    def end(self, actor: InlineActor) -> None:
        """End an actor: its calls fail from now on."""
        actor.end()
        self._named = {place: each for place, each in self._named.items() if each is not actor}

    def call(
        self, label: str, function: Callable[..., Any], args: Sequence[Any],
        kwargs: Mapping[str, Any], returns: int = 1,
    ) -> Any:  # fmt: skip
        """Run a function now; return what ``remote`` promises: references that are ready.

        Raises:
            ValueError: it gives its values one by one.
        """
        if returns < 0:
            raise ValueError(f"{label} is a generator, and those do not run inline")
        try:
            value = function(*self._values(args), **self._named_values(kwargs))
            if inspect.isawaitable(value):
                value = _finish(value)
            values = [value] if returns == 1 else _split(label, value, returns)
        except Exception as error:  # noqa: BLE001 - the user's exception is the result
            refs = [self.results.failed(label, error) for _ in range(max(1, returns))]
        else:
            refs = [self.results.stored(value) for value in values]
        return None if returns == 0 else refs[0] if returns == 1 else refs

    def _values(self, given: Sequence[Any]) -> list[Any]:
        return [self.results.value(v) if isinstance(v, ObjectRef) else v for v in given]

    def _named_values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(given, self._values(list(given.values())), strict=True))

    # -- values ------------------------------------------------------------------------------

    def get(self, refs: Sequence[ObjectRef[Any]], _timeout: float | None = None) -> list[Any]:
        """Return values; raise the first error."""
        return [self.results.value(ref) for ref in refs]

    def put(self, value: Any) -> ObjectRef[Any]:
        """Return a reference to a value."""
        return self.results.stored(value)


class _Table:
    """The values of an inline cluster, by reference."""

    def __init__(self, cluster: InlineCluster) -> None:
        self.runtime = cluster
        self._values: dict[str, Any] = {}

    def stored(self, value: Any) -> ObjectRef[Any]:
        """Return a reference to a value."""
        ref: ObjectRef[Any] = ObjectRef(str(uuid.uuid4()), cast("Results", self), owned=True)
        ref.ready = True
        self._values[ref.id] = value
        return ref

    def failed(self, label: str, error: Exception) -> ObjectRef[Any]:
        """Return a reference to an error."""
        ref = self.stored(None)
        text = "".join(traceback.format_exception(error))
        ref._error = RayTaskError(label, text, error, os.getpid()).as_instanceof_cause()
        return ref

    def value(self, ref: ObjectRef[Any]) -> Any:
        """Return a value, or raise its error."""
        if ref._error is not None:
            raise ref._error
        return self._values[ref.id]

    def wait(self, *_args: Any, **_options: Any) -> bool:
        """Return at once: everything is there."""
        return True

    def notify(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> None:
        """Call back at once."""
        callback(ref)

    def dropped(self, ref: ObjectRef[Any]) -> None:
        """Forget a value."""
        self._values.pop(ref._id, None)


class InlineActor:
    """An actor in this process: ``handle.method.remote(…)`` runs the method now."""

    def __init__(self, cluster: InlineCluster, instance: Any) -> None:
        self._cluster = cluster
        self._instance = instance

    def end(self) -> None:
        """Let every further call fail."""
        self._instance = None

    def call(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As ``ActorHandle.call``."""
        return getattr(self, method.__name__).remote(*args, **kwargs)

    def __getattr__(self, name: str) -> InlineMethod:
        instance = self.__dict__.get("_instance")
        if name == "__ray_ready__":
            return InlineMethod(self._cluster, name, lambda: True)
        if name == "__ray_call__":
            return InlineMethod(self._cluster, name, lambda f, *a, **k: f(instance, *a, **k))
        if name.startswith("__"):
            raise AttributeError(name)
        if instance is None:
            return InlineMethod(self._cluster, name, _dead)
        method = getattr(instance, name, None)
        if not callable(method):
            what = f"'{type(instance).__name__}' object has no attribute '{name}'"
            raise AttributeError(what)  # noqa: TRY004 - as where calls are sent
        return InlineMethod(self._cluster, f"{type(instance).__name__}.{name}", method)

    def __repr__(self) -> str:
        return f"Actor({type(self._instance).__name__}, inline)"


class InlineMethod(CeleryVerbs):
    """A method of an inline actor, or a function."""

    def __init__(
        self, cluster: InlineCluster, label: str, function: Callable[..., Any], returns: int = 1
    ) -> None:
        self._cluster, self._label = cluster, label
        self._function, self._returns = function, returns

    def options(self, *, num_returns: int | None = None, **_others: Any) -> InlineMethod:
        """Return the same with other options; what only processes have is without effect."""
        returns = self._returns if num_returns is None else num_returns
        return InlineMethod(self._cluster, self._label, self._function, returns)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Run it now; return the reference to its result."""
        return self._cluster.call(self._label, self._function, args, kwargs, self._returns)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run it now, as Celery's eager tasks do; return an ``EagerResult``.

        ``link``, ``link_error`` and ``task_id`` count.
        """
        return self._task().apply(tuple(args), dict(kwargs or {}), **options)

    def signature(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Return a Celery signature that runs inline, in chains, groups and chords."""
        return self._task().signature(tuple(args), dict(kwargs or {}), **options)

    def _app_for_celery(self) -> Any:
        return self._cluster.find_app()

    def _task(self) -> Any:
        """Return a Celery task that runs this: canvases find tasks by name, so it has its own."""
        app, function = self._cluster.find_app(), self._function
        name = f"{self._label}@{id(getattr(function, '__self__', function)):x}"
        if name in app.tasks:
            return app.tasks[name]

        def run(_task: Any, *args: Any, **kwargs: Any) -> Any:
            value = function(*args, **kwargs)
            return _finish(value) if inspect.isawaitable(value) else value

        kind = type(self._label, (app.Task,), {"name": name, "run": run})
        return app.register_task(kind())


def _split(label: str, value: Any, returns: int) -> list[Any]:
    values = list(value) if returns else []
    if len(values) != returns:
        raise ValueError(f"{label} gave {len(values)} values instead of {returns}")
    return values


def _dead(*_args: Any, **_kwargs: Any) -> None:
    raise ActorDiedError("the actor was ended by celery_actors.kill()")


def _finish(awaitable: Any) -> Any:
    """Run a coroutine to its end, in a thread where an event loop runs here already."""

    async def whole() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(whole())
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(asyncio.run(whole())))
    thread.start()
    thread.join()
    return outcome[0]
