"""The chart of the benchmarks: every system that can be measured has its bars."""

from __future__ import annotations

from benchmarks import chart
from benchmarks.measures import MEASURES
from benchmarks.results import Results
from benchmarks.systems import SYSTEMS


def test_every_system_has_a_bar_in_its_colour() -> None:
    results = Results()
    for system in SYSTEMS:
        for measure in MEASURES:
            results.add(system.name, measure.name, 2.0)

    drawn = chart.draw(results, list(SYSTEMS))

    for system in SYSTEMS:
        assert chart.COLOURS[system.name] in drawn, system.name
        assert system.title.split(",")[0] in drawn
