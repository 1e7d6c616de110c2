"""``@remote`` on a class: actors, their handles and their methods."""

from __future__ import annotations

import secrets
from typing import Any, Generic, TypeVar

from . import directory, routing, runtime
from .code import WRAPPED, dump_code
from .errors import ActorAlreadyExistsError
from .object_ref import ObjectRef
from .options import ActorOptions, actor_options
from .signatures import Signature, class_methods

__all__ = ["ActorClass", "ActorClassInheritanceException", "ActorHandle", "get_actor", "kill"]

T = TypeVar("T")
_READY = "__ray_ready__"
#: Methods that every actor has, beside its class's own.
_EXTRA = {_READY: Signature(())}


class ActorClassInheritanceException(TypeError):  # noqa: N818 - Ray's name
    """Raised when a class inherits from an actor class."""


class ActorClass(Generic[T]):
    """What ``@remote`` makes of a class. Class attributes and static methods stay reachable."""

    def __init__(self, cls: type[T], options: ActorOptions) -> None:
        self.__celery_actors_wrapped__ = cls
        self._options = options
        self._init = Signature.of(cls, skip_first=False)
        self._methods = {**class_methods(cls), **_EXTRA}
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

    def options(self, **given: Any) -> ActorClass[T]:
        """Return the same actor class with other options.

        Raises:
            ValueError: an unknown option or an impossible value. TypeError: a wrong type.
        """
        cls: type[T] = getattr(self, WRAPPED)
        return ActorClass(cls, actor_options(self._options, given))

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle[T]:
        """Create an actor and return its handle at once; the constructor runs in its process.

        Raises:
            TypeError: the arguments do not fit ``__init__``. SerializationError: one cannot be
                pickled. ActorAlreadyExistsError: the name is taken.
        """
        self._init.check(f"{self.__name__}()", args, kwargs)
        context = runtime.current()
        options = self._options
        namespace = options.namespace or context.namespace
        if options.get_if_exists and options.name is not None:
            found = directory.find_named(context.store, namespace, options.name)
            if found is not None:
                return ActorHandle.of(found)
        return self._create(context, namespace, args, kwargs)

    def _create(
        self,
        context: runtime.Runtime,
        namespace: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> ActorHandle[T]:
        options = self._options
        cls: type[T] = getattr(self, WRAPPED)
        actor_id = secrets.token_hex(16)
        queue = (
            routing.actor_queue(namespace, options.name)
            if options.name
            else routing.anonymous_queue(self.__name__, actor_id)
        )
        digest, record = dump_code(cls, context.sealer, f"the class {self.__name__}")
        context.export(digest, record)
        describe = f"an argument of {self.__name__}.remote()"
        spec = context.sealer.seal(
            (args, kwargs, self._methods), directory.spec_context(actor_id), actor_id, describe
        )
        taken = directory.create(
            context.store,
            actor_id=actor_id,
            queue=queue,
            name_field=routing.name_field(namespace, options.name) if options.name else "",
            spec=spec,
            need=options.need,
            job=context.job,
            detached=options.lifetime == "detached",
            fields={
                "class": self.__name__,
                "code": digest,
                "max_restarts": options.max_restarts,
                "max_task_retries": options.max_task_retries,
                "namespace": namespace,
            },
        )
        if taken is None:
            title = f"actor {self.__name__}({options.name or actor_id[:8]})"
            return ActorHandle(actor_id, queue, self.__name__, title, self._methods)
        if options.get_if_exists:
            found = directory.find(context.store, taken)
            if found is not None:
                return ActorHandle.of(found)
        raise ActorAlreadyExistsError(
            f"The name {options.name} (namespace={namespace}) is already taken. Please use a "
            "different name or get the existing actor using "
            f"celery_actors.get_actor({options.name!r}, namespace={namespace!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorClass, (getattr(self, WRAPPED), self._options)

    def __repr__(self) -> str:
        return f"ActorClass({self.__name__})"


class ActorHandle(Generic[T]):
    """A reference to an actor. Pass it anywhere: arguments, containers, results, ``put``."""

    def __init__(
        self, actor_id: str, queue: str, class_name: str, title: str,
        methods: dict[str, Signature] | None,
    ) -> None:  # fmt: skip
        self._actor_id = actor_id
        self._queue = queue
        self._class_name = class_name
        self._title = title
        self._methods = methods

    @classmethod
    def of(cls, record: directory.ActorRecord) -> ActorHandle[Any]:
        """Return a handle from the actor's record; its methods come with its creation record."""
        context = runtime.current()
        raw = context.store.get(record.keys.spec)
        methods = None
        if raw is not None:
            place = directory.spec_context(record.actor_id)
            methods = context.sealer.open(raw, place)[2]
        return cls(record.actor_id, record.meta["queue"], record.class_name, record.title, methods)

    def __getattr__(self, name: str) -> ActorMethod:
        methods = self.__dict__.get("_methods")
        if methods is None or (name not in methods and name != _READY):
            if methods is None and not name.startswith("_"):
                method = ActorMethod(self, name, Signature(None))
                self.__dict__[name] = method
                return method
            raise AttributeError(
                f"'{self.__dict__.get('_class_name', 'actor')}' object has no attribute '{name}'"
            )
        method = self.__dict__[name] = ActorMethod(self, name, methods[name])
        return method

    def __dir__(self) -> list[str]:
        return sorted({*(self._methods or ()), "__init__", _READY})

    def __hash__(self) -> int:
        return hash(self._actor_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._actor_id == self._actor_id

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorHandle, (
            self._actor_id, self._queue, self._class_name, self._title, self._methods,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"ActorHandle({self._class_name}, {self._actor_id})"


class ActorMethod:
    """One method of one actor, ready to be called."""

    __slots__ = ("_bounds", "_handle", "_name", "_prepared", "_signature")

    def __init__(self, handle: ActorHandle[Any], name: str, signature: Signature) -> None:
        self._handle = handle
        self._name = name
        self._signature = signature
        self._bounds = signature.positional_bounds()
        self._prepared: tuple[Any, ...] | None = None

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running "
            f"'object.{self._name}()', try 'object.{self._name}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> ObjectRef[Any]:
        """Send one call and return the reference to its result at once.

        Raises:
            TypeError: the arguments do not fit. SerializationError: one cannot be pickled.
        """
        prepared = self._prepared
        context = runtime.current()
        if prepared is None or prepared[0] is not context or prepared[3] != context.job:
            prepared = self._prepare()
        if kwargs or not self._bounds[0] <= len(args) <= self._bounds[1]:
            what = f"{self._handle._class_name}.{self._name}()"
            self._signature.check(what, args, kwargs)
        return context.calls.submit(prepared[1], prepared[2], args, kwargs)

    def _prepare(self) -> tuple[Any, ...]:
        context = runtime.current()
        handle = self._handle
        target = context.calls.actor(handle._queue, handle._actor_id, handle._title)
        template = context.template(target, routing.task_name(handle._class_name, self._name))
        self._prepared = (context, target, template, context.job)
        return self._prepared

    def __repr__(self) -> str:
        return f"ActorMethod({self._handle._class_name}.{self._name})"


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """Return the handle of a named actor.

    Raises:
        ValueError: no living actor has this name.
    """
    context = runtime.current()
    space = namespace or context.namespace
    record = directory.find_named(context.store, space, name) if name else None
    if record is None:
        raise ValueError(
            f"Failed to look up actor with name '{name}' in namespace '{space}'. It was not "
            "created, is dead, or lives in another namespace"
        )
    return ActorHandle.of(record)


def kill(actor: ActorHandle[Any]) -> None:
    """End an actor at once, like ``kill -9``: running and waiting calls fail with ActorDiedError.

    Raises:
        ValueError: the argument is not an actor handle.
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(  # noqa: TRY004 - Ray raises ValueError here
            f"celery_actors.kill() takes an actor handle, not {type(actor).__name__}. To stop a "
            "call of a function, let it end"
        )
    context = runtime.current()
    context.calls.flush()
    cause = "it was ended by celery_actors.kill()"
    directory.end(context.store, actor._actor_id, actor._queue, cause, context.result_seconds)
