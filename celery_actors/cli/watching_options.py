"""The options of ``celery_actors worker`` for those who watch the node."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import click

from ..errors import ConfigurationError
from ..watching import LogFormat, Watching

__all__ = ["watching_options"]

_OPTIONS = (
    click.option(
        "--metrics-port", type=click.IntRange(0, 65535), metavar="PORT",
        help="Serve /metrics for Prometheus, and /healthz for probes. 0: any free port.",
    ),
    click.option(
        "--metrics-host", default="127.0.0.1", show_default=True, metavar="HOST",
        help="Serve them on this address of the machine. They ask for no password.",
    ),
    click.option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
        help="json: one object a line, with call, actor and trace.",
    ),
    click.option(
        "--otel", is_flag=True, envvar="CELERY_ACTORS_OTEL",
        help="Make OpenTelemetry spans of calls. The standard OTEL_… variables say where they go.",
    ),
)  # fmt: skip


def watching_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets them as ``watching``."""

    @functools.wraps(command)
    def checked(
        *args: Any, metrics_port: int | None, metrics_host: str, log_format: LogFormat, otel: bool,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        place = None if metrics_port is None else (metrics_host, metrics_port)
        if place is not None:
            _need("celery_actors.node.metrics", "--metrics-port")
        if otel:
            _need("celery_actors.otel", "--otel")
        command(*args, watching=Watching(place, log_format, otel), **kwargs)

    for option in reversed(_OPTIONS):
        checked = option(checked)
    return checked


def _need(module: str, option: str) -> None:
    """Import what an option needs, before anything starts; the workers' forks share it.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(f"{option}: {error}") from None
