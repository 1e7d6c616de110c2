"""Options of ``@remote`` and ``.options()``: checked once, in the caller, then frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal, TypeVar

from .need import Need
from .resource_options import CHECKS as RESOURCE_CHECKS
from .resource_options import ResourceOptions, check_number
from .runtime_env import check_runtime_env

__all__ = [
    "ActorOptions",
    "FunctionOptions",
    "MethodOptions",
    "actor_options",
    "function_options",
    "method_options",
]

_T = TypeVar("_T", bound="ActorOptions | FunctionOptions | MethodOptions")


#: Seconds, or None for none.
Seconds = float | None
RetryOn = bool | tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions(ResourceOptions):
    """Options of a remote function. Defaults are Ray's.

    ``timeout`` and ``deadline`` are seconds a call may run: after the first ``TaskTimeoutError``
    is raised inside it, after the second its process is killed.
    """

    runtime_env: Mapping[str, Any] | None = None
    max_calls: int | None = None
    max_retries: int = 3
    retry_exceptions: RetryOn = False
    num_returns: int | str | None = None
    timeout: Seconds = None
    deadline: Seconds = None
    name: str | None = None
    enable_task_events: bool = True
    _generator_backpressure_num_objects: int | None = None
    _labels: Mapping[str, str] | None = None

    @property
    def backpressure(self) -> int:
        """How many values a generator may be ahead of its reader; 0: any number."""
        return self._generator_backpressure_num_objects or 0

    @property
    def calls_per_process(self) -> int:
        """Calls after which a process ends; 0: any number. One frees a GPU's memory."""
        return (1 if self.need.gpus else 0) if self.max_calls is None else self.max_calls

    @property
    def need(self) -> Need:
        """What one call needs while it runs: one CPU unless told otherwise."""
        return self.need_with(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorOptions(ResourceOptions):
    """Options of an actor. Defaults are Ray's.

    Without any resource an actor holds no CPU while it runs; with one it holds one CPU.

    ``durable``: the actor's state outlives its process. With True or "state" it is committed with
    each call's result. With "journal" the calls are, and the state after ``snapshot_every`` of
    them; a recovery runs those since then again, so methods must be deterministic (see ``ctx``).
    Either implies ``max_restarts=-1`` and ``max_task_retries=-1`` where they are not given.
    ``commit_every``: calls that may be committed together while others wait behind them; a crash
    takes back, and runs again, as many. ``rollback_on_error``: a call that raises leaves the state
    as it was. ``idle_timeout``: seconds without a call after which its process ends; its next call
    starts another one. None: it stays.
    """

    runtime_env: Mapping[str, Any] | None = None
    name: str | None = None
    namespace: str | None = None
    get_if_exists: bool = False
    lifetime: Literal["detached", "non_detached"] | None = None
    max_restarts: int | None = None
    max_task_retries: int | None = None
    max_concurrency: int | None = None
    concurrency_groups: Mapping[str, int] | None = None
    allow_out_of_order_execution: bool | None = None
    max_pending_calls: int = -1
    on_full: Literal["raise", "block"] = "raise"
    durable: bool | Literal["state", "journal"] = False
    commit_every: int = 1
    rollback_on_error: bool = False
    snapshot_every: int = 100
    idle_timeout: Seconds = None
    enable_task_events: bool = True
    _labels: Mapping[str, str] | None = None

    @property
    def restarts(self) -> int:
        """How often the actor may restart; -1: without limit."""
        return self._lasting(self.max_restarts)

    @property
    def task_retries(self) -> int:
        """How often a call may run again after a crash; -1: without limit."""
        return self._lasting(self.max_task_retries)

    def _lasting(self, given: int | None) -> int:
        return given if given is not None else -1 if self.durable else 0

    @property
    def need(self) -> Need:
        """What the actor needs for its lifetime."""
        return self.need_with(1 if self.states_resources else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodOptions:
    """Options of a method (``@method``) or of one call of it (``handle.method.options``).

    None means "as the next level says": the call, the method, the actor, then Ray's default.
    ``countdown`` (seconds) and ``eta`` say when the call may start at the earliest.
    """

    name: str | None = None
    num_returns: int | str | None = None
    concurrency_group: str | None = None
    max_task_retries: int | None = None
    retry_exceptions: RetryOn | None = None
    timeout: Seconds = None
    deadline: Seconds = None
    countdown: Seconds = None
    eta: datetime | None = None
    enable_task_events: bool = True
    _generator_backpressure_num_objects: int | None = None
    _labels: Mapping[str, str] | None = None

    @property
    def backpressure(self) -> int:
        """How many values a generator may be ahead of its reader; 0: any number."""
        return self._generator_backpressure_num_objects or 0


def _count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < -1:
        raise ValueError(f"{name} must be -1 (without limit) or more, got {value}")


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")


def _durable(name: str, value: Any) -> None:
    if not isinstance(value, bool) and value not in ("state", "journal"):
        raise ValueError(f"{name} must be True, False, 'state' or 'journal', got {value!r}")


def _lifetime(name: str, value: Any) -> None:
    if value not in ("detached", "non_detached"):
        raise ValueError(f"{name} must be 'detached' or 'non_detached', got {value!r}")


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _seconds(name: str, value: Any) -> None:
    check_number(name, value)
    if value == 0 and name != "countdown":
        raise ValueError(f"{name} must be more than 0 seconds")


def _calls_count(name: str, value: Any) -> None:
    _count(name, value)
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}; 0 means without limit")


def _returns(name: str, value: Any) -> None:
    if isinstance(value, str):
        if value not in ("streaming", "dynamic"):
            raise ValueError(f"{name} must be a number or 'streaming', got {value!r}")
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


def _retry_on(name: str, value: Any) -> None:
    if isinstance(value, bool):
        return
    if not isinstance(value, list | tuple):
        raise TypeError(
            f"{name} must be True, False or a list of exception types, not {type(value).__name__}"
        )
    for kind in value:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{name} must hold exception types only, and it holds {kind!r}")


def _groups(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    for key, limit in value.items():
        _text(f"a key of {name}", key)
        _positive(f"{name}[{key!r}]", limit)


def _on_full(name: str, value: Any) -> None:
    if value not in ("raise", "block"):
        raise ValueError(f"{name} must be 'raise' or 'block', got {value!r}")


def _moment(name: str, value: Any) -> None:
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, not {type(value).__name__}")


def _mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    **RESOURCE_CHECKS,
    "runtime_env": check_runtime_env,
    "max_calls": _calls_count,
    "max_retries": _count,
    "retry_exceptions": _retry_on,
    "num_returns": _returns,
    "timeout": _seconds,
    "deadline": _seconds,
    "countdown": _seconds,
    "eta": _moment,
    "max_restarts": _count,
    "max_task_retries": _count,
    "max_concurrency": _positive,
    "concurrency_groups": _groups,
    "concurrency_group": _text,
    "allow_out_of_order_execution": _flag,
    "max_pending_calls": _count,
    "on_full": _on_full,
    "durable": _durable,
    "commit_every": _positive,
    "rollback_on_error": _flag,
    "snapshot_every": _positive,
    "idle_timeout": _seconds,
    "name": _text,
    "namespace": _text,
    "get_if_exists": _flag,
    "lifetime": _lifetime,
    "enable_task_events": _flag,
    "_generator_backpressure_num_objects": _positive,
    "_labels": _mapping,
}
#: Options of actors whose defaults depend on others.
_COUNTS = {"max_restarts", "max_task_retries"}
#: Ray's options that are not offered yet: taking them in silence would place work wrongly.
_NOT_OFFERED = {"enable_tensor_transport", "tensor_transport"}


def _merge(base: _T, given: Mapping[str, Any], what: str) -> _T:
    defaults = {field.name: field.default for field in fields(base)}
    for name, value in given.items():
        if name in _NOT_OFFERED:
            raise ValueError(f"The option {name} is not offered yet for {what}: leave it out")
        if name not in defaults:
            public = sorted(known for known in defaults if not known.startswith("_"))
            raise ValueError(f"Invalid option keyword {name} for {what}. Valid ones are {public}.")
        counts = isinstance(base, ActorOptions) and name in _COUNTS  # left out is not None
        if value is not None or defaults[name] is not None or counts:  # None: back to the default
            _CHECKS[name](name, value)
    changed: dict[str, Any] = dict(given)
    for name in ("resources", "label_selector", "concurrency_groups"):
        if changed.get(name) is not None:
            changed[name] = dict(changed[name])  # the caller may go on changing its own
    for name in ("retry_exceptions", "gpu_ids"):
        if isinstance(changed.get(name), list):
            changed[name] = tuple(changed[name])
    if changed.get("fallback_strategy") is not None:
        changed["fallback_strategy"] = copy.deepcopy(changed["fallback_strategy"])
    return replace(base, **changed)


_PLAIN = ActorOptions()


def actor_options(base: ActorOptions, given: Mapping[str, Any]) -> ActorOptions:
    """Return ``base`` with the given options.

    Raises:
        ValueError: an unknown option or an impossible value. TypeError: a wrong type.
    """
    merged = _merge(base, given, "actors")
    if merged.get_if_exists and merged.name is None:
        raise ValueError("get_if_exists=True needs a name")
    wants = {"commit_every": "True", "rollback_on_error": "True", "idle_timeout": "True",
             "snapshot_every": "'journal'"}  # fmt: skip
    for name, wanted in wants.items():
        fits = merged.durable == "journal" if name == "snapshot_every" else merged.durable
        if not fits and getattr(merged, name) != getattr(_PLAIN, name):
            raise ValueError(f"{name} needs durable={wanted}")
    merged.check_together()
    return merged


def function_options(base: FunctionOptions, given: Mapping[str, Any]) -> FunctionOptions:
    """Return ``base`` with the given options.

    Raises:
        ValueError: an unknown option or an impossible value. TypeError: a wrong type.
    """
    merged = _merge(base, given, "remote functions")
    merged.check_together()
    return merged


def method_options(base: MethodOptions, given: Mapping[str, Any]) -> MethodOptions:
    """Return ``base`` with the given options.

    Raises:
        ValueError: an unknown option or an impossible value. TypeError: a wrong type.
    """
    merged = _merge(base, given, "methods")
    if merged.eta is not None and merged.countdown is not None:
        raise ValueError("give countdown or eta, not both")
    return merged
