"""Dask actors and functions on a local cluster of two worker processes."""

from typing import Any

from benchmarks.drivers import base

with base.Stopwatch() as importing:
    import distributed


class Probe:
    """An actor with next to nothing to do."""

    def __init__(self) -> None:
        self.value = 0

    def tick(self) -> int:
        """Count one call."""
        self.value += 1
        return self.value


def nothing() -> None:
    """Return at once."""


class System:
    """The cluster and its client, once they are up."""

    cluster: Any
    client: Any

    def init(self) -> None:
        """Start the scheduler, the workers and a client."""
        self.cluster = distributed.LocalCluster(
            n_workers=base.CPUS, threads_per_worker=1, processes=True, dashboard_address=None
        )
        self.client = distributed.Client(self.cluster)

    def stop(self) -> None:
        """Close the client and end the cluster."""
        self.client.close()
        self.cluster.close()

    def measures(self) -> base.Measures:
        """Create one actor to call and return what can be measured."""
        client = self.client
        actor = client.submit(Probe, actor=True).result()

        def run_one() -> None:
            client.submit(nothing, pure=False).result()

        def call_many() -> None:
            for answer in [actor.tick() for _ in range(base.IN_FLIGHT)]:
                answer.result()

        def run_many() -> None:
            client.gather([client.submit(nothing, pure=False) for _ in range(base.IN_FLIGHT)])

        return {
            "actor_sync": lambda request: base.rate(lambda: actor.tick().result(), request),
            "actor_async": lambda request: base.rate(call_many, request, calls=base.IN_FLIGHT),
            "task_sync": lambda request: base.rate(run_one, request),
            "task_async": lambda request: base.rate(run_many, request, calls=base.IN_FLIGHT),
        }


SHARED = "Dask's actors share the process of a worker, so none is started or ended per actor"

if __name__ == "__main__":
    system = System()
    base.serve(
        version=distributed.__version__,
        import_seconds=importing.seconds,
        init=system.init,
        measures=system.measures,
        stop=system.stop,
        missing={
            **dict.fromkeys(("actor_create", "actor_end", "actor_memory"), SHARED),
            "put_get_100mb": base.NO_OBJECT_STORE,
        },
    )
