"""What a driver shows of its workers' output: lines with a prefix, repetitions told, bars drawn."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable

from .assignment import LogBatch
from .log_dedup import DedupSettings, Line, LogDeduplicator
from .progress import bars, decode_bar

__all__ = ["DriverOutput"]


class DriverOutput:
    """Takes the workers' output in, from any thread, and prints it where the driver prints now."""

    def __init__(self) -> None:
        self._dedup = LogDeduplicator(DedupSettings.from_environment(os.environ), time.monotonic)
        self._lock = threading.RLock()  # batches, ticks and the end come from different threads

    def take(self, batch: LogBatch) -> None:
        """Print a batch, but for what others have said already."""
        lines: list[Line] = []
        for text in batch.lines:
            before, bar = decode_bar(text)
            if bar is not None:
                bars().show(bar, f"({batch.label} pid={batch.pid}) ")
            if before or bar is None:
                lines.append(Line(batch.label, batch.pid, batch.node, batch.stream, before))
        with self._lock:
            _print(self._dedup.take(lines))

    def tick(self) -> None:
        """Print what has been held back for long enough."""
        with self._lock:
            _print(self._dedup.due())

    def close(self) -> None:
        """Print everything that was held back, and take the bars away."""
        with self._lock:
            _print(self._dedup.flush())
        bars().close()


def _print(lines: Iterable[Line]) -> None:
    written = set()
    for line in lines:
        stream = sys.stdout if line.stream == 1 else sys.stderr
        stream.write(f"({line.label} pid={line.pid}) {line.text}\n")
        written.add(stream)
    for stream in written:
        stream.flush()
