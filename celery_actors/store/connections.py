"""How connections to the store are made: to the address, or to whoever sentinels call primary.

Sentinels are asked anew for every connection, so that one made after a failover finds the new
primary.
"""

from __future__ import annotations

import contextlib
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from ..config import Address

__all__ = ["CONNECT_TIMEOUT", "SILENCE_SECONDS", "close_pool", "make_pool", "silence_of"]

#: Seconds to wait for a connection; a wrong address must fail within seconds.
CONNECT_TIMEOUT = 3.0
#: Seconds to wait for one sentinel before the next one is asked.
_SENTINEL_TIMEOUT = 1.0
#: Seconds without an answer after which a connection is given up where sentinels may name another
#: primary: one that hangs, or whose machine is gone, would never close it.
SILENCE_SECONDS = 10.0


def silence_of(address: Address) -> float | None:
    """Return how long an answer may take before the connection is given up; None: any time.

    Without sentinels there is no other server to turn to, and waiting is all that helps.
    """
    return SILENCE_SECONDS if address.service else None


def make_pool(address: Address, **options: Any) -> redis.ConnectionPool:
    """Return a pool of connections; ``options`` are redis-py's."""
    options = {"socket_connect_timeout": CONNECT_TIMEOUT, "driver_info": None, **options}
    if not address.service:
        return redis.ConnectionPool.from_url(address.server_url, **options)
    found: dict[str, Any] = {**parse_url(address.server_url), **options}
    del found["host"]
    is_encrypted = found.get("connection_class") is SSLConnection
    found["connection_class"] = (
        SentinelManagedSSLConnection if is_encrypted else SentinelManagedConnection
    )
    asked = {
        "socket_connect_timeout": _SENTINEL_TIMEOUT, "socket_timeout": _SENTINEL_TIMEOUT,
        "retry": Retry(NoBackoff(), 0), "driver_info": None, "ssl": is_encrypted,
        **{name: value for name, value in found.items() if name.startswith("ssl_")},
        **address.sentinel_credentials,
    }  # fmt: skip
    return SentinelConnectionPool(
        address.service, Sentinel(address.hosts, sentinel_kwargs=asked), **found
    )


def close_pool(pool: redis.ConnectionPool) -> None:
    """Close the connections of a pool, those to sentinels among them."""
    pool.disconnect()
    close_sentinels(pool)


def close_sentinels(pool: redis.ConnectionPool) -> None:
    """Close a pool's connections to sentinels; they are made again when one is needed."""
    if isinstance(pool, SentinelConnectionPool):
        with contextlib.suppress(redis.RedisError, OSError):
            pool.sentinel_manager.close()
