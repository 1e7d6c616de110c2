"""Starts a node in this process: fork server first, then everything with connections."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Sequence

from .. import crash_points, log_format
from ..assignment import NodeSettings
from ..config import Address, KeyRing
from ..network import own_ip
from ..packages import package_cache
from ..watching import Watching
from .metrics_server import listening
from .shared_folder import open_folder
from .supervisor import LEASE_MS, Supervisor, SupervisorOptions
from .zygote import set_title, start_zygote

__all__ = ["run_node"]

logger = logging.getLogger(__name__)


def run_node(
    address: Address,
    ring: KeyRing,
    options: SupervisorOptions,
    *,
    host: str | None,
    preload: Sequence[str],
    task_events: bool,
    result_seconds: int,
    user_app: str,
    watching: Watching,
    level: str,
) -> int:
    """Run a node until it is told to stop; return the exit status.

    Raises:
        ConfigurationError: its metrics cannot be served where they are to be.
    """
    crash_points.install()
    host = host or socket.gethostname()
    hidden = log_format.secrets_of(address, ring)
    log_format.set_up(watching.log_format, {"node": host}, hidden, level=level)
    set_title("ca-node")
    node_id = f"{host}-{secrets.token_hex(4)}"
    with (
        listening(watching.metrics) as server,
        package_cache() as cache,
        open_folder(node_id) as shared,
    ):
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
            watching=watching,
        )
        zygote = start_zygote(settings, preload)
        supervisor = Supervisor(settings, options, zygote, shared)
        if server is not None:  # its threads come after the fork
            from .metrics import Metrics

            server.serve(Metrics(settings, supervisor.window, supervisor.tally, LEASE_MS / 1000))
            logger.info("metrics at %s/metrics", server.url)
        return supervisor.run()
