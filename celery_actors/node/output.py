"""What workers print, on its way to the drivers that they work for."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..assignment import TAG, LogBatch
from .console import Console

__all__ = ["Output"]

_TAG = TAG.encode()
_CHUNK = 64 * 1024


class Output:
    """One output pipe of one worker."""

    def __init__(
        self, fd: int, stream: int, label: str, job: str,
        publish: Callable[[str, LogBatch], None], console: Console,
    ) -> None:  # fmt: skip
        os.set_blocking(fd, False)
        self.fd = fd
        self.pid = 0
        self._stream = stream
        self._label, self._job = label, job
        self._publish = publish
        self._console = console
        self._rest = b""

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self.fd

    def pump(self) -> bool:
        """Publish what is there; False at the end of the stream."""
        while True:
            try:
                data = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return True
            if not data:
                self.flush(self._job)
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._take(lines)

    def flush(self, job: str) -> None:
        """Publish an unfinished last line of this driver's: it may be the last."""
        if self._rest and job == self._job:
            rest, self._rest = self._rest, b""
            self._emit([rest])

    def _take(self, lines: list[bytes]) -> None:
        ready: list[bytes] = []
        for line in lines:
            before, mark, tag = line.partition(_TAG)
            if not mark:
                ready.append(line)
                continue
            if before:
                ready.append(before)
            self._emit(ready)
            ready = []
            self._job, _, self._label = tag.decode("utf-8", "replace").partition(":")
        self._emit(ready)

    def _emit(self, lines: list[bytes]) -> None:
        if not lines:
            return
        text = [line.decode("utf-8", "replace") for line in lines]
        alone = not self._job
        seen = self._console.take(self._label, self.pid, self._stream, text, alone=alone)
        self._publish(self._job, LogBatch(self._label, self.pid, self._stream, seen))

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.fd)
