"""Handles of actors and their methods: the caller's way to an actor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from . import directory, reminders, routing, runtime
from .code import dump_types
from .contents import note
from .holdings import Hold
from .messages import STREAMING, CallOptions
from .methods import EVERY_ACTOR, ActorTraits, Method, returns_of
from .options import MethodOptions, method_options
from .reminders import Reminder
from .signatures import Signature
from .typed import handle_call
from .verbs import CeleryVerbs, Place

__all__ = ["ActorHandle", "ActorMethod"]

T = TypeVar("T")
_NO_OPTIONS = MethodOptions()
_ANY = Method(Signature(None))
#: What handles offer beside an actor's methods.
_OWN = ("call", "remind", "forget", "reminders")


class ActorID(str):
    """An actor's id, as Ray's programs read one."""

    __slots__ = ()

    def hex(self) -> str:
        """Return the id as hexadecimal digits."""
        return str(self)

    def binary(self) -> bytes:
        """Return the id as bytes."""
        return bytes.fromhex(self)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which actor a handle means; ``traits`` None: its record was gone when it was looked up.

    ``counted``: handles with it keep the actor alive. Those found by name do not, and a detached
    actor needs none.
    """

    actor_id: str
    queue: str
    class_name: str
    title: str
    traits: ActorTraits | None
    counted: bool = False

    @property
    def keys(self) -> routing.ActorKeys:
        """The keys of the actor."""
        return routing.ActorKeys(self.queue, self.actor_id)

    @property
    def thing(self) -> str:
        """The actor's name in ties."""
        return self.keys.thing


class ActorHandle(Generic[T]):
    """A reference to an actor. Pass it anywhere: arguments, containers, results, ``put``.

    The actor ends once the last handle is gone and the calls before that are done. A handle from
    ``get_actor`` does not count.
    """

    def __init__(self, identity: Identity, hold: Hold | None = None) -> None:
        self._identity = identity
        bound = self._bound = runtime.scoped()
        if hold is None and identity.counted and runtime.is_current():
            hold = runtime.current().holdings.hold(identity.thing)
        self._hold = hold
        for name in _OWN:
            # A class that has such a method itself goes before what handles offer.
            if identity.traits is not None and name in identity.traits.methods:
                method = identity.traits.methods[name]
                self.__dict__[name] = ActorMethod(identity, name, method, hold=hold, bound=bound)

    @classmethod
    def of(cls, record: directory.ActorRecord) -> ActorHandle[Any]:
        """Return a handle from the actor's record; it does not keep the actor alive."""
        context = runtime.current()
        traits = context.traits_of(record)
        return cls(
            Identity(record.actor_id, record.meta["queue"], record.class_name, record.title, traits)
        )

    @handle_call
    def call(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a method that is named by the class's own function: type checkers understand it.

        ``handle.call(Counter.add, 2)`` is ``handle.add.remote(2)``.
        """
        return getattr(self, method.__name__).remote(*args, **kwargs)

    def remind(
        self, name: str, *, method: str, every: float | None = None, after: float | None = None,
        args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Have a method called again and again, or once, by the cluster itself.

        The store keeps it: it outlives this process, the actor's and every node's. Each call is
        sent once; times that pass while no node runs count as one. A passive actor is woken. What
        a call raises is logged in the actor's process. A reminder ends with ``forget``, with the
        actor, or by another one of its name, and it does not keep the actor alive. Where a method
        of a durable actor sets one, it is kept at once, not with the call's commit.

        Args:
            name: by which it is replaced and forgotten.
            method: the method to call.
            every: seconds between two calls, at least 1; None: one call alone.
            after: seconds until the first call; ``every`` where it is not given.
            args: positional arguments; what JSON can say, nothing else.
            kwargs: named arguments; likewise.

        Raises:
            TypeError: an argument is not plain JSON, or they do not fit the method. ValueError: an
                impossible time. AttributeError: no such method. ActorDiedError: the actor has
                ended.
        """
        named = dict(kwargs or {})
        times = reminders.check(name, every, after)
        getattr(self, method)._remind(name, times, tuple(args), named)

    def forget(self, name: str) -> bool:
        """End a reminder; False where the actor has none of this name."""
        identity, store = self._identity, (self._bound or runtime.current()).store
        return reminders.forget(store, identity.keys, name)

    def reminders(self) -> dict[str, Reminder]:
        """Return the actor's reminders by name."""
        store = (self._bound or runtime.current()).store
        return reminders.reminders(store, self._identity.keys)

    def __getattr__(self, name: str) -> ActorMethod:
        identity = self.__dict__.get("_identity")
        if identity is None:  # while it is being unpickled
            raise AttributeError(name)
        traits = identity.traits
        found = EVERY_ACTOR.get(name) or (traits.methods.get(name) if traits else None)
        if found is None and traits is None and not name.startswith("_"):
            found = _ANY
        if found is None:
            raise AttributeError(f"'{identity.class_name}' object has no attribute '{name}'")
        method = self.__dict__[name] = ActorMethod(
            identity, name, found, hold=self._hold, bound=self._bound
        )
        return method

    @property
    def _actor_id(self) -> ActorID:
        """The actor's id: not public, and yet what Ray's programs ask a handle for."""
        return ActorID(self._identity.actor_id)

    def __dir__(self) -> list[str]:
        traits = self._identity.traits
        return sorted({*(traits.methods if traits else ()), "__init__", *EVERY_ACTOR})

    def __hash__(self) -> int:
        return hash(self._identity.actor_id)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ActorHandle) and other._identity.actor_id == self._identity.actor_id
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self._identity.counted:
            note(self._identity.thing)
        return ActorHandle, (self._identity,)

    def __repr__(self) -> str:
        return f"Actor({self._identity.class_name}, {self._identity.actor_id})"


