"""Records a cluster's calls for ``celery_actors.timeline()``, in the driver, where asked to."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from .errors import ClusterUnreachableError
from .trace_events import Timeline

__all__ = ["VARIABLES", "Recorder", "wanted"]

logger = logging.getLogger(__name__)

VARIABLES = ("CELERY_ACTORS_PROFILING", "RAY_PROFILING")
#: Seconds for which ``init`` waits until events can be heard.
START_SECONDS = 10.0
#: Seconds that the events of a call may be under way.
SETTLE_SECONDS = 0.2


def wanted() -> bool:
    """Tell whether the environment asks for it."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in VARIABLES)


class Recorder:
    """Listens to a cluster's events, in a thread, until it is closed."""

    def __init__(self, app: Any) -> None:
        from .broker.listening import EventListener  # imports Celery, as few drivers need

        self._timeline = Timeline()
        self._listener = EventListener(app, self._timeline.take)
        self._thread = threading.Thread(target=self._run, name="ca-timeline", daemon=True)
        self._thread.start()
        self._listener.listens.wait(START_SECONDS)

    def _run(self) -> None:
        try:
            self._listener.run()
        except ClusterUnreachableError as error:
            logger.warning("the timeline ends here: %s", error)

    def timeline(self, filename: str | os.PathLike[str] | None) -> list[dict[str, Any]] | None:
        """Return the trace events so far, or write them to a file."""
        time.sleep(SETTLE_SECONDS)
        trace = self._timeline.trace()
        if filename is None:
            return trace
        Path(filename).write_text(json.dumps(trace))
        return None

    def close(self) -> None:
        """End the thread; workers send no more events than before it began."""
        self._listener.stop()
        self._thread.join()
