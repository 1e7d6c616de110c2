"""A bar chart of the medians as multiples of Ray's, drawn as a small SVG by hand."""

import math
from collections.abc import Callable
from html import escape

from benchmarks.measures import BASE, MEASURES, Measure
from benchmarks.results import Results
from benchmarks.systems import System

WIDTH = 860
LEFT = 380  # the measures' names are left of it
LABEL = 44  # room for the label of the longest bar, on both sides
BAR = 14
GAP = 18
TOP = 88
COLOURS = {
    "celery_actors": "#1f6f4a",
    "celery_actors_events": "#7fbf9b",
    "celery_actors_durable": "#2f8f9d",
    "celery_actors_nodes": "#4d9a76",
    "ray": "#3b6ea5",
    "ray_nodes": "#3b6ea5",
    "celery": "#b0762b",
    "dask": "#c0504d",
    "xoscar": "#7a5a99",
}


def draw(results: Results, systems: list[System]) -> str:
    """Return the chart: bars start where Ray is, on a logarithmic scale.

    The ratios differ by a factor of a hundred; on this scale twice as fast and half as fast are
    equally long.
    """
    shown = [
        (measure, bars) for measure in MEASURES if (bars := bars_of(results, systems, measure))
    ]
    ratios = [ratio for _, bars in shown for _, ratio in bars]
    low, high = math.log10(min([*ratios, 0.5])), math.log10(max([*ratios, 2.0]))
    room = WIDTH - LEFT - 2 * LABEL

    def x(ratio: float) -> float:
        return LEFT + LABEL + room * (math.log10(ratio) - low) / (high - low)

    parts, y = [], TOP
    for measure, bars in shown:
        note = "" if measure.more_is_better else " (less is better)"
        parts.append(text(LEFT - 10, y + len(bars) * BAR / 2 + 3, measure.title + note, "end"))
        for system, ratio in bars:
            parts += bar(x, ratio, y, COLOURS[system.name])
            y += BAR
        y += GAP
    grid = axis(x, 10**low, 10**high, y)
    return "\n".join([*frame(y), *grid, *legend(systems), *parts, "</svg>"]) + "\n"


def bars_of(
    results: Results, systems: list[System], measure: Measure
) -> list[tuple[System, float]]:
    """Return the bars of one measure, Ray's own left out: it is the line at 1."""
    found = (
        (system, results.ratio(system.name, measure.name))
        for system in systems
        if system.name != measure.base
    )
    return [(system, ratio) for system, ratio in found if ratio]


def bar(x: Callable[[float], float], ratio: float, y: float, colour: str) -> list[str]:
    """Return one bar and its label, which stands at the end away from Ray's line."""
    left, right = sorted((x(ratio), x(1)))
    label = f"{ratio:.2f}x"
    end = (
        text(left - 4, y + 10, label, "end", 10)
        if ratio < 1
        else text(right + 4, y + 10, label, size=10)
    )
    rectangle = (
        f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="{BAR - 2}" '
        f'fill="{colour}"/>'
    )
    return [rectangle, end]


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12) -> str:
    """Return one line of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(words)}</text>"
    )


def frame(height: float) -> list[str]:
    """Return the opening of the picture, its background and its title."""
    size = f'width="{WIDTH}" height="{height + 24:.0f}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 24:.0f}"'
    return [
        f'{opening} {size} font-family="sans-serif" fill="#222">',
        f'<rect {size} fill="#fff"/>',
        text(16, 24, "Medians as multiples of Ray's: same machine, same run", size=15),
    ]


def axis(x: Callable[[float], float], low: float, high: float, height: float) -> list[str]:
    """Return the grid, with a stronger line where Ray is."""
    lines = []
    for ratio in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        if not low <= ratio <= high:
            continue
        colour, width = (COLOURS[BASE], 2) if ratio == 1 else ("#ddd", 1)
        lines.append(
            f'<line x1="{x(ratio):.1f}" x2="{x(ratio):.1f}" y1="{TOP - 8}" y2="{height - 8:.0f}" '
            f'stroke="{colour}" stroke-width="{width}"/>'
        )
        lines.append(text(x(ratio), height + 8, f"{ratio:g}x", "middle", 10))
    return lines


def legend(systems: list[System]) -> list[str]:
    """Return one coloured square with a name per system, in as many lines as they take."""
    parts, left, top = [], 16.0, 42
    for system in systems:
        width = 36 + 6.2 * len(system.title)
        if left + width > WIDTH:
            left, top = 16.0, top + 15
        parts.append(
            f'<rect x="{left:.0f}" y="{top}" width="11" height="11" fill="{COLOURS[system.name]}"/>'
        )
        parts.append(text(left + 16, top + 10, system.title, size=11))
        left += width
    return parts
