"""How a store must be set so that it loses nothing: checked as a node starts, and by `doctor`."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .store import Store, StoreError

__all__ = ["Finding", "examine", "look", "warn"]

logger = logging.getLogger(__name__)

#: The oldest server whose commands suffice: `LMOVE` and `BLMOVE`, `GETEX`, `ZADD GT`.
OLDEST_SERVER = (6, 2)
NOT_KNOWN: Final = "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    ``state``: ``"advice"`` is for what may be meant so; ``"not known"`` where the store does not
    say it, such as to a user whose ACL forbids ``INFO`` or ``CONFIG``.
    """

    name: str
    state: Literal["ok", "advice", "wrong", "not known"]
    seen: str
    cure: str = ""


def look(store: Store) -> dict[str, str]:
    """Return what the server says of itself, as far as it may: ``INFO``, ``appendfsync``.

    Raises:
        StoreUnreachableError: it does not answer.
    """
    found: dict[str, str] = {}
    with contextlib.suppress(StoreError):
        found |= store.about("everything")
    for name in ("appendfsync", "min-replicas-to-write"):
        with contextlib.suppress(StoreError):
            found |= store.setting(name)
    return found


def examine(found: Mapping[str, str]) -> list[Finding]:
    """Return what is to be said of a store that has told these facts of itself."""
    return [*_server(found), *_memory(found), *_log(found), *_replicas(found)]


def _server(found: Mapping[str, str]) -> Iterator[Finding]:
    version = found.get("valkey_version") or found.get("redis_version")
    name = "server version"
    if version is None:
        yield Finding(name, NOT_KNOWN, NOT_KNOWN)
    elif tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        yield Finding(name, "wrong", version, f"run Redis {oldest} or newer, or Valkey")
    else:
        yield Finding(name, "ok", version)
    role = found.get("role", NOT_KNOWN)
    if role not in ("master", NOT_KNOWN):
        yield Finding("role", "wrong", role, "name the primary: a replica accepts no writes")


def _memory(found: Mapping[str, str]) -> Iterator[Finding]:
    policy = found.get("maxmemory_policy")
    name = "maxmemory-policy"
    if policy is None:
        yield Finding(name, NOT_KNOWN, NOT_KNOWN)
    elif policy == "noeviction":
        yield Finding(name, "ok", policy)
    else:
        yield Finding(
            name, "wrong", policy,
            "set `maxmemory-policy noeviction`: any other deletes calls, results or actors "
            "silently when memory is short",
        )  # fmt: skip


def _log(found: Mapping[str, str]) -> Iterator[Finding]:
    enabled = found.get("aof_enabled")
    name = "appendonly"
    if enabled is None:
        yield Finding(name, NOT_KNOWN, NOT_KNOWN)
        return
    if enabled != "1":
        yield Finding(
            name, "wrong", "no",
            "set `appendonly yes`: without it a restart of the server loses calls, results and "
            "actors",
        )  # fmt: skip
        return
    if found.get("aof_last_write_status", "ok") != "ok":
        yield Finding(
            name, "wrong", "yes, and the last write failed",
            "make room on the server's disk, or mend it: see its log",
        )  # fmt: skip
        return
    yield Finding(name, "ok", "yes")
    flush = found.get("appendfsync", NOT_KNOWN)
    if flush == "always":
        yield Finding("appendfsync", "ok", flush)
    elif flush == NOT_KNOWN:
        yield Finding("appendfsync", NOT_KNOWN, flush)
    else:
        lost = "second" if flush == "everysec" else "half a minute"
        yield Finding(
            "appendfsync", "advice", flush,
            f"a power cut may take the last {lost}: `appendfsync always` closes that gap, at the "
            "price of a disk flush before each reply",
        )  # fmt: skip


def _replicas(found: Mapping[str, str]) -> Iterator[Finding]:
    count = found.get("connected_slaves", "0")
    if count == "0":
        return
    least = found.get("min-replicas-to-write", NOT_KNOWN)
    seen = f"{count}, min-replicas-to-write {least}"
    if least == NOT_KNOWN:
        yield Finding("replicas", NOT_KNOWN, seen)
    elif least == "0":
        yield Finding(
            "replicas", "advice", seen,
            "set `min-replicas-to-write 1` and `min-replicas-max-lag 10`, which bound what a "
            "failover may take along",
        )  # fmt: skip
    else:
        yield Finding("replicas", "ok", seen)


def warn(store: Store, *, embedded: bool) -> None:
    """Log what a store lacks for durability, a line for each: what it is and what to do.

    ``embedded``: a driver's own store. Without a folder it is not meant to keep anything.

    Raises:
        StoreUnreachableError: it does not answer.
    """
    for finding in examine(look(store)):
        if finding.state != "wrong":
            continue
        if embedded:
            logger.info("this store keeps nothing over its end; init(storage=…) would")
            return
        logger.warning("the store's %s is %s: %s", finding.name, finding.seen, finding.cure)
