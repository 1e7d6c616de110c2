"""What the store pays: processor time of its one thread for a call, and memory for what waits.

    python -m benchmarks.store                 # some 20 s
    python -m benchmarks.store --calls 20000

Redis and Valkey run commands in one thread, so its time for a call says how many calls one store
can carry, whatever machines the callers and actors are on. Processor time is counted by the server
itself (`INFO cpu`), so other work on the machine changes the figures less than it would a rate.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import celery_actors as ca
from celery_actors import runtime

IN_FLIGHT = 1_000
IDLE_ACTORS = 20
IDLE_SECONDS = 5.0
STATES = (100, 10_000, 100_000)


class Probe:
    """An actor with next to nothing to do, and a state of some size."""

    def __init__(self, size: int = 0) -> None:
        self.value, self.payload = 0, os.urandom(size)

    def tick(self) -> int:
        """Count one call."""
        self.value += 1
        return self.value

    def hold(self) -> None:
        """Stand still for a while, so that calls wait."""
        time.sleep(3)


@ca.remote
def nothing() -> None:
    """Do nothing."""


Actor = ca.remote(num_cpus=0)(Probe)
Durable = ca.remote(num_cpus=0, durable=True)(Probe)


def spent() -> float:
    """Return the seconds that the server's main thread has used."""
    found = runtime.current().store.run("INFO", "cpu")
    return float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"])


def used() -> int:
    """Return the bytes that the server's data takes."""
    return int(runtime.current().store.run("INFO", "memory")["used_memory"])


def one_at_a_time(call: Callable[[], ca.ObjectRef], calls: int) -> None:
    """Make each call when the one before has answered."""
    for _ in range(calls):
        ca.get(call())


def in_flight(call: Callable[[], ca.ObjectRef], calls: int) -> None:
    """Make a thousand calls, then fetch their results, again and again."""
    for _ in range(max(1, calls // IN_FLIGHT)):
        ca.get([call() for _ in range(min(IN_FLIGHT, calls))])


def report_calls(what: str, call: Callable[[], ca.ObjectRef], calls: int) -> None:
    """Print what a call costs the store, in both ways of calling."""
    ca.get(call())
    for way in (one_at_a_time, in_flight):
        before = spent()
        way(call, calls)
        each = (spent() - before) / calls
        name = f"{what}, {way.__name__.replace('_', ' ')}"
        print(f"  {name:46} {1e6 * each:6.0f} µs: up to {1 / each:8,.0f} calls/s")


def report_memory() -> None:
    """Print what an actor and a waiting call take of the store's memory."""
    ca.get(Actor.remote().tick.remote())
    before = used()
    actors = [Actor.remote() for _ in range(IDLE_ACTORS)]
    ca.get([actor.tick.remote() for actor in actors])
    print(f"  an idle actor: {(used() - before) / IDLE_ACTORS:,.0f} bytes")
    before = spent()
    time.sleep(IDLE_SECONDS)
    part = (spent() - before) / IDLE_SECONDS
    print(f"  {IDLE_ACTORS} idle actors and a node: {100 * part:.2f} % of the store's thread")
    actors[0].hold.remote()
    before = used()
    waiting = [actors[0].tick.remote() for _ in range(IN_FLIGHT)]
    runtime.current().calls.settle()
    print(f"  a call that waits: {(used() - before) / IN_FLIGHT:,.0f} bytes")
    ca.get(waiting)


def main() -> None:
    """Measure on a server that keeps no file, then on one that does."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=5_000)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as folder:
        for kind, storage in (("without a file", None), ("with appendonly", Path(folder))):
            with ca.init(num_cpus=2, storage=storage, log_to_driver=False):
                print(f"Processor time of the store's thread for a call, {kind}:")
                report_calls("actor", Actor.remote().tick.remote, calls)
                report_calls("function", nothing.remote, calls)
                for size in STATES:
                    actor = Durable.remote(size)
                    report_calls(f"durable actor, {size:,} bytes", actor.tick.remote, calls // 5)
                if storage is None:
                    print("Memory and idleness:")
                    report_memory()


if __name__ == "__main__":
    main()
