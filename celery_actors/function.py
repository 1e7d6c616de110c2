"""``@remote`` on a function: a stateless task on a shared queue."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from . import environment, routing, runtime
from .calls import Target
from .capacity import FRESH_SECONDS
from .code import dump_code, dump_types, import_reference
from .contents import collecting
from .inline import InlineMethod
from .messages import CallOptions, MessageTemplate
from .methods import is_stream, returns_of
from .need import Need
from .options import FunctionOptions, function_options
from .signatures import Signature, name_of
from .typed import function_call
from .verbs import CeleryVerbs, Place

__all__ = ["RemoteFunction"]

#: The type of the function itself: ``Callable[[int], str]``.
F_co = TypeVar("F_co", covariant=True)


#: What a call needs for which workers are kept ready.
_RESIDENT = FunctionOptions().need


@dataclass(slots=True)
class _Prepared:
    """What the calls of one function share, in one cluster and for one driver."""

    context: runtime.Runtime
    job: str
    digest: str
    env: str
    settled: tuple[Target, MessageTemplate] | None = None  # every call goes there
    #: Where the last call went, and until when (``time.monotonic``) the next need not ask again.
    last: tuple[Target, MessageTemplate] | None = None
    until: float = 0.0
    places: dict[str, tuple[Target, MessageTemplate]] = field(default_factory=dict)


class RemoteFunction(CeleryVerbs, Generic[F_co]):
    """A function whose calls run in worker processes."""

    def __init__(
        self, function: Callable[..., Any], options: FunctionOptions,
        bind: runtime.Binding | None = None,
    ) -> None:  # fmt: skip
        name = name_of(function)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ValueError(
                f"'async def' should not be used for remote tasks: {name}. Use an actor with async "
                "methods, or call asyncio.run inside"
            )
        self._function = function
        self._options = options
        self._name = options.name or name
        self._signature = Signature.of(function, skip_first=False)
        self._bounds = self._signature.positional_bounds()
        self._returns = returns_of(options.num_returns, stream=is_stream(function))
        self._prepared: _Prepared | None = None
        self._bind = bind
        self.__celery_actors_wrapped__ = function
        functools.update_wrapper(self, function)

    @property
    def task_name(self) -> str:
        """The name of the Celery task that its calls are."""
        return routing.task_name(None, self._name)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse: a remote function runs in a worker."""
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of '{self._name}()', use "
            f"'{self._name}.remote()'."
        )

    def options(self, **given: Any) -> RemoteFunction[F_co]:
        """Return the same function with other options.

        Raises:
            ValueError: an unknown option or an impossible value. TypeError: a wrong type.
        """
        if "max_calls" in given:
            raise ValueError("max_calls belongs to the function: give it to @remote")
        return RemoteFunction(self._function, function_options(self._options, given), self._bind)

    @function_call
    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Send one call and return the reference to its result at once.

        With ``num_returns=n`` a list of n references, with 0 None; for a generator the
        ``ObjectRefGenerator`` of its values.

        Raises:
            TypeError: the arguments do not fit. SerializationError: one cannot be pickled.
            InsufficientResourcesError: no living node could ever run it.
        """
        prepared, context = self._prepared, (self._bind or runtime.current)()
        if prepared is None or prepared.context is not context or prepared.job != context.job:
            if context.inline is not None:
                return self._inline(context).remote(*args, **kwargs)
            prepared = self._prepare(context)
        if kwargs or not self._bounds[0] <= len(args) <= self._bounds[1]:
            self._signature.check(f"{self._name}()", args, kwargs)
        target, template = prepared.settled or self._place(prepared)
        return context.calls.submit(target, template, args, kwargs)

    def _remote(self, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
        chosen: Any = self.options(**options)
        return chosen.remote(*args, **(kwargs or {}))

    def _inline(self, context: runtime.Runtime) -> InlineMethod:
        return InlineMethod(context.inline, self._name, self._function, self._returns)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """As ``CeleryVerbs.apply_async``."""
        context = self._context()
        if context.inline is not None:
            return self._inline(context).apply_async(args, kwargs, **options)
        return super().apply_async(args, kwargs, **options)

    def signature(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """As ``CeleryVerbs.signature``."""
        context = self._context()
        if context.inline is not None:
            return self._inline(context).signature(args, kwargs, **options)
        return super().signature(args, kwargs, **options)

    def _app_for_celery(self) -> Any:
        return self._context().find_app()

    def _context(self) -> runtime.Runtime:
        return (self._bind or runtime.current)()

    def _place_for_celery(self) -> Place:
        context = self._context()
        if is_stream(self._function) or self._returns != 1:
            raise ValueError(
                f"{self._name} gives several values, and Celery has no place for them: use "
                ".remote()"
            )
        prepared = self._prepare(context)
        target, _template = prepared.settled or self._place(prepared)
        # What a message of ours carries, too: the code's content hash, without a caller.
        tag = ["", 0, context.job, prepared.digest, self._options.max_retries]
        return Place(
            context, self._name, routing.task_name(None, self._name), target.queue, {"ca": tag}
        )

    def _check_for_celery(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._signature.check(f"{self._name}()", args, kwargs)

    def _prepare(self, context: runtime.Runtime) -> _Prepared:
        with collecting() as things:
            digest, record = dump_code(self._function, context.sealer, f"the function {self._name}")
        context.export(digest, record, things)
        env = environment.resolve(context, self._options.runtime_env)
        prepared = _Prepared(context, context.job, digest, env)
        moves = env or self._options.spreads or context.capacity.captured
        if self._options.need == _RESIDENT and not moves:
            prepared.settled = self._place(prepared)
        self._prepared = prepared
        return prepared

    def _place(self, prepared: _Prepared) -> tuple[Target, MessageTemplate]:
        """Return where a call goes: workers that are kept ready, or a queue of its need."""
        context, options, now = prepared.context, self._options, time.monotonic()
        if prepared.last is not None and now < prepared.until:
            return prepared.last
        need = context.capacity.place(options, options.need, f"{self._name}()")
        need = replace(need, env=prepared.env)
        found = prepared.places.get(need.label) or self._open(prepared, need)
        if not options.spreads:
            prepared.last, prepared.until = found, now + FRESH_SECONDS
        return found

    def _open(self, prepared: _Prepared, need: Need) -> tuple[Target, MessageTemplate]:
        """Return the queue of a need and the messages for it."""
        context, options = prepared.context, self._options
        resident = need == _RESIDENT
        target = context.calls.shared(self._name, need, registered=not resident)
        template = context.template(
            target, routing.task_name(None, self._name), prepared.digest, options.max_retries,
            options=CallOptions(
                returns=self._returns,
                retry_on=dump_types(options.retry_exceptions, context.sealer, context.export),
                backpressure=options.backpressure,
                max_calls=options.calls_per_process,
            ),
            timelimit=(options.deadline, options.timeout),
        )  # fmt: skip
        found = prepared.places[need.label] = (target, template)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        # By name where a worker can import it. Else as a state: a function that calls itself is
        # unpickled before its defaults are, and must not be looked at then.
        if reference := import_reference(self):
            return reference
        return _bare, (), {**self.__dict__, "_prepared": None, "_bind": None}

    def __repr__(self) -> str:
        return f"RemoteFunction({self._name})"


def _bare() -> RemoteFunction[Any]:
    return RemoteFunction.__new__(RemoteFunction)
