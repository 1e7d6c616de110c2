"""Starts a node in this process: fork server first, then everything with connections."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Sequence

from .. import crash_points
from ..assignment import NodeSettings
from ..config import Address, KeyRing
from ..network import own_ip
from ..packages import package_cache
from .shared_folder import open_folder
from .supervisor import Supervisor, SupervisorOptions
from .zygote import set_title, start_zygote

__all__ = ["run_node"]


def run_node(
    address: Address,
    ring: KeyRing,
    options: SupervisorOptions,
    *,
    host: str | None,
    preload: Sequence[str],
    task_events: bool,
    result_seconds: int,
    user_app: str = "",
    show_arguments: bool = True,
    level: str = "INFO",
) -> int:
    """Run a node until it is told to stop; return the exit status."""
    crash_points.install()
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    host = host or socket.gethostname()
    set_title("ca-node")
    node_id = f"{host}-{secrets.token_hex(4)}"
    with package_cache() as cache, open_folder(node_id) as shared:
        settings = NodeSettings(
            address,
            ring,
            node_id,
            host,
            task_events,
            result_seconds,
            own_ip(address),
            cache,
            user_app=user_app,
            show_arguments=show_arguments,
        )
        zygote = start_zygote(settings, preload)
        return Supervisor(settings, options, zygote, shared).run()
