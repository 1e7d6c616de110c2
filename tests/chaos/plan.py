"""Which faults a chaos run meets and when: drawn from its seed alone."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["FAULTS", "Fault", "plan"]


class Fault(NamedTuple):
    """One fault: when (seconds from the start), for how long, and a number that picks whom."""

    at: float
    kind: str
    seconds: float
    number: int


class Sort(NamedTuple):
    """One sort of fault: its weight among those of its stream, and how many seconds it lasts."""

    weight: float
    least: float = 0.0
    most: float = 0.0
    needs_network: bool = False


#: Streams of faults, with the mean of the seconds between two of each. Streams overlap; within one
#: that lasts, the next fault comes after the end of the one before: some nodes always go on.
FAULTS = {
    ("actors", 0.43): {
        "actor killed": Sort(7),
        "actor paused": Sort(3, 0.1, 2.0),
    },
    ("connections", 2.0): {
        "connections cut": Sort(5),
        "scripts flushed": Sort(1),
    },
    ("store", 8.0): {
        "store killed": Sort(3, 0.0, 1.5),
        "store paused": Sort(2, 0.2, 2.5),
        "store stalled": Sort(3, 0.1, 1.0),
    },
    ("nodes", 14.0): {
        "node killed": Sort(3, 0.2, 3.0),
        "fork server killed": Sort(1, 0.2, 1.0),
        "node paused": Sort(3, 0.5, 6.0),
        "cut off both ways": Sort(3, 1.0, 6.0, needs_network=True),
        "cut off deaf": Sort(2, 1.0, 6.0, needs_network=True),
        "cut off mute": Sort(2, 1.0, 6.0, needs_network=True),
    },
}


def plan(seed: int, seconds: float, *, with_network: bool) -> Iterator[Fault]:
    """Draw the faults of a run, by time: the same ones from the same seed."""
    streams = (
        _stream(random.Random(f"{seed} {name}"), seconds, pause, {
            kind: sort for kind, sort in sorts.items() if with_network or not sort.needs_network
        })
        for (name, pause), sorts in FAULTS.items()
    )  # fmt: skip
    yield from heapq.merge(*streams)


def _stream(
    draw: random.Random, seconds: float, pause: float, sorts: dict[str, Sort]
) -> Iterator[Fault]:
    at = draw.expovariate(1 / pause)
    while at < seconds:
        kind = draw.choices([*sorts], [sort.weight for sort in sorts.values()])[0]
        sort = sorts[kind]
        lasts = draw.uniform(sort.least, sort.most)
        yield Fault(at, kind, lasts, draw.randrange(2**31))
        waits = lasts if pause > 1 else 0.0  # those of actors meet different ones
        at += waits + draw.expovariate(1 / pause)
