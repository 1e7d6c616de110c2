"""Sets a worker process up for the environment that its calls ask for, once."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import code, environment, packages, routing
from .errors import RayError, RuntimeEnvSetupError
from .runtime import Runtime

__all__ = ["WorkerEnv", "adopt"]


def adopt(context: Runtime, job: str) -> None:
    """Work for this driver from now on: its modules can be imported, its names are found."""
    context.job = context.holdings.holder = job
    raw = context.store.get(routing.session_key(job)) if job else None
    if raw is not None:
        driver = json.loads(raw)
        sys.path.extend(entry for entry in driver["path"] if entry not in sys.path)
        importlib.invalidate_caches()
        context.namespace = driver["namespace"]


class WorkerEnv:
    """The environment of one worker process.

    ``ensure`` comes before the first user code is loaded and after the driver's import path.
    """

    def __init__(
        self, context: Runtime, digest: str, cache: Path, assigned: Mapping[str, str]
    ) -> None:
        self._context = context
        self._pending = digest
        self._cache = cache
        self._assigned = assigned
        self._failure: RuntimeEnvSetupError | None = None

    def ensure(self) -> None:
        """Set the process up, the first time.

        Raises:
            RuntimeEnvSetupError: it cannot be; the same error every time.
        """
        if self._failure is not None:
            raise self._failure
        if not self._pending:
            return
        digest, self._pending = self._pending, ""
        try:
            self._set_up(digest)
        except RuntimeEnvSetupError as error:
            self._failure = error
            raise

    def _set_up(self, digest: str) -> None:
        context = self._context
        env = context.env = environment.load(context, digest)
        self._set_variables(env.get("env_vars", {}))
        paths = [packages.fetch(context.store, m, self._cache) for m in env.get("py_modules", ())]
        if env.get("working_dir") is not None:
            folder = packages.fetch(context.store, env["working_dir"], self._cache)
            os.chdir(folder)
            paths.insert(0, folder)
        sys.path[:0] = map(str, paths)
        importlib.invalidate_caches()
        if hook := env.get("worker_process_setup_hook"):
            _run_hook(self._hook(hook))

    def _set_variables(self, variables: Mapping[str, str]) -> None:
        before = dict(os.environ)
        for name, text in variables.items():
            if name in self._assigned and name != "OMP_NUM_THREADS":
                continue  # the devices that this worker holds are not for the user to change
            os.environ[name] = re.sub(
                r"\$\{(\w+)\}", lambda found: before.get(found.group(1), ""), text
            )
        if "TZ" in variables:
            time.tzset()
        # The interpreter was forked, not started: it reads this variable no more.
        sys.path[:0] = filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))

    def _hook(self, name: str) -> Callable[[], Any]:
        context = self._context
        try:
            if name.startswith(environment.CODE):
                digest = name.removeprefix(environment.CODE)
                loaded = code.load_code(digest, context.fetch_code, context.sealer)
            else:
                module, _, attribute = name.rpartition(".")
                loaded = getattr(importlib.import_module(module), attribute)
        except (RayError, ImportError, AttributeError, ValueError) as error:
            raise RuntimeEnvSetupError(
                f"the worker_process_setup_hook {name} cannot be loaded: {error}"
            ) from error
        hook: Callable[[], Any] = loaded
        return hook


def _run_hook(hook: Callable[[], Any]) -> None:
    try:
        hook()
    except Exception as error:
        raise RuntimeEnvSetupError(
            f"the worker_process_setup_hook {getattr(hook, '__qualname__', hook)} raised "
            f"{type(error).__name__}: {error}"
        ) from error
