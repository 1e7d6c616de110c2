"""What is measured, and the floors that celery_actors has to reach."""

from dataclasses import dataclass

BASE = "ray"
"""The system that all ratios refer to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure that a driver can be asked for, or reports when it starts."""

    name: str
    title: str
    unit: str
    more_is_better: bool = True
    at_start: bool = False


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
    Floor(system="celery_actors", measure="put_get_100mb", least_ratio=1.0),
    Floor(system="celery_actors", measure="init", most=1.5),
    Floor(system="celery_actors_events", measure="actor_sync", least_ratio=1.5),
    Floor(system="celery_actors_events", measure="actor_async", least_ratio=1.5),
)
