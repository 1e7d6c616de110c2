"""Arguments of ``init`` that Ray's programs pass, and what becomes of them here."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Literal

from .app_settings import address_of
from .config import ADDRESS_VARIABLE, Address
from .runtime_env import check_runtime_env

__all__ = ["job_settings", "refuse_unknown", "set_up_logging", "wanted_address"]

_WITHOUT_EFFECT = {
    "dashboard_host", "dashboard_port", "enable_resource_isolation", "include_dashboard",
    "logging_config", "object_store_memory", "system_reserved_cpu", "system_reserved_memory",
}  # fmt: skip


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """Refuse what is neither ours nor Ray's.

    Raises:
        TypeError: an unknown argument.
    """
    for name in given:
        if name not in _WITHOUT_EFFECT and not name.startswith("_"):
            raise TypeError(
                f"init() got an unexpected keyword argument {name!r}. help(celery_actors.init) "
                "lists what there is"
            )


def wanted_address(address: str | None, app: Any) -> Address | Literal["auto"] | None:
    """Return the address to join, "auto", or None where a cluster is to be started.

    Raises:
        ConfigurationError: it is no address.
    """
    if address is None and app is not None:
        return address_of(app)
    address = address or os.environ.get(ADDRESS_VARIABLE) or os.environ.get("RAY_ADDRESS")
    if address == "auto":
        return "auto"
    return None if address in (None, "", "local") else Address.parse(address)


def job_settings(
    namespace: str | None, runtime_env: Mapping[str, Any] | None, job_config: Any
) -> tuple[str | None, Mapping[str, Any]]:
    """Return the namespace and the environment of a driver.

    Raises:
        TypeError, ValueError: one is not what it should be.
    """
    if job_config is not None:
        found = job_config if isinstance(job_config, Mapping) else vars(job_config)
        namespace = namespace or found.get("ray_namespace")
        runtime_env = runtime_env or found.get("runtime_env")
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be a string, not {type(namespace).__name__}")
    if namespace == "":
        raise ValueError("namespace must not be empty; leave it out for one of your own")
    if runtime_env is not None:
        check_runtime_env("runtime_env", runtime_env)
    return namespace, runtime_env or {}


def set_up_logging(level: int | str, form: str | None) -> None:
    """Let the package's messages of this level be seen, where nobody has set up logging."""
    logger = logging.getLogger(__package__)
    logger.setLevel(level.upper() if isinstance(level, str) else level)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(
            logging.Formatter(form or "%(asctime)s\t%(levelname)s %(name)s -- %(message)s")
        )
        logger.addHandler(handler)
