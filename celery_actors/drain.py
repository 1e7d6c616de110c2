"""``celery_actors drain``: have a node end without losing work, and wait until it has."""

from __future__ import annotations

import time
from collections.abc import Callable

from . import directory, registry, routing
from .errors import NodeDiedError
from .registry import NodeRecord
from .store import Store

__all__ = ["drain", "what_stays"]

#: Seconds between two looks at a node that drains.
LOOK_SECONDS = 0.5
#: Seconds for a node to say that it drains: it says what is new once a second.
ANSWER_SECONDS = 15.0
#: Seconds beyond the patience for it to end what is left and to go.
LAST_SECONDS = 30.0


def drain(
    store: Store, node_id: str, seconds: float, *, wait: bool, say: Callable[[str], None]
) -> None:
    """Tell a node to end, and wait until it has.

    Args:
        store: of its cluster.
        node_id: the node.
        seconds: its patience with calls that run, and with actors that cannot restart.
        wait: until it is gone; else until it has said that it drains.
        say: is told how far it is.

    Raises:
        NodeDiedError: it does not answer, or is still there long after its patience.
    """
    until = time.monotonic() + ANSWER_SECONDS
    while (record := _record(store, node_id)) is not None and not record.draining:
        if time.monotonic() > until:
            raise NodeDiedError(
                f"node {node_id} holds its lease and does not say that it drains: look into its "
                "log. A node of an older version does not know how: stop it with SIGTERM"
            )
        store.run("PUBLISH", routing.node_channel(node_id), f"{routing.DRAIN}{seconds:g}")
        time.sleep(LOOK_SECONDS)
    said = ""
    until = time.monotonic() + seconds + LAST_SECONDS
    while wait and (record := _record(store, node_id)) is not None:
        if time.monotonic() > until:
            raise NodeDiedError(
                f"node {node_id} is still there {LAST_SECONDS:g} s after its patience: look into "
                "its log"
            )
        left = f"{record.about['workers']} processes left on {node_id}"
        if left != said:
            said = left
            say(left)
        time.sleep(LOOK_SECONDS)


def what_stays(store: Store, node_id: str) -> list[str]:
    """Return the actors of a node that cannot move: they serve until its patience is over."""
    return sorted(
        actor.title for actor in directory.actors(store)
        if actor.incarnation == node_id and not actor.restarts_left
    )  # fmt: skip


def _record(store: Store, node_id: str) -> NodeRecord | None:
    found = [record for record in registry.records(store) if record.node_id == node_id]
    return found[0] if found else None
