"""The report of one run: for the terminal, as a page, as data and as a chart."""

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks import chart
from benchmarks.measures import BY_NAME, MEASURES, Measure
from benchmarks.results import Results, Verdict
from benchmarks.systems import SYSTEMS, System

PAGE = """\
# Benchmarks

Written by `make bench`, which measures every system on one machine in one run. Each cell holds the
median of {rounds} rounds, their least and greatest value, and the median as a multiple of Ray's.

![Medians as multiples of Ray's](benchmarks.svg)

{table}

## Floors

{floors}

## Machine

{machine}

## How it was measured

Small calls: a method without arguments that counts and returns an integer, a function that returns
`None`. Calls are repeated for {seconds:g} s after a warm-up. *In flight* means that 1,000 calls are
submitted, then all of their results are fetched, again and again. {actors} actors are created at
once; each counts as created when it has answered one call and as ended when its process is gone.
Private memory is what an actor's process alone holds (`Private_Clean` and `Private_Dirty`, in units
of 10⁶ bytes), the median of these actors. Arrays of 100 MB are put and got again in the driver, one
by one. Actors with a share of a device are created ten times {actors} and ended again, each time
so many as use up the devices of both nodes; the time is for all of it. A node's processor time is
that of all of its processes, its commands are those that they send to the store, and both are taken
over some seconds. Init is the time of the call that brings a system up in a fresh process, import
the time of the import before it.

Systems take turns. In each round every system is started alone, measured and stopped, and the order
moves on by one each round: idle processes of one system would otherwise take processor time from
another, and every start is one more sample of init.

{setups}
{gaps}
The samples of all rounds are in [benchmarks.json](benchmarks.json).
"""


def write(
    folder: Path,
    results: Results,
    machine: Mapping[str, object],
    run: Mapping[str, float],
) -> None:
    """Write the page, the data and the chart into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    systems = measured(results)
    page = PAGE.format(
        **run,
        table=table(results, systems),
        floors=floors(results),
        machine=machine_list(machine),
        setups=setups(results, systems),
        gaps=gaps(results, systems),
    )
    (folder / "benchmarks.md").write_text(page)
    (folder / "benchmarks.json").write_text(data(results, systems, machine, run))
    (folder / "benchmarks.svg").write_text(chart.draw(results, systems))


def terminal(results: Results) -> str:
    """Return the medians, the ratios and the floors as plain text."""
    lines = []
    for measure in MEASURES:
        for system in measured(results):
            if text := cell(results, system, measure):
                title = f"{measure.title}, {measure.unit}"
                lines += [f"{title:<42} {system.title:<28} {text}"]
    lines.append("")
    lines.extend(f"{sentence(verdict)}: {outcome(verdict)}" for verdict in results.verdicts())
    return "\n".join(lines)


def measured(results: Results) -> list[System]:
    """Return the systems that have at least one figure."""
    return [system for system in SYSTEMS if results.samples.get(system.name)]


def number(value: float) -> str:
    """Write a figure with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cell(results: Results, system: System, measure: Measure) -> str:
    """Return median, spread and ratio, or nothing where nothing was measured."""
    summary = results.summary(system.name, measure.name)
    if summary is None:
        return ""
    text = f"{number(summary.median)} ({number(summary.low)} to {number(summary.high)})"
    ratio = results.ratio(system.name, measure.name)
    return text if ratio is None or system.name == measure.base else f"{text} · {ratio:.2f}x"


def table(results: Results, systems: list[System]) -> str:
    """Return the table of all figures in Markdown."""
    rows = [["", *(system.title for system in systems)], ["---"] * (len(systems) + 1)]
    for measure in MEASURES:
        cells = [cell(results, system, measure) for system in systems]
        if any(cells):
            direction = "" if measure.more_is_better else ", less is better"
            title = f"{measure.title}, {measure.unit}{direction}"
            rows.append([title, *(text or "-" for text in cells)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def sentence(verdict: Verdict) -> str:
    """Say which floor it is and what was reached."""
    floor = verdict.floor
    measure = BY_NAME[floor.measure]
    events = ", task events on" if floor.system == "celery_actors_events" else ""
    if floor.least_ratio is not None:
        return (
            f"{measure.title}{events}: at least {floor.least_ratio:g}x Ray, "
            f"reached {verdict.reached:.2f}x"
        )
    return (
        f"{measure.title}{events}: at most {floor.most:g} {measure.unit}, "
        f"reached {verdict.reached:.3g} {measure.unit}"
    )


def outcome(verdict: Verdict) -> str:
    """Say whether a floor is held."""
    return "pass" if verdict.passed else "fail"


def floors(results: Results) -> str:
    """Return one line per floor that could be judged."""
    lines = [f"- {sentence(verdict)}: **{outcome(verdict)}**" for verdict in results.verdicts()]
    return "\n".join(lines) or "None could be judged: celery_actors or Ray was not measured."


def machine_list(machine: Mapping[str, object]) -> str:
    """Return the description of the machine as a list."""
    return "\n".join(
        (
            f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB",
            f"- {machine['system']}, Python {machine['python']}",
            f"- {machine['date']}",
            f"- load average {machine['load_before']} before and {machine['load_after']} after",
        )
    )


def setups(results: Results, systems: list[System]) -> str:
    """Return how each system was set up, with its version."""
    return "\n".join(
        f"- {system.title} ({results.versions[system.name]}): {system.setup}" for system in systems
    )


def gaps(results: Results, systems: list[System]) -> str:
    """Return why some cells are empty, and which systems were not measured at all."""
    absent = [system.title for system in SYSTEMS if system not in systems]
    lines = [f"- Not measured in this run: {', '.join(absent)}"] if absent else []
    for system in systems:
        reasons: dict[str, list[str]] = {}
        for measure, reason in results.missing[system.name].items():
            reasons.setdefault(reason, []).append(BY_NAME[measure].title)
        lines += [
            f"- Empty for {system.title} ({', '.join(titles)}): {reason}"
            for reason, titles in reasons.items()
        ]
    return "".join(f"{line}\n" for line in lines)


def data(
    results: Results,
    systems: list[System],
    machine: Mapping[str, object],
    run: Mapping[str, float],
) -> str:
    """Return everything that was measured as JSON."""
    figures: dict[str, dict[str, object]] = {}
    for system in systems:
        for measure, values in results.samples[system.name].items():
            summary = results.summary(system.name, measure)
            ratio = results.ratio(system.name, measure)
            figures.setdefault(system.name, {})[measure] = {
                "unit": BY_NAME[measure].unit,
                "median": summary.median,
                "low": summary.low,
                "high": summary.high,
                "ratio_to_ray": ratio,
                "samples": values,
            }
    verdicts = [
        {
            "system": verdict.floor.system,
            "measure": verdict.floor.measure,
            "least_ratio": verdict.floor.least_ratio,
            "most": verdict.floor.most,
            "reached": verdict.reached,
            "passed": verdict.passed,
        }
        for verdict in results.verdicts()
    ]
    versions = {system.name: results.versions[system.name] for system in systems}
    whole = {
        "machine": machine,
        "run": run,
        "versions": versions,
        "figures": figures,
        "floors": verdicts,
    }
    return json.dumps(whole, indent=2) + "\n"
