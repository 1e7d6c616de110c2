"""Coverage of every process: a plug-in of coverage.py that ``pyproject.toml`` names.

coverage.py itself saves what a process ran when that process ends by itself, by ``os._exit`` or, if
nothing else takes it, by SIGTERM. Most workers end by SIGKILL: ``kill`` sends it, and the kernel
does when a node or a driver dies. So each process below the test run also writes down what is new a
few times in a second; a killed one then loses the last moment at most.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import coverage

PAUSE_SECONDS = 0.1


class _Writer:
    """Writes what one process has run; begins with the first thread of the package.

    Not earlier: the fork server must stay without threads. Not by ``threading``: a test that counts
    threads must not find it.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._forks = 0
        self._lock = threading.Lock()
        self._written = 0
        self._collector: Any = None
        self._write: Callable[[], bool]
        os.register_at_fork(
            before=self._lock.acquire,  # a fork in the middle of a write would copy its locks
            after_in_parent=self._after_in_parent,
            after_in_child=self._after_in_child,
        )

    def begin(self) -> None:
        """Start to write, once in a process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            _thread.start_new_thread(self._serve, ())

    def _serve(self) -> None:
        measured = coverage.Coverage.current()
        if measured is None:
            return
        self._collector = collector = measured._collector
        self._write, self._written = collector.flush_data, 0
        # Other threads go on while a write lasts: what they add must not be cleared unseen.
        collector._clear_data = lambda: None
        collector.flush_data = self.flush
        with contextlib.suppress(Exception):  # the process ends, and coverage.py with it
            while measured._started:
                self.flush()
                time.sleep(PAUSE_SECONDS)

    def flush(self) -> bool:
        """Write, where there is something new."""
        with self._lock:
            found = sum(map(len, list(self._collector.data.values())))
            if found == self._written:
                return False
            self._write()
            self._written = found
            return True

    def _after_in_parent(self) -> None:
        self._forks += 1
        self._lock.release()

    def _after_in_child(self) -> None:
        self._lock.release()
        measured = coverage.Coverage.current()
        if measured is None:
            return
        # It ends by os._exit, which saves; its exit handlers come before that and would stop us.
        atexit.unregister(measured._atexit)
        if self._forks:  # its first sibling writes what the parent has run; once is enough
            for found in list(measured._collector.data.values()):
                found.clear()


def coverage_init(registry: Any, options: Any) -> None:
    """Prepare a process that coverage.py measures; the test run itself ends in good order."""
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:  # not started by a measured process
        return
    writer = _Writer()
    start = threading.Thread.start

    def start_measured(thread: threading.Thread) -> None:
        writer.begin()
        start(thread)

    threading.Thread.start = start_measured
