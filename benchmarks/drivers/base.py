"""What all drivers share: the line protocol, the clock, and a crew of actors to count.

A driver reads one JSON request per line, `{"measure": "actor_sync", "seconds": 2}`, and answers
each with one JSON line: `{"value": 1160.4}`, `{"missing": "why not"}` or `{"error": "..."}`.
Its first line, sent once the system is up, is `{"version": ..., "init": ..., "import": ...}`.
"""

import json
import os
import select
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

CPUS = 2
IN_FLIGHT = 1_000
NODES = 2
WAVES = 10
SETTLE_SECONDS = 0.5
END_TIMEOUT_SECONDS = 60
NO_OBJECT_STORE = "it has no store of objects beside its messages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One measure to take: for how long calls are made, how many actors are created."""

    measure: str
    seconds: float = 2.0
    count: int = 20


Measures = Mapping[str, Callable[[Request], float]]


class Stopwatch:
    """A `with` block whose duration is kept in `seconds`."""

    seconds = 0.0

    def __enter__(self) -> "Stopwatch":
        self.begun = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.begun


def rate(step: Callable[[], object], request: Request, *, calls: int = 1) -> float:
    """Repeat a step for the requested time and return its calls per second.

    Args:
        step: Makes `calls` calls and returns when all of them have been answered.
        request: Says for how long; a warm-up of at most a second comes before, uncounted.
        calls: How many calls one step makes.
    """
    warm = time.perf_counter() + min(1.0, request.seconds / 2)
    while time.perf_counter() < warm:
        step()
    steps = 0
    begun = now = time.perf_counter()
    while now - begun < request.seconds:
        step()
        steps += 1
        now = time.perf_counter()
    return steps * calls / (now - begun)


def share_of(devices: int, count: int) -> float:
    """Return the share of a device with which so many actors use up these devices."""
    return devices / count


def large_array() -> Any:
    """Return a numpy array of 100 MB whose pages are all there."""
    import numpy as np  # only the systems that are asked for arrays need it

    return np.random.default_rng(0).random(12_500_000)


def private_megabytes(pid: int) -> float:
    """Return the memory that only this process holds, clean and dirty, in units of 10^6 bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    pages = (line.split() for line in lines)
    kibibytes = sum(int(row[1]) for row in pages if row[0] in {"Private_Clean:", "Private_Dirty:"})
    return kibibytes * 1024 / 1e6


@dataclass(slots=True, kw_only=True)
class Crew:
    """Some idle actors: the time that creating them takes, their memory, the time to end them.

    Args:
        create: Creates so many actors at once, waits until each has answered one call and
            returns them with the process id of each.
        end: Ends these actors; it need not wait for their processes.
    """

    create: Callable[[int], tuple[Sequence[Any], Sequence[int]]]
    end: Callable[[Sequence[Any]], object]
    handles: Sequence[Any] = field(default=(), init=False)
    pids: Sequence[int] = field(default=(), init=False)

    def creation_rate(self, request: Request) -> float:
        """Return actors created per second, each one created when it has answered one call."""
        self.dismiss()
        with Stopwatch() as creation:
            self.handles, self.pids = self.create(request.count)
        return request.count / creation.seconds

    def memory(self, request: Request) -> float:
        """Return the median private memory of these actors after a moment of rest, in MB."""
        if not self.handles:
            self.handles, self.pids = self.create(request.count)
        time.sleep(SETTLE_SECONDS)
        return statistics.median(private_megabytes(pid) for pid in self.pids)

    def ending_rate(self, request: Request) -> float:
        """Return actors ended per second, each one ended when its process is gone."""
        if not self.handles:
            self.handles, self.pids = self.create(request.count)
        count = len(self.handles)
        with Stopwatch() as ending:
            self.dismiss()
        return count / ending.seconds

    def turnover_rate(self, request: Request) -> float:
        """Return actors created and ended per second, wave after wave, each ended when gone."""
        self.dismiss()
        with Stopwatch() as turnover:
            for _ in range(WAVES):
                self.handles, self.pids = self.create(request.count)
                self.dismiss()
        return WAVES * request.count / turnover.seconds

    def dismiss(self) -> None:
        """End the actors and wait until their processes are gone."""
        processes = [os.pidfd_open(pid) for pid in self.pids]
        try:
            self.end(self.handles)
            deadline = time.monotonic() + END_TIMEOUT_SECONDS
            for process in processes:
                if not select.select([process], [], [], max(0, deadline - time.monotonic()))[0]:
                    raise TimeoutError(f"an actor's process outlived {END_TIMEOUT_SECONDS} s")
        finally:
            for process in processes:
                os.close(process)
        self.handles, self.pids = (), ()


def version_of(distribution: str) -> str:
    """Return the installed version of a distribution, or say that it runs from its sources."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "working tree"


def serve(
    *,
    version: str,
    import_seconds: float,
    init: Callable[[], object],
    measures: Callable[[], Measures],
    stop: Callable[[], object],
    missing: Mapping[str, str] | None = None,
) -> None:
    """Start a system, answer requests until the input ends, and stop the system.

    Args:
        version: The installed version of the system.
        import_seconds: How long importing it took.
        init: Brings the system up; this is what the measure `init` times.
        measures: Creates what the measures need; runs once, after `init`, and is not timed.
        stop: Ends everything that `init` and `measures` started.
        missing: Measures that this system does not have, each with the reason.
    """
    # What a library prints goes to standard error: the replies have standard output to themselves.
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)

    def say(reply: Mapping[str, object]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    with Stopwatch() as starting:
        init()
    try:
        known = measures()
        say({"version": version, "init": starting.seconds, "import": import_seconds})
        for line in requests:
            request = Request(**json.loads(line))
            if reason := (missing or {}).get(request.measure):
                say({"missing": reason})
                continue
            if request.measure not in known:
                say({"missing": "measured for celery_actors and Ray only"})
                continue
            try:
                say({"value": known[request.measure](request)})
            except Exception:  # noqa: BLE001  (whatever goes wrong is the answer)
                say({"error": traceback.format_exc()})
    finally:
        stop()
