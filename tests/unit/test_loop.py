from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from celery_actors.loop import Loop


class Told(Loop):
    """A loop that is told to stop while it looks around."""

    def _woken(self) -> None:
        self._host.stopping = True


def test_a_process_that_is_told_to_stop_while_it_looks_around_waits_for_no_call() -> None:
    peeks: list[str] = []
    host: Any = SimpleNamespace(stopping=False, awakened=True, clear_wakeups=lambda: None)
    mailbox: Any = SimpleNamespace(peeking=False, backlog=False, peek=lambda: peeks.append("peek"))
    runtime: Any = SimpleNamespace(results=SimpleNamespace(blocking=None))

    executor: Any = None

    Told(runtime, mailbox, executor, host).run()

    assert peeks == []
