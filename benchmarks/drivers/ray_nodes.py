"""Ray on two nodes with one logical GPU each, all on this machine."""

import os
from collections.abc import Sequence
from typing import Any

from benchmarks.drivers import base

with base.Stopwatch() as importing:
    import ray
    from ray.cluster_utils import Cluster


@ray.remote(num_cpus=0)
class Probe:
    """An actor with next to nothing to do."""

    def pid(self) -> int:
        """Return the id of the actor's process."""
        return os.getpid()


def create(count: int) -> tuple[Sequence[Any], Sequence[int]]:
    """Create so many actors that they use up both GPUs and wait for one answer of each."""
    share = base.share_of(base.NODES, count)
    actors = [Probe.options(num_gpus=share).remote() for _ in range(count)]
    return actors, ray.get([actor.pid.remote() for actor in actors])


def end(actors: Sequence[Any]) -> None:
    """Kill these actors."""
    for actor in actors:
        ray.kill(actor)


class System:
    """A cluster of two nodes."""

    cluster: Cluster

    def init(self) -> None:
        """Start both nodes and wait until both are there."""
        has = {"num_cpus": base.CPUS, "num_gpus": 1}
        head = {**has, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.cluster.add_node(**has)
        self.cluster.wait_for_nodes()
        ray.init(self.cluster.address, log_to_driver=False)

    def measures(self) -> base.Measures:
        """Return what can be measured."""
        crew = base.Crew(create=create, end=end)
        return {"device_actors": crew.turnover_rate}

    def stop(self) -> None:
        """Leave the cluster and end its nodes."""
        ray.shutdown()
        self.cluster.shutdown()


if __name__ == "__main__":
    system = System()
    base.serve(
        version=ray.__version__,
        import_seconds=importing.seconds,
        init=system.init,
        measures=system.measures,
        stop=system.stop,
    )
