"""xoscar: the caller awaits its calls in its own event loop, the actor is in a sub-process."""

import asyncio
import time
from typing import Any

from benchmarks.drivers import base

with base.Stopwatch() as importing:
    import xoscar


class Probe(xoscar.Actor):
    """An actor with next to nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def tick(self) -> int:
        """Count one call."""
        self.value += 1
        return self.value


class System:
    """The pool and the loop that it lives in."""

    pool: Any

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def init(self) -> None:
        """Start the pool: the main one in this process, two sub-processes."""
        self.pool = self.loop.run_until_complete(
            xoscar.create_actor_pool("127.0.0.1", n_process=base.CPUS)
        )

    def stop(self) -> None:
        """End the pool's processes."""
        self.loop.run_until_complete(self.pool.stop())

    def measures(self) -> base.Measures:
        """Create one actor in a sub-process and return what can be measured."""
        actor = self.loop.run_until_complete(
            xoscar.create_actor(
                Probe,
                address=self.pool.external_address,
                allocate_strategy=xoscar.allocate_strategy.ProcessIndex(1),
            )
        )

        async def call_many() -> None:
            await asyncio.gather(*[actor.tick() for _ in range(base.IN_FLIGHT)])

        return {
            "actor_sync": lambda request: self.rate(actor.tick, request),
            "actor_async": lambda request: self.rate(call_many, request, calls=base.IN_FLIGHT),
        }

    def rate(self, step: Any, request: base.Request, *, calls: int = 1) -> float:
        """Do what `base.rate` does inside the loop, so that entering it costs no call anything."""

        async def repeat() -> float:
            warm = time.perf_counter() + min(1.0, request.seconds / 2)
            while time.perf_counter() < warm:
                await step()
            steps = 0
            begun = now = time.perf_counter()
            while now - begun < request.seconds:
                await step()
                steps += 1
                now = time.perf_counter()
            return steps * calls / (now - begun)

        return self.loop.run_until_complete(repeat())


SHARED = "xoscar's actors share the processes of a pool, so none is started or ended per actor"

if __name__ == "__main__":
    system = System()
    base.serve(
        version=base.version_of("xoscar"),
        import_seconds=importing.seconds,
        init=system.init,
        measures=system.measures,
        stop=system.stop,
        missing={
            **dict.fromkeys(("task_sync", "task_async"), "xoscar has no function tasks"),
            **dict.fromkeys(("actor_create", "actor_end", "actor_memory"), SHARED),
            "put_get_100mb": base.NO_OBJECT_STORE,
        },
    )
