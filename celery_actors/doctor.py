"""What ``celery_actors doctor`` says: can this machine work with a store, and is that durable?"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from . import registry
from .config import Address, resolve_keys
from .errors import ClusterUnreachableError, ConfigurationError
from .store import Store, StoreError
from .store_check import NOT_KNOWN, Finding, examine, look

__all__ = ["collect", "is_well", "show"]

#: Seconds that two clocks may differ. Leases go by the store's clock alone; deadlines and `eta` of
#: calls by each machine's own.
SKEW_SECONDS = 1.0
#: Seconds for a connection, and for each answer.
ANSWER_SECONDS = 2.0


def collect(address: Address, key_file: str | os.PathLike[str] | None = None) -> list[Finding]:
    """Return everything that was found, whether or not the store answers."""
    return [_key(address, key_file), *_store(address)]


def _key(address: Address, key_file: str | os.PathLike[str] | None) -> Finding:
    try:
        ring = resolve_keys(address, key_file=key_file)
    except (ConfigurationError, OSError) as error:
        return Finding("signing key", "wrong", "none", str(error))
    return Finding("signing key", "ok", f"{len(ring.keys)} found, the first one signs")


def _store(address: Address) -> list[Finding]:
    store = Store(address, retries=0, patience=ANSWER_SECONDS)
    try:
        began = time.perf_counter()
        store.run("PING")
        took = 1000 * (time.perf_counter() - began)
        reached = Finding("store", "ok", f"answers at {address.public} within {took:.1f} ms")
        return [reached, *examine(look(store)), skew_of(store), _nodes(store)]
    except ClusterUnreachableError as error:
        return [Finding("store", "wrong", "no answer", str(error))]
    except StoreError as error:
        return [Finding("store", "wrong", "refuses", f"{error}. See the user's ACL")]
    finally:
        store.close()


def skew_of(store: Store) -> Finding:
    """Compare this machine's clock with the store's."""
    try:
        before = time.time()
        seconds, micros = map(int, store.run("TIME"))
        after = time.time()
    except StoreError:
        return Finding("clock", NOT_KNOWN, NOT_KNOWN)
    return judge_skew(seconds + micros / 1e6, before, after)


def judge_skew(theirs: float, before: float, after: float) -> Finding:
    """Judge a clock that was read between two moments of this machine's; all in seconds."""
    ahead = max(before - theirs, theirs - after, 0.0)
    seen = f"{(before + after) / 2 - theirs:+.3f} s from the store's"
    if ahead <= SKEW_SECONDS:
        return Finding("clock", "ok", seen)
    return Finding(
        "clock", "wrong", seen,
        "set the clocks of both machines (NTP): deadlines and delays of calls go by them",
    )  # fmt: skip


def _nodes(store: Store) -> Finding:
    try:
        living = sum(record.alive for record in registry.records(store))
    except StoreError:
        return Finding("nodes", NOT_KNOWN, NOT_KNOWN)
    if living:
        return Finding("nodes", "ok", f"{living} alive")
    return Finding("nodes", "advice", "none alive", "start `celery_actors worker` on a machine")


def is_well(findings: Sequence[Finding]) -> bool:
    """Tell whether nothing is wrong; what is not known is not."""
    return all(finding.state != "wrong" for finding in findings)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the same for machines."""
    return {"ok": is_well(findings), "checks": [asdict(finding) for finding in findings]}


def show(findings: Sequence[Finding]) -> None:
    """Print a table, and a line for each cure."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 250, highlight=False)
    colours = {"ok": "green", "advice": "yellow", "wrong": "red", NOT_KNOWN: "dim"}
    table = Table(box=None, pad_edge=False)
    for column in ("check", "state", "seen", "what to do"):
        table.add_column(column, overflow="fold")
    for each in findings:
        table.add_row(
            each.name, f"[{colours[each.state]}]{each.state}[/]", escape(each.seen),
            escape(each.cure),
        )  # fmt: skip
    console.print(table)