class ActorMethod(CeleryVerbs):
    """One method of one actor, ready to be called. It keeps the actor alive as its handle does."""

    __slots__ = (
        "_bound",
        "_bounds",
        "_hold",
        "_identity",
        "_method",
        "_name",
        "_options",
        "_prepared",
    )

    def __init__(
        self, identity: Identity, name: str, method: Method, options: MethodOptions | None = None,
        *, hold: Hold | None = None, bound: runtime.Runtime | None = None,
    ) -> None:  # fmt: skip
        self._identity = identity
        self._hold = hold
        #: The cluster that it belongs to, in a process that is in several; None: the process's.
        self._bound = bound
        self._name = name
        self._method = method
        self._options = options or method.options or _NO_OPTIONS
        self._bounds = method.signature.positional_bounds()
        self._prepared: tuple[Any, ...] | None = None

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse: a method runs in its actor's process."""
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running "
            f"'object.{self._name}()', try 'object.{self._name}.remote()'."
        )

    def options(self, **given: Any) -> ActorMethod:
        """Return the same method with other options for its calls.

        Raises:
            ValueError: an unknown option or an impossible value. TypeError: a wrong type.
        """
        chosen = method_options(self._options, given)
        returns_of(chosen.num_returns, stream=self._method.stream)
        group, traits = chosen.concurrency_group, self._identity.traits
        if group is not None and traits is not None and group not in traits.groups:
            raise ValueError(
                f"{self._identity.class_name} has no concurrency group {group!r}; it has "
                f"{sorted(traits.groups)}"
            )
        return ActorMethod(
            self._identity, self._name, self._method, chosen, hold=self._hold, bound=self._bound
        )

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Send one call and return the reference to its result at once.

        With ``num_returns=n`` a list of n references, with 0 None; for a generator the
        ``ObjectRefGenerator`` of its values.

        Raises:
            TypeError: the arguments do not fit. SerializationError: one cannot be pickled.
            PendingCallsLimitExceeded: ``max_pending_calls`` are under way already.
        """
        prepared = self._prepared
        context = self._bound or runtime.current()
        if prepared is None or prepared[0] is not context or prepared[3] != context.job:
            prepared = self._prepare(context)
        if kwargs or not self._bounds[0] <= len(args) <= self._bounds[1]:
            what = f"{self._identity.class_name}.{self._name}()"
            self._method.signature.check(what, args, kwargs)
        return context.calls.submit(prepared[1], prepared[2], args, kwargs)

    def _remote(self, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
        return self.options(**options).remote(*args, **(kwargs or {}))

    def _remind(
        self, name: str, times: tuple[int, int], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        context, identity = self._bound or runtime.current(), self._identity
        what = f"{identity.class_name}.{self._name}"
        self._method.signature.check(f"{what}()", args, kwargs)
        if self._method.stream:
            raise ValueError(f"{what} gives its values one by one, and nobody would read them")
        call = reminders.message_of(
            identity.keys, routing.task_name(identity.class_name, self._name), name, context.job,
            self._retries(), args, kwargs,
        )  # fmt: skip
        reminders.remind(context.store, identity.keys, identity.title, name, times, call)

    def _place_for_celery(self) -> Place:
        identity, context = self._identity, self._bound or runtime.current()
        if self._method.stream:
            raise ValueError(
                f"{identity.class_name}.{self._name} gives its values one by one, and Celery has "
                "no place for them: use .remote()"
            )
        task = routing.task_name(identity.class_name, self._name)
        return Place(context, f"{identity.title}", task, identity.queue, {})

    def _check_for_celery(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        what = f"{self._identity.class_name}.{self._name}()"
        self._method.signature.check(what, args, kwargs)

    def _retries(self) -> int:
        retries, traits = self._options.max_task_retries, self._identity.traits
        if retries is None:
            retries = traits.max_task_retries if traits else 0
        return retries

    def _prepare(self, context: runtime.Runtime) -> tuple[Any, ...]:
        identity, options = self._identity, self._options
        traits = identity.traits
        target = context.calls.actor(identity.queue, identity.actor_id, identity.title)
        if traits is not None and traits.max_pending_calls > 0:
            target.limit, target.blocks = traits.max_pending_calls, traits.blocks_when_full
        returns = returns_of(options.num_returns, stream=self._method.stream)
        if returns == STREAMING and traits is not None and traits.durable:
            raise ValueError(
                f"{identity.class_name}.{self._name} gives its values one by one, and "
                f"{identity.title} is durable: a value would be seen before its call commits. "
                "Return a list"
            )
        template = context.template(
            target, routing.task_name(identity.class_name, self._name), retries=self._retries(),
            options=CallOptions(
                returns=returns,
                retry_on=dump_types(options.retry_exceptions, context.sealer, context.export),
                group=options.concurrency_group or "",
                backpressure=options.backpressure,
                name=options.name or "",
            ),
            timelimit=(options.deadline, options.timeout), eta=_not_before(options),
        )  # fmt: skip
        if traits is not None and traits.durable:
            template.repeatable = False  # its effect is there: once more would double it
        prepared = (context, target, template, context.job)
        if options.countdown is None:  # a countdown begins anew with each call
            self._prepared = prepared
        return prepared

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorMethod, (self._identity, self._name, self._method, self._options)

    def __repr__(self) -> str:
        return f"ActorMethod({self._identity.class_name}.{self._name})"


def _not_before(options: MethodOptions) -> str | None:
    """Return the moment before which a call must not start, as Celery writes it."""
    if options.countdown is not None:
        return (datetime.now(UTC) + timedelta(seconds=options.countdown)).isoformat()
    return options.eta.astimezone(UTC).isoformat() if options.eta is not None else None
