"""``@remote`` on a class: how actors are created, found and ended."""

from __future__ import annotations

import inspect
import secrets
from dataclasses import replace
from typing import Any, TypeVar, cast

from . import directory, environment, routing, runtime
from .code import WRAPPED, dump_code, import_reference
from .contents import collecting
from .errors import ActorAlreadyExistsError, ActorHandleNotFoundError
from .handle import ActorHandle, ActorMethod, Identity
from .methods import ActorTraits, class_methods, is_async_class
from .options import ActorOptions, actor_options
from .recording import step
from .signatures import Signature
from .typed import Init, TypedClass, class_call

__all__ = [
    "ActorClass",
    "ActorClassInheritanceException",
    "ActorHandle",
    "ActorMethod",
    "exit_actor",
    "get_actor",
    "kill",
]

T = TypeVar("T")
#: Calls of an async actor that may be under way at once, as in Ray.
ASYNC_CONCURRENCY = 1000


class ActorClassInheritanceException(TypeError):  # noqa: N818 - Ray's name
    """Raised when a class inherits from an actor class."""


class ActorClass(TypedClass[T, Init]):
    """What ``@remote`` makes of a class. Class attributes and static methods stay reachable."""

    def __init__(
        self, cls: type[T], options: ActorOptions, bind: runtime.Binding | None = None
    ) -> None:
        self.__celery_actors_wrapped__ = cls
        self._options = options
        self._bind = bind
        self._init = Signature.of(cls, skip_first=False)
        self._traits = _traits(cls, options)
        self.__name__ = cls.__name__
        self.__doc__ = cls.__doc__
        self.__module__ = cls.__module__
        self.__qualname__ = cls.__qualname__

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse: an actor lives in a process of its own."""
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{self.__name__}()', use "
            f"'{self.__name__}.remote()'."
        )

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[type, ...]:
        raise ActorClassInheritanceException(
            f"Inheriting from actor classes is not currently supported. Inherit from a plain class "
            f"and apply @remote to both, instead of inheriting from {self.__name__}."
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, WRAPPED), name)

    def options(self, **given: Any) -> ActorClass[T, Init]:
        """Return the same actor class with other options.

        Raises:
            ValueError: an unknown option or an impossible value. TypeError: a wrong type.
        """
        if "concurrency_groups" in given:
            raise ValueError(
                "concurrency_groups belong to the class: give them to @remote, not to .options()"
            )
        cls: type[T] = getattr(self, WRAPPED)
        return ActorClass(cls, actor_options(self._options, given), self._bind)

    @class_call
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Create an actor and return its handle at once; the constructor runs in its process.

        Raises:
            TypeError: the arguments do not fit ``__init__``. SerializationError: one cannot be
                pickled. ActorAlreadyExistsError: the name is taken. InsufficientResourcesError: no
                living node could ever hold it.
        """
        if self._bind is None:
            return step("the creation of an actor", lambda: self._make(args, kwargs))
        with runtime.using(self._bind()):
            return step("the creation of an actor", lambda: self._make(args, kwargs))

    def _make(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ActorHandle[T]:
        cls = getattr(self, WRAPPED)
        if inspect.isabstract(cls):
            cls(*args, **kwargs)  # Python's own TypeError names the abstract methods
        self._init.check(f"{self.__name__}()", args, kwargs)
        context = runtime.current()
        options = self._options
        if context.inline is not None:
            return cast("ActorHandle[T]", context.inline.create(cls, args, kwargs, options))
        namespace = options.namespace or context.namespace
        if options.get_if_exists and options.name is not None:
            found = directory.find_named(context.store, namespace, options.name)
            if found is not None:
                return ActorHandle.of(found)
        return self._create(context, namespace, args, kwargs)

    def _remote(self, args: Any = (), kwargs: Any = None, **options: Any) -> ActorHandle[T]:
        chosen: Any = self.options(**options)
        return cast("ActorHandle[T]", chosen.remote(*args, **(kwargs or {})))

    def _create(
        self,
        context: runtime.Runtime,
        namespace: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> ActorHandle[T]:
        options = self._options
        cls: type[T] = getattr(self, WRAPPED)
        need = context.capacity.place(options, options.need, f"an actor {self.__name__}")
        need = replace(need, env=environment.resolve(context, options.runtime_env))
        actor_id = secrets.token_hex(16)
        queue = (
            routing.actor_queue(namespace, options.name)
            if options.name
            else routing.anonymous_queue(self.__name__, actor_id)
        )
        holdings = context.holdings
        with collecting() as things:
            digest, record = dump_code(cls, context.sealer, f"the class {self.__name__}")
        context.export(digest, record, things)
        describe = f"an argument of {self.__name__}.remote()"
        with collecting() as things:
            spec = context.sealer.seal(
                (args, kwargs), directory.spec_context(actor_id), actor_id, describe
            )
        carried = holdings.carry(things, "s", actor_id)
        detached = options.lifetime == "detached"
        hold = None if detached else holdings.first(routing.ActorKeys(queue, actor_id).thing)
        # Under its content hash, too: many actors of a class share it.
        traits, record = dump_code(self._traits, context.sealer, f"the class {self.__name__}")
        context.export(traits, record)
        if holdings.added:
            context.calls.settle()  # the actor may start as soon as it is created
        taken = directory.create(
            context.store,
            actor_id=actor_id,
            queue=queue,
            name_field=routing.name_field(namespace, options.name) if options.name else "",
            spec=spec,
            need=need,
            job=context.job,
            detached=detached,
            creator=context.creator,
            tie=hold.tie if hold is not None else "",
            carried=carried,
            fields={
                "class": self.__name__,
                "code": digest,
                "max_restarts": options.restarts,
                "max_task_retries": options.task_retries,
                "concurrent": int(self._traits.is_concurrent),
                "namespace": namespace,
                "durable": self._traits.durable,
                "traits": traits,
            },
        )
        if taken is None:
            context.waiting.sent(routing.creation_queue(need.label), need)
            title = f"actor {self.__name__}({options.name or actor_id[:8]})"
            identity = Identity(
                actor_id, queue, self.__name__, title, self._traits, counted=not detached
            )
            return ActorHandle(identity, hold)
        holdings.drop(carried)
        if options.get_if_exists:
            found = directory.find(context.store, taken)
            if found is not None:
                return ActorHandle.of(found)
        raise ActorAlreadyExistsError(
            f"The name {options.name} (namespace={namespace}) is already taken. Please use a "
            "different name or get the existing actor using "
            f"celery_actors.get_actor({options.name!r}, namespace={namespace!r})"
        )

    def __dir__(self) -> list[str]:
        return sorted({*dir(getattr(self, WRAPPED)), "options", "remote"})

    def __reduce__(self) -> tuple[Any, ...]:
        # By name where a worker can import it. Else as a state: a class that names itself is
        # unpickled before its methods are, and must not be looked at then.
        return import_reference(self) or (_bare, (), {**self.__dict__, "_bind": None})

    def __repr__(self) -> str:
        return f"ActorClass({self.__name__})"


def _bare() -> ActorClass[Any]:
    return ActorClass.__new__(ActorClass)


def _traits(cls: type, options: ActorOptions) -> ActorTraits:
    """Return what callers and the process must know.

    Raises:
        ValueError: options that contradict each other or the class.
    """
    is_async = is_async_class(cls)
    limit = options.max_concurrency or (ASYNC_CONCURRENCY if is_async else 1)
    groups = dict(options.concurrency_groups or {})
    methods = class_methods(cls)
    for name, method in methods.items():
        group = method.options.concurrency_group if method.options else None
        if group is not None and group not in groups:
            raise ValueError(
                f"{cls.__name__}.{name} is in the concurrency group {group!r}, which @remote does "
                f"not define; concurrency_groups={groups}"
            )
    overlapping = is_async or limit > 1
    if overlapping and options.allow_out_of_order_execution is False:
        raise ValueError(
            f"{cls.__name__} is async or threaded, so its calls overlap: "
            "allow_out_of_order_execution=False cannot be kept. Leave it out"
        )
    if options.durable and (overlapping or groups):
        raise ValueError(
            f"{cls.__name__} is durable, and its calls would overlap: each commits the state that "
            "it leaves, so they run one at a time. Leave out durable, or async def, "
            "max_concurrency and concurrency_groups"
        )
    return ActorTraits(
        methods, options.task_retries, options.max_pending_calls, options.on_full == "block",
        is_async, limit, groups, overlapping or bool(options.allow_out_of_order_execution),
        options.enable_task_events, "state" if options.durable is True else options.durable or "",
        options.commit_every, options.rollback_on_error, options.snapshot_every,
        options.idle_timeout,
    )  # fmt: skip


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """Return the handle of a named actor.

    Raises:
        ValueError: no living actor has this name. TypeError: the name is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"an actor's name is a string, not {type(name).__name__}")
    return step("get_actor", lambda: _find(name, namespace))


def _find(name: str, namespace: str | None) -> ActorHandle[Any]:
    context = runtime.current()
    space = namespace or context.namespace
    if context.inline is not None and (found := context.inline.find(name, space)) is not None:
        return cast("ActorHandle[Any]", found)
    record = directory.find_named(context.store, space, name) if name else None
    if record is None:
        raise ValueError(
            f"Failed to look up actor with name '{name}' in namespace '{space}'. It was not "
            "created, is dead, or lives in another namespace"
        )
    return ActorHandle.of(record)


def exit_actor() -> None:
    """End the present actor from inside one of its methods, for good.

    Calls that run at the same time end first; waiting ones fail with ActorDiedError, and so does
    the present one. Exit handlers (``atexit``) run.

    Raises:
        TypeError: outside an actor. SystemExit, AsyncioActorExit: to end the call.
    """
    context = runtime.current() if runtime.is_current() else None
    if context is None or context.exit_actor is None:
        raise TypeError("exit_actor API is called on a non-actor worker: call it in a method")
    context.exit_actor("exit_actor() was called")


def kill(actor: ActorHandle[Any], *, no_restart: bool = True) -> None:
    """End an actor's process at once, like ``kill -9``: neither atexit nor shutdown hooks run.

    Running and waiting calls fail with ActorDiedError. With ``no_restart=False`` only the process
    is ended: the actor restarts if ``max_restarts`` allows it, and waiting calls survive.

    Raises:
        ValueError: the argument is not an actor handle. ActorHandleNotFoundError: the store does
            not know the actor; the handle is from another cluster.
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(  # noqa: TRY004 - Ray raises ValueError here
            f"celery_actors.kill() takes an actor handle, not {type(actor).__name__}. To stop a "
            "call, use celery_actors.cancel() with its reference"
        )
    step("kill", lambda: _end(actor, no_restart=no_restart))


def _end(actor: ActorHandle[Any], *, no_restart: bool) -> None:
    context, identity = actor._bound or runtime.current(), actor._identity
    context.calls.flush()
    if directory.find(context.store, identity.actor_id, identity.queue) is None:
        raise ActorHandleNotFoundError(
            f"{identity.title} is not known to this cluster: the handle is from another one, or "
            "the actor ended long ago"
        )
    cause = "it was ended by celery_actors.kill()"
    if no_restart:
        directory.end(
            context.store, identity.actor_id, identity.queue, cause, context.result_seconds
        )
    else:
        directory.end_process(context.store, identity.actor_id, identity.queue)
