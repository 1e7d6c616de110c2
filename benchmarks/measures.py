"""What is measured, and the floors that celery_actors has to reach."""

from dataclasses import dataclass

BASE = "ray"
"""The system that ratios refer to, unless a measure says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure that a driver can be asked for, or reports when it starts."""

    name: str
    title: str
    unit: str
    more_is_better: bool = True
    at_start: bool = False
    base: str = BASE


MEASURES = (
    Measure(name="actor_sync", title="actor calls, one at a time", unit="calls/s"),
    Measure(name="actor_async", title="actor calls, 1,000 in flight", unit="calls/s"),
    Measure(
        name="async_actor_sync", title="calls of an async actor, one at a time", unit="calls/s"
    ),
    Measure(
        name="async_actor_async", title="calls of an async actor, 1,000 in flight", unit="calls/s"
    ),
    Measure(name="generator_items", title="items of a streaming generator", unit="items/s"),
    Measure(name="task_sync", title="function tasks, one at a time", unit="calls/s"),
    Measure(name="task_async", title="function tasks, 1,000 in flight", unit="calls/s"),
    Measure(name="actor_create", title="actors created", unit="actors/s"),
    Measure(
        name="actor_memory",
        title="private memory of an idle actor",
        unit="MB",
        more_is_better=False,
    ),
    Measure(name="actor_end", title="actors ended", unit="actors/s"),
    Measure(name="put_get_100mb", title="arrays of 100 MB put and got", unit="arrays/s"),
    Measure(
        name="device_actors",
        title="actors with a share of a device created and ended, two nodes",
        unit="actors/s",
        base="ray_nodes",
    ),
    Measure(
        name="idle_cpu",
        title="processor time of an idle node",
        unit="% of a core",
        more_is_better=False,
    ),
    Measure(
        name="idle_commands",
        title="commands to the store of an idle node, per queue that it consumes",
        unit="commands/s",
        more_is_better=False,
    ),
    Measure(
        name="waiting_cpu",
        title="processor time of a node while 1,000 calls wait for devices",
        unit="% of a core",
        more_is_better=False,
    ),
    Measure(
        name="waiting_commands",
        title="commands to the store while 1,000 calls wait for devices, per queue",
        unit="commands/s",
        more_is_better=False,
    ),
    Measure(
        name="join",
        title="a waiting call on a node that joins, from its entry in the list of nodes",
        unit="s",
        more_is_better=False,
    ),
    Measure(
        name="recovery",
        title="kill -9 of an actor to its next committed call, median of 200",
        unit="ms",
        more_is_better=False,
    ),
    Measure(
        name="recovery_p99",
        title="kill -9 of an actor to its next committed call, 99 % of 200",
        unit="ms",
        more_is_better=False,
    ),
    Measure(
        name="node_recovery",
        title="kill -9 of a node to a call of its actor elsewhere, longest of 3",
        unit="s",
        more_is_better=False,
    ),
    Measure(name="init", title="cold init", unit="s", more_is_better=False, at_start=True),
    Measure(name="import", title="import", unit="s", more_is_better=False, at_start=True),
)

BY_NAME = {measure.name: measure for measure in MEASURES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A bound on one figure: a least multiple of Ray's, or a most in the figure's own unit."""

    system: str
    measure: str
    least_ratio: float | None = None
    most: float | None = None


FLOORS = (
    Floor(system="celery_actors", measure="actor_sync", least_ratio=2.5),
    Floor(system="celery_actors", measure="actor_async", least_ratio=3.5),
    Floor(system="celery_actors", measure="async_actor_sync", least_ratio=1.5),
    Floor(system="celery_actors", measure="async_actor_async", least_ratio=1.5),
    Floor(system="celery_actors", measure="generator_items", least_ratio=1.5),
    Floor(system="celery_actors", measure="task_sync", least_ratio=4.0),
    Floor(system="celery_actors", measure="task_async", least_ratio=4.0),
    Floor(system="celery_actors", measure="actor_create", least_ratio=7.0),
    Floor(system="celery_actors", measure="actor_memory", most=18.0),
    Floor(system="celery_actors_nodes", measure="device_actors", least_ratio=7.0),
    Floor(system="celery_actors_nodes", measure="idle_cpu", most=1.0),
    Floor(system="celery_actors_nodes", measure="idle_commands", most=2.0),
    Floor(system="celery_actors_nodes", measure="waiting_cpu", most=1.0),
    Floor(system="celery_actors_nodes", measure="waiting_commands", most=2.0),
    Floor(system="celery_actors_nodes", measure="join", most=1.0),
    Floor(system="celery_actors", measure="put_get_100mb", least_ratio=1.0),
    Floor(system="celery_actors", measure="init", most=1.5),
    Floor(system="celery_actors_durable", measure="actor_sync", least_ratio=1.0),
    Floor(system="celery_actors_durable", measure="actor_async", least_ratio=2.0),
    Floor(system="celery_actors_durable", measure="recovery", most=50.0),
    Floor(system="celery_actors_durable", measure="recovery_p99", most=1000.0),
    Floor(system="celery_actors_durable", measure="node_recovery", most=5.0),
    Floor(system="celery_actors_events", measure="actor_sync", least_ratio=1.5),
    Floor(system="celery_actors_events", measure="actor_async", least_ratio=1.5),
)
