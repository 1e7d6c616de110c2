"""Ray, called as its own microbenchmark calls it."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.drivers import base

with base.Stopwatch() as importing:
    import ray


@ray.remote(num_cpus=0)
class Probe:
    """An actor with next to nothing to do."""

    def __init__(self) -> None:
        self.value = 0

    def tick(self) -> int:
        """Count one call."""
        self.value += 1
        return self.value

    def count(self, limit: int) -> Iterator[int]:
        """Yield the first numbers."""
        for number in range(limit):  # noqa: UP028 - Ray cannot run `yield from` of a range
            yield number

    def pid(self) -> int:
        """Return the id of the actor's process."""
        return os.getpid()


@ray.remote(num_cpus=0)
class AsyncProbe:
    """The same as an async actor."""

    def __init__(self) -> None:
        self.value = 0

    async def tick(self) -> int:
        """Count one call."""
        self.value += 1
        return self.value


@ray.remote
def nothing() -> None:
    """Return at once."""


def create(count: int) -> tuple[Sequence[Any], Sequence[int]]:
    """Create actors and wait for one answer of each."""
    actors = [Probe.remote() for _ in range(count)]
    return actors, ray.get([actor.pid.remote() for actor in actors])


def end(actors: Sequence[Any]) -> None:
    """Kill these actors."""
    for actor in actors:
        ray.kill(actor)


def measures() -> base.Measures:
    """Create one actor to call and return what can be measured."""
    actor, async_actor = Probe.remote(), AsyncProbe.remote()
    crew = base.Crew(create=create, end=end)

    def call_many() -> None:
        ray.get([actor.tick.remote() for _ in range(base.IN_FLIGHT)])

    def call_many_async() -> None:
        ray.get([async_actor.tick.remote() for _ in range(base.IN_FLIGHT)])

    def read_many() -> None:
        for ref in actor.count.remote(base.IN_FLIGHT):
            ray.get(ref)

    def run_many() -> None:
        ray.get([nothing.remote() for _ in range(base.IN_FLIGHT)])

    array = base.large_array()

    def put_and_get() -> None:
        ray.get(ray.put(array))

    return {
        "actor_sync": lambda request: base.rate(lambda: ray.get(actor.tick.remote()), request),
        "actor_async": lambda request: base.rate(call_many, request, calls=base.IN_FLIGHT),
        "async_actor_sync": lambda request: base.rate(
            lambda: ray.get(async_actor.tick.remote()), request
        ),
        "async_actor_async": lambda request: base.rate(
            call_many_async, request, calls=base.IN_FLIGHT
        ),
        "generator_items": lambda request: base.rate(read_many, request, calls=base.IN_FLIGHT),
        "task_sync": lambda request: base.rate(lambda: ray.get(nothing.remote()), request),
        "task_async": lambda request: base.rate(run_many, request, calls=base.IN_FLIGHT),
        "actor_create": crew.creation_rate,
        "actor_memory": crew.memory,
        "actor_end": crew.ending_rate,
        "put_get_100mb": lambda request: base.rate(put_and_get, request),
    }


def init() -> None:
    """Start a Ray of our own, also where another one is running."""
    ray.init("local", num_cpus=base.CPUS, include_dashboard=False, log_to_driver=False)


if __name__ == "__main__":
    base.serve(
        version=ray.__version__,
        import_seconds=importing.seconds,
        init=init,
        measures=measures,
        stop=ray.shutdown,
    )
