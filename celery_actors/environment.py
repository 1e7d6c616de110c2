"""Environments of this process's calls: made fit for travel here, read again by workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from . import packages, routing
from .code import dump_code
from .errors import RuntimeEnvSetupError, UntrustedPayloadError
from .runtime_env import PACKAGE, canonical, digest_of, merge, module_path

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["CODE", "adopt", "load", "resolve"]

#: Begins a hook that is stored code; the hash follows.
CODE = "code:"
#: Seconds an environment stays after a process last stored or loaded it.
SECONDS = 7 * 24 * 3600


def resolve(context: Runtime, given: Mapping[str, Any] | None) -> str:
    """Return the name of an environment on top of this process's own; '' for none.

    What it needs is stored. A folder is read once per process: later changes of its files count
    for later drivers.

    Raises:
        ValueError: a path is not there or too large. SerializationError: the hook cannot travel.
    """
    if not given and not context.env:
        return ""
    text = canonical(given or {})
    digest = context.environments.get(text)
    if digest is None:
        env = merge(context.env, _portable(context, given or {}))
        digest = digest_of(env)
        if digest:
            place = _place(digest)
            sealed = context.sealer.seal(env, place, digest, "the runtime_env", inline=True)
            context.store.run("SET", routing.env_key(digest), sealed, "EX", SECONDS)
        context.environments[text] = digest
    return digest


def adopt(context: Runtime, given: Mapping[str, Any]) -> None:
    """Make this the environment that all calls of this process inherit.

    Raises:
        ValueError: a path is not there or too large. SerializationError: the hook cannot travel.
    """
    context.env = merge({}, _portable(context, given))


def _portable(context: Runtime, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an environment without paths and objects of this process."""
    portable: dict[str, Any] = {}
    if given.get("env_vars"):
        portable["env_vars"] = dict(given["env_vars"])
    excludes = given.get("excludes") or []
    if given.get("working_dir") is not None:
        portable["working_dir"] = _package(context, given["working_dir"], excludes, named=False)
    if given.get("py_modules"):
        portable["py_modules"] = [
            _package(context, module, excludes, named=True) for module in given["py_modules"]
        ]
    hook = given.get("worker_process_setup_hook")
    if callable(hook):
        digest, record = dump_code(hook, context.sealer, "the worker_process_setup_hook")
        context.export(digest, record)
        hook = CODE + digest
    if hook is not None:
        portable["worker_process_setup_hook"] = hook
    return portable


def _package(context: Runtime, given: Any, excludes: list[str], *, named: bool) -> str:
    if isinstance(given, str) and given.startswith(PACKAGE):
        return given  # from a parent's environment
    path = module_path(given) if isinstance(given, ModuleType) else Path(given).expanduser()
    data = packages.pack(path.resolve(), excludes, keep_name=named)
    return packages.store_package(context.store, data, SECONDS)


def load(context: Runtime, digest: str) -> dict[str, Any]:
    """Return a stored environment, which then stays for another while.

    Raises:
        RuntimeEnvSetupError: it is gone, or not signed.
    """
    raw = context.store.run("GETEX", routing.env_key(digest), "EX", SECONDS)
    if raw is None:
        raise RuntimeEnvSetupError(
            f"the runtime_env {digest} is not in the store any more. Restart the driver, which "
            "stores it again"
        )
    try:
        env = cast("dict[str, Any]", context.sealer.open(bytes(raw), _place(digest)))
    except UntrustedPayloadError as error:
        raise RuntimeEnvSetupError(f"the runtime_env {digest} is not trusted: {error}") from None
    for name in (env.get("working_dir"), *env.get("py_modules", ())):
        if name is not None:
            packages.refresh(context.store, name, SECONDS)
    return env


def _place(digest: str) -> tuple[str, ...]:
    return ("env", digest)
