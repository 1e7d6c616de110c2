"""What a ``runtime_env`` may say: checked in the caller, merged with its parent's.

An environment that workers can set up ("resolved") holds no local path any more: ``working_dir``
and ``py_modules`` name packages by content hash, a hook names its code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import ConfigurationError

__all__ = ["PACKAGE", "RuntimeEnv", "check_runtime_env", "digest_of", "merge"]

#: Begins the name of a package in a resolved environment: the hash and the bytes follow.
PACKAGE = "package:"
_BUILD = (
    "build it into the image or the virtual environment that the node runs in, or start a node "
    "from that environment and give it a resource of its own to ask for"
)
#: Ray's keys that install or switch whole environments while the cluster runs.
_NOT_OFFERED = ("pip", "uv", "conda", "container", "image_uri", "py_executable")


class RuntimeEnv(dict[str, Any]):
    """A ``runtime_env`` as an object, checked when it is made; a plain dictionary does as well.

    Raises:
        ValueError: an unknown key or an impossible value. TypeError: a wrong type.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__({name: value for name, value in given.items() if value is not None})
        check_runtime_env("runtime_env", self)


def check_runtime_env(name: str, value: Any) -> None:
    """Check the shape of an environment. Paths are looked at where it is first used.

    A module with ``@remote(runtime_env=…)`` is also imported by workers on other machines, where
    the path need not exist.

    Raises:
        ValueError: an unknown key or an impossible value. TypeError: a wrong type.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    for key, part in value.items():
        if key in _NOT_OFFERED:
            raise ConfigurationError(
                f"{name}={{{key!r}: …}} is not offered: workers are forked from their node and "
                f"share its Python. Instead, {_BUILD}"
            )
        if key not in _CHECKS:
            raise ValueError(f"{name} has no key {key!r}; it knows {', '.join(_CHECKS)}")
        if part is not None:
            _CHECKS[key](f"{name}[{key!r}]", part)


def _env_vars(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must map strings to strings, and is a {type(value).__name__}")
    for variable, text in value.items():
        if not isinstance(variable, str) or not isinstance(text, str):
            raise TypeError(f"{name} must map strings to strings, got {variable!r}: {text!r}")
        if not variable or "=" in variable or "\0" in variable + text:
            raise ValueError(f"{name}: {variable!r} cannot be a variable of the environment")


def _path(name: str, value: Any) -> None:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, not {type(value).__name__}")
    if "://" in str(value):
        raise ConfigurationError(
            f"{name}={str(value)!r}: addresses are not offered, because nothing unverified is "
            "unpacked on a node. Download it, and give the local folder or .zip file"
        )
    if not str(value):
        raise ValueError(f"{name} must not be empty")


def _modules(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list of paths or modules, not {type(value).__name__}")
    for position, module in enumerate(value):
        if not isinstance(module, ModuleType):
            _path(f"{name}[{position}]", module)


def _excludes(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple) or not all(isinstance(p, str) for p in value):
        raise TypeError(f"{name} must be a list of patterns, got {value!r}")


def _hook(name: str, value: Any) -> None:
    if not callable(value) and not isinstance(value, str):
        raise TypeError(f"{name} must be a function or 'module.function', got {value!r}")


def _config(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    for key, part in value.items():
        if key == "setup_timeout_seconds":
            if isinstance(part, bool) or not isinstance(part, int):
                raise TypeError(f"{name}[{key!r}] must be an integer, not {type(part).__name__}")
            if part < -1 or part == 0:
                raise ValueError(f"{name}[{key!r}] must be -1 (no limit) or positive, got {part}")
        elif key == "eager_install":
            if not isinstance(part, bool):
                raise TypeError(f"{name}[{key!r}] must be True or False, got {part!r}")
        else:
            raise ValueError(
                f"{name} has no key {key!r}; it knows setup_timeout_seconds and eager_install"
            )


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "env_vars": _env_vars,
    "working_dir": _path,
    "py_modules": _modules,
    "excludes": _excludes,
    "worker_process_setup_hook": _hook,
    "config": _config,
}


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """Return the child's environment on top of its parent's; variables merge one by one."""
    merged = {**parent, **{key: part for key, part in child.items() if part is not None}}
    variables = {**parent.get("env_vars", {}), **(child.get("env_vars") or {})}
    if variables:
        merged["env_vars"] = variables
    return merged


def canonical(env: Mapping[str, Any]) -> str:
    """Return the text that is the same for equal environments."""
    return json.dumps(env, sort_keys=True, default=_name_of)


def _name_of(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, ModuleType):
        return str(module_path(value))
    return f"{value!r}"


def module_path(module: ModuleType) -> Path:
    """Return the folder of a package or the file of a module.

    Raises:
        ValueError: it comes from neither.
    """
    file = getattr(module, "__file__", None)
    if file is None:
        raise ValueError(f"py_modules: the module {module.__name__} does not come from a file")
    path = Path(file)
    return path.parent if path.name == "__init__.py" else path


def digest_of(env: Mapping[str, Any]) -> str:
    """Return the short name of a resolved environment; '' for one that changes nothing."""
    return hashlib.sha256(canonical(env).encode()).hexdigest()[:16] if env else ""
