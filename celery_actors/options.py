"""Options of ``@remote`` and ``.options()``: checked once, in the caller, then frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from .placement import Need
from .runtime_env import check_runtime_env

__all__ = ["ActorOptions", "FunctionOptions", "actor_options", "function_options"]

_T = TypeVar("_T", bound="ActorOptions | FunctionOptions")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """Options of a remote function. Defaults are Ray's."""

    num_cpus: float | None = None
    num_gpus: float | None = None
    resources: Mapping[str, float] | None = None
    runtime_env: Mapping[str, Any] | None = None
    max_retries: int = 3
    name: str | None = None

    @property
    def need(self) -> Need:
        """What one call needs while it runs: one CPU unless told otherwise."""
        cpus = 1.0 if self.num_cpus is None else self.num_cpus
        return Need.of(cpus=cpus, gpus=self.num_gpus or 0, custom=self.resources or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorOptions:
    """Options of an actor. Defaults are Ray's.

    Without any resource an actor holds no CPU while it runs; with one it holds one CPU.
    """

    num_cpus: float | None = None
    num_gpus: float | None = None
    resources: Mapping[str, float] | None = None
    runtime_env: Mapping[str, Any] | None = None
    name: str | None = None
    namespace: str | None = None
    get_if_exists: bool = False
    lifetime: Literal["detached", "non_detached"] | None = None
    max_restarts: int = 0
    max_task_retries: int = 0

    @property
    def need(self) -> Need:
        """What the actor needs for its lifetime."""
        given = bool(self.num_gpus or self.resources)
        cpus = (1.0 if given else 0.0) if self.num_cpus is None else self.num_cpus
        return Need.of(cpus=cpus, gpus=self.num_gpus or 0, custom=self.resources or {})


def check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


def check_gpus(name: str, value: Any) -> None:
    check_number(name, value)
    if value > 1 and value != int(value):
        raise ValueError(f"{name} above 1 must be whole, got {value}")


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


def _lifetime(name: str, value: Any) -> None:
    if value not in ("detached", "non_detached"):
        raise ValueError(f"{name} must be 'detached' or 'non_detached', got {value!r}")


def check_resources(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    for key, amount in value.items():
        _text(f"a key of {name}", key)
        if key in ("CPU", "GPU"):
            raise ValueError(f"use num_{key.lower()}s= instead of {name}={{{key!r}: …}}")
        check_number(f"{name}[{key!r}]", amount)


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "num_cpus": check_number,
    "num_gpus": check_gpus,
    "resources": check_resources,
    "runtime_env": check_runtime_env,
    "max_retries": _count,
    "max_restarts": _count,
    "max_task_retries": _count,
    "name": _text,
    "namespace": _text,
    "get_if_exists": _flag,
    "lifetime": _lifetime,
}
#: None means "the default" for these, as in Ray.
_OPTIONAL = {"runtime_env", "num_cpus", "num_gpus", "resources", "name", "namespace", "lifetime"}


def _merge(base: _T, given: Mapping[str, Any], what: str) -> _T:
    known = {field.name for field in fields(base)}
    for name, value in given.items():
        if name not in known:
            raise ValueError(
                f"Invalid option keyword {name} for {what}. Valid ones are {sorted(known)}."
            )
        if value is not None or name not in _OPTIONAL:
            _CHECKS[name](name, value)
    changed: dict[str, Any] = dict(given)
    if changed.get("resources") is not None:
        changed["resources"] = dict(changed["resources"])  # the caller may go on changing its own
    return replace(base, **changed)


def actor_options(base: ActorOptions, given: Mapping[str, Any]) -> ActorOptions:
    """Return ``base`` with the given options.

    Raises:
        ValueError: an unknown option or an impossible value. TypeError: a wrong type.
    """
    merged = _merge(base, given, "actors")
    if merged.get_if_exists and merged.name is None:
        raise ValueError("get_if_exists=True needs a name")
    return merged


def function_options(base: FunctionOptions, given: Mapping[str, Any]) -> FunctionOptions:
    """Return ``base`` with the given options.

    Raises:
        ValueError: an unknown option or an impossible value. TypeError: a wrong type.
    """
    return _merge(base, given, "remote functions")
