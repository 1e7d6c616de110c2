"""Progress bars: what a worker sends, and what a driver shows."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from celery_actors.progress import Bars, BarState, decode_bar, encode_bar


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def state(
    bar: str = "one", count: float = 1, total: float | None = 4, *, closed: bool = False,
    leave: bool = True, desc: str = "load", position: int = 0,
) -> BarState:  # fmt: skip
    return BarState(bar, desc, count, total, "it", 2.0, position, closed=closed, leave=leave)


def test_a_bar_comes_back_from_its_line() -> None:
    sent = encode_bar(state(desc="naïve [bold]\n"))
    assert "\n" not in sent
    assert decode_bar(sent) == ("", state(desc="naïve [bold]\n"))


def test_what_was_printed_before_a_bar_on_its_line_stays_text() -> None:
    assert decode_bar(f"no newline{encode_bar(state())}") == ("no newline", state())


@pytest.mark.parametrize("line", ["", "text", "{}", "\x1ebar:", "\x1ebar:{", "\x1ebar:[1]"])
def test_other_lines_are_text(line: str) -> None:
    assert decode_bar(line) == (line, None)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (state(count=1, total=4), "load: 25% 1/4 it [2.0 s, 0.5 it/s]"),
        (state(count=3, total=None), "load: 3 it [2.0 s, 1.5 it/s]"),
        (state(count=0, total=0, desc=""), "0 it [2.0 s, 0 it/s]"),
        (BarState("b", "", 2, 4, "rows", 0.0, postfix="loss=1"), "50% 2/4 rows [0.0 s] loss=1"),
    ],
)
def test_a_bar_as_a_line(shown: BarState, text: str) -> None:
    assert shown.text() == text


def test_without_a_terminal_a_bar_is_a_line_now_and_then_and_at_its_end() -> None:
    file, clock = io.StringIO(), Clock()
    bars = Bars(lambda: file, clock)
    for second in range(12):
        clock.now = second
        bars.show(state(count=second, total=12), "(W pid=1) ")
    bars.show(state(count=12, total=12, closed=True), "(W pid=1) ")
    assert [line.split(" it ")[0] for line in file.getvalue().splitlines()] == [
        "(W pid=1) load: 42% 5/12", "(W pid=1) load: 83% 10/12", "(W pid=1) load: 100% 12/12",
    ]  # fmt: skip


def test_a_bar_that_does_not_stay_says_nothing_at_its_end() -> None:
    for file in (io.StringIO(), Screen()):
        bars = Bars(lambda file=file: file, Clock())  # type: ignore[misc] # bound now, per file
        bars.show(state(leave=False, closed=True))
        assert "load" not in file.getvalue()


def test_on_a_terminal_every_open_bar_is_drawn_in_place_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    screen = Screen()
    bars = Bars(lambda: screen, Clock())
    try:
        bars.show(state("b", desc="second", position=1))
        bars.show(state("a", desc="first"))
        bars.show(state("a", count=4, desc="first [x]"))
        drawn = _last_frame(bars)
        assert [line.split()[0] for line in drawn] == ["first", "second"]
        assert "100% 4/4 it" in drawn[0]
        assert "first [x]" in drawn[0]
        assert " 25% 1/4 it" in drawn[1]
    finally:
        bars.close()


def test_on_a_terminal_a_closed_bar_leaves_its_last_figures_and_the_screen() -> None:
    screen = Screen()
    bars = Bars(lambda: screen, Clock())
    bars.show(state(count=2))
    bars.show(state(count=4, closed=True), "(W pid=[1]) ")
    assert bars._live is None
    assert "(W pid=[1]) load: 100% 4/4 it [2.0 s, 2 it/s]\n" in screen.getvalue()


def test_the_end_of_the_cluster_takes_bars_away_that_nobody_closed() -> None:
    screen = Screen()
    bars = Bars(lambda: screen, Clock())
    bars.show(state())
    bars.close()
    assert bars._live is None
    bars.close()


def test_a_safe_print_keeps_its_stream_and_comes_between_two_drawings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, screen = io.StringIO(), Screen()
    monkeypatch.setattr(sys, "stdout", out)
    bars = Bars(lambda: screen, Clock())
    bars.print("before")
    bars.show(state())
    bars.print("a", 1, sep="-", end="!\n", flush=True)
    assert bars._live is not None
    bars.print("elsewhere", file=screen)
    bars.close()
    assert out.getvalue() == "before\na-1!\n"
    assert "elsewhere\n" in screen.getvalue()


def _last_frame(bars: Bars) -> list[str]:
    """Return the lines that a terminal shows now."""
    assert bars._live is not None
    page = Console(file=io.StringIO(), width=100)
    with page.capture() as capture:
        page.print(bars._live.get_renderable())
    return [line for line in capture.get().splitlines() if line.strip()]
