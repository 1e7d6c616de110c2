"""What a node does with its workers' output: it tells their drivers, and the store keeps the end.

One step per batch that was read from a pipe, and none where nobody prints.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Sequence

import msgspec

from .. import routing
from ..assignment import Assignment, LogBatch
from ..errors import StoreFullError
from ..log_format import TextFormatter
from ..progress import decode_bar
from ..store import Store
from ..tokens import REMEMBER_SECONDS

__all__ = ["Printed"]

#: What is kept of one log at least, where there is as much; a batch more at most.
KEEP_LINES, KEEP_BYTES = 1_000, 192 * 1024
#: Of one batch, and of one line in it: characters beyond are not kept.
BATCH_CHARACTERS, LINE_CHARACTERS = 48 * 1024, 8 * 1024
#: Messages of the node's own that wait for its next tick.
OWN_MESSAGES = 200


class Printed:
    """The way of lines to drivers and into logs: actors have their own, functions the node's."""

    def __init__(self, store: Store, node_id: str, host: str, secrets: Sequence[str] = ()) -> None:
        self._store = store
        self._node_id = node_id
        self._host = host
        self.own = OwnMessages(secrets)

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

    def flush_own(self) -> None:
        """Put what the node itself has logged into its log.

        Raises:
            ClusterUnreachableError, StoreError: it is lost.
        """
        if self.own.lines:
            batch = LogBatch("supervisor", os.getpid(), 2, list(self.own.lines), self._host)
            self.own.lines.clear()
            kept = msgspec.json.encode(batch)
            self._store.scripts.keep_lines(
                [routing.node_log_key(self._node_id), ""], "", kept, "", len(batch.lines),
                len(kept), KEEP_LINES, KEEP_BYTES, REMEMBER_SECONDS,
            )  # fmt: skip

    def _publish(self, channel: str, told: bytes) -> None:
        if channel:
            self._store.run("PUBLISH", channel, told)


class OwnMessages(logging.Handler):
    """Keeps what the node logs until its next tick; of more than there is room for the newest."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=OWN_MESSAGES)
        self.setFormatter(TextFormatter(secrets))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.lines.extend(self.format(record).splitlines())


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
