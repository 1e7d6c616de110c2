"""What a long wait looks after meanwhile, beside the thread that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Watchdog"]


class Watchdog:
    """Looks whether anybody is left to end one wait.

    In a thread of its own: a store that stands still would hold up the wait beyond its time.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def look(self) -> None:
        """Begin to look, unless the last look still lasts.

        Raises:
            ClusterUnreachableError: the last look found no store.
        """
        if self._error is not None:
            raise self._error
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="ca-watchdog", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - raised where somebody waits
            self._error = error
