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
from typing import Any

import coverage

PAUSE_SECONDS = 0.1


class _Writer:
    """Writes what this process has run; began with the first thread of the package.

    Not earlier: the fork server must stay without threads. Not by ``threading``: a test that counts
    threads must not find it.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.lock = threading.Lock()  # a fork in the middle of a write would copy held locks

    def begin(self) -> None:
        """Start the writer of this process, once."""
        if self.pid != os.getpid():
            self.pid = os.getpid()
            _thread.start_new_thread(self._write, ())

    def _write(self) -> None:
        measured = coverage.Coverage.current()
        collector: Any = measured._collector if measured is not None else None
        if collector is None:
            return
        # Other threads go on while a write lasts: what they add must not be cleared unseen.
        collector._clear_data = lambda: None
        written = 0
        with contextlib.suppress(Exception):  # the process ends, and coverage.py with it
            while measured._started:
                found = sum(map(len, list(collector.data.values())))
                if found != written:
                    with self.lock:
                        collector.flush_data()
                    written = found
                time.sleep(PAUSE_SECONDS)


def _measure_the_exit() -> None:
    """Measure a forked process to its ``os._exit``, which saves, not to its exit handlers only."""
    measured = coverage.Coverage.current()
    if measured is not None:
        atexit.unregister(measured._atexit)


def coverage_init(registry: Any, options: Any) -> None:
    """Prepare a process that coverage.py measures; the test run itself ends in good order."""
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:  # not started by a measured process
        return
    writer = _Writer()
    os.register_at_fork(
        before=writer.lock.acquire,
        after_in_parent=writer.lock.release,
        after_in_child=writer.lock.release,
    )
    os.register_at_fork(after_in_child=_measure_the_exit)
    start = threading.Thread.start

    def start_measured(thread: threading.Thread) -> None:
        writer.begin()
        start(thread)

    threading.Thread.start = start_measured  # type: ignore[method-assign]
