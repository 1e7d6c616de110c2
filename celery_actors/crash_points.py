"""Named places at which a process kills itself, for tests: ``CELERY_ACTORS_CRASH_AT``.

``send:before:17`` kills a process when it is about to send its seventeenth commit,
``send:after:17`` when it has sent it; several such words are separated by commas. Behind a third
colon may stand a path: then each process name crashes there once only, and leaves an empty file
``<path>-<process name>``.

Where the variable is not set, nothing here touches anything: a place is a method, and only a node
that is told to crash wraps one, before it forks.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ConfigurationError

__all__ = ["MOMENTS", "POINTS", "VARIABLE", "install"]

VARIABLE = "CELERY_ACTORS_CRASH_AT"
MOMENTS = ("before", "after")
#: Each place by its name: a module of this package, and what it holds.
POINTS = {
    # a worker, from its start to its end
    "set-up": "host_process:HostProcess.set_up",
    "create": "worker:_Hosted.create",
    "load-state": "worker:_Hosted._load_state",
    "ready": "worker:_Hosted.ready",
    "peek": "mailbox:Mailbox.peek",
    "mark": "mailbox:Mailbox._mark_begun",
    "start": "host_process:HostProcess.started",
    "run": "executor:Executor.run",
    "finish": "loop:Loop._finish",
    "outbox": "calls:Calls.settle",
    "state": "durable_loop:DurableLoop._durable",
    "send": "mailbox:Mailbox._send",
    "reply": "mailbox:Mailbox._take",
    "clear": "loop:Loop._clear",
    "park": "mailbox:Mailbox.park",
    "start-aside": "actor_loop:Aside.start",
    "settle-aside": "actor_loop:Aside.settle",
    "take": "inflight:InFlight.turn",
    "begin": "inflight:InFlight.begin",
    "step": "durability:_Steps.keep",
    "close": "mailbox:Mailbox.close",
    # the node
    "claim": "store.scripts:Scripts.claim",
    "launch": "node.supervisor:launch",
    "release": "store.scripts:Scripts.release",
    "reap": "directory:reap",
    "tick": "store.scripts:Scripts.tick",
    "take-over": "node.supervisor:node_lost",
}


class _Crash(NamedTuple):
    """Where and when to crash."""

    point: str
    moment: str
    number: int
    once: str

    @classmethod
    def parse(cls, text: str) -> _Crash:
        point, moment, number, once = [*text.split(":", 3), "", "", ""][:4]
        if point not in POINTS or moment not in MOMENTS or not number.isdigit():
            raise ConfigurationError(
                f"{VARIABLE}: {text} names no place. Write point:before:number or "
                f"point:after:number, with one of these points: {', '.join(POINTS)}"
            )
        return cls(point, moment, int(number), once)


def install() -> None:
    """Arm the points that the variable names, in this process and what it forks.

    Raises:
        ConfigurationError: it names something else.
    """
    for crash in [_Crash.parse(text) for text in os.environ.get(VARIABLE, "").split(",") if text]:
        module, _, path = POINTS[crash.point].partition(":")
        holder: Any = importlib.import_module(f"{__package__}.{module}")
        *names, name = path.split(".")
        for each in names:
            holder = getattr(holder, each)
        setattr(holder, name, _wrapped(getattr(holder, name), crash))


def _wrapped(function: Callable[..., Any], crash: _Crash) -> Callable[..., Any]:
    passed = 0

    def at(moment: str) -> None:
        nonlocal passed
        if moment == crash.moment:
            passed += 1
            if passed == crash.number and _first(crash.once):
                os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(function)
    def crossing(*args: Any, **kwargs: Any) -> Any:
        at("before")
        result = function(*args, **kwargs)
        at("after")
        return result

    return crossing


def _first(once: str) -> bool:
    """Tell whether no process of this name has crashed here yet."""
    if not once:
        return True
    name = Path("/proc/self/comm").read_text().strip()
    try:
        os.close(os.open(f"{once}-{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
