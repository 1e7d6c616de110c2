"""What a node does with its workers' output: it tells their drivers, and the store keeps the end.

One step per batch that was read from a pipe, and none where nobody prints.
"""

from __future__ import annotations

import msgspec

from .. import routing
from ..assignment import Assignment, LogBatch
from ..errors import StoreFullError
from ..progress import decode_bar
from ..store import Store
from ..tokens import REMEMBER_SECONDS

__all__ = ["Printed"]

#: What is kept of one log at least, where there is as much; a batch more at most.
KEEP_LINES, KEEP_BYTES = 1_000, 192 * 1024
#: Of one batch, and of one line in it: characters beyond are not kept.
BATCH_CHARACTERS, LINE_CHARACTERS = 48 * 1024, 8 * 1024


class Printed:
    """The way of lines to drivers and into logs: actors have their own, functions the node's."""

    def __init__(self, store: Store, node_id: str, host: str) -> None:
        self._store = store
        self._node_id = node_id
        self._host = host

    def take(self, assignment: Assignment, job: str, batch: LogBatch) -> None:
        """Tell a driver what its worker printed, and keep it; ``job`` '': nobody's.

        Raises:
            ClusterUnreachableError, StoreError: it is lost.
        """
        batch.node = self._host
        channel = routing.log_channel(job) if job else ""
        told = msgspec.json.encode(batch)
        short = worth_keeping(batch.lines)
        keys = [routing.node_log_key(self._node_id), ""]
        if assignment.actor_id:
            keys = [assignment.keys.log, assignment.keys.meta]
        if not short:
            self._publish(channel, told)
            return
        kept = msgspec.json.encode(msgspec.structs.replace(batch, lines=short))
        try:
            self._store.scripts.keep_lines(
                keys, channel, told, "" if kept == told else kept, len(short), len(kept),
                KEEP_LINES, KEEP_BYTES, REMEMBER_SECONDS,
            )  # fmt: skip
        except StoreFullError:
            self._publish(channel, told)

    def _publish(self, channel: str, told: bytes) -> None:
        if channel:
            self._store.run("PUBLISH", channel, told)


def worth_keeping(lines: list[str]) -> list[str]:
    """Return the lines without progress bars; of too much the end, of a long line the begin."""
    kept: list[str] = []
    room = BATCH_CHARACTERS
    for line in reversed(lines):
        text, bar = decode_bar(line)
        if bar is not None and not text:
            continue
        if len(text) > LINE_CHARACTERS:
            text = f"{text[:LINE_CHARACTERS]}… ({len(text) - LINE_CHARACTERS} characters more)"
        room -= len(text) + 1
        if room < 0:
            break
        kept.append(text)
    return kept[::-1]
