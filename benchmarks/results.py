"""The samples of one run, their medians and ratios, and what they say about the floors."""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field

from benchmarks.measures import BY_NAME, FLOORS, Floor


@dataclass(frozen=True, slots=True)
class Summary:
    """One cell of the table: the median of some rounds and how far they were apart."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One floor, what was reached (a multiple of Ray's, or a figure), and whether it is enough."""

    floor: Floor
    reached: float
    passed: bool


@dataclass(slots=True)
class Results:
    """What one run has found, by system and measure."""

    samples: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, system: str, measure: str, value: float) -> None:
        """Keep the value of one round."""
        self.samples[system][measure].append(value)

    def summary(self, system: str, measure: str) -> Summary | None:
        """Return the median and the spread, or None where nothing was measured."""
        values = self.samples.get(system, {}).get(measure)
        return Summary(statistics.median(values), min(values), max(values)) if values else None

    def ratio(self, system: str, measure: str) -> float | None:
        """Return this system's median as a multiple of Ray's, or None where one is lacking."""
        mine = self.summary(system, measure)
        base = self.summary(BY_NAME[measure].base, measure)
        return mine.median / base.median if mine and base else None

    def verdicts(self) -> list[Verdict]:
        """Hold the floors against what was measured; a floor without figures is left out."""
        found = []
        for floor in FLOORS:
            if floor.least_ratio is not None:
                ratio = self.ratio(floor.system, floor.measure)
                if ratio is not None:
                    found.append(Verdict(floor, ratio, ratio >= floor.least_ratio))
            else:
                summary = self.summary(floor.system, floor.measure)
                if summary is not None:
                    found.append(Verdict(floor, summary.median, summary.median <= floor.most))
        return found
