"""Progress bars of a whole cluster: what a bar says, and how a driver shows them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from .unreadable import UNREADABLE

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["BarState", "Bars", "bars", "decode_bar", "encode_bar"]

#: Begins, on a worker's standard output, a line that is the state of a bar.
_MARK = "\x1ebar:"
#: Seconds between two lines about a bar where the output is not a terminal.
_LINE_SECONDS = 5.0


class BarState(msgspec.Struct):
    """One bar at one moment."""

    bar: str  # unique in the cluster
    desc: str
    count: float
    total: float | None
    unit: str
    seconds: float  # since the bar began
    position: int = 0
    postfix: str = ""
    leave: bool = True  # keep the finished bar in sight
    closed: bool = False

    def text(self) -> str:
        """Return the bar as one line without a bar."""
        count = f"{self.count:g}"
        if self.total:
            count = f"{self.count / self.total:.0%} {count}/{self.total:g}"
        rate = f", {self.count / self.seconds:.3g} {self.unit}/s" if self.seconds > 0 else ""
        head = f"{self.desc}: " if self.desc else ""
        tail = f" {self.postfix}" if self.postfix else ""
        return f"{head}{count} {self.unit} [{self.seconds:.1f} s{rate}]{tail}"


def encode_bar(state: BarState) -> str:
    """Return the line that carries a bar to the driver."""
    return _MARK + msgspec.json.encode(state).decode()


def decode_bar(line: str) -> tuple[str, BarState | None]:
    """Return what stands before a bar in a line, and the bar; None where there is none."""
    before, mark, raw = line.partition(_MARK)
    if not mark:
        return line, None
    try:
        return before, msgspec.json.decode(raw, type=BarState)
    except UNREADABLE:  # the user's own text looks like one, or it was cut off
        return line, None


class Bars:
    """The bars of this process's cluster: live on a terminal, now and then a line elsewhere.

    Args:
        file: returns the stream to show them on, when it is needed.
        clock: returns seconds, as ``time.monotonic``.
    """

    def __init__(self, file: Callable[[], TextIO], clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.RLock()
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._lines: dict[str, float] = {}  # bar -> when to write the next line about it

    def show(self, state: BarState, prefix: str = "") -> None:
        """Bring a bar up to date; ``prefix`` says which worker's it is."""
        with self._lock:
            if self._file().isatty():
                self._show_live(state, prefix)
            else:
                self._show_line(state, prefix)

    def print(self, *values: Any, sep: str = " ", end: str = "\n", file: TextIO | None = None,
              flush: bool = False) -> None:  # fmt: skip
        """Print as the built-in does, above the live bars."""
        with self._lock:
            live = self._live
            if live is not None:
                live.stop()
            try:
                target = file or sys.stdout
                target.write(sep.join(map(str, values)) + end)
                if flush:
                    target.flush()
            finally:
                if live is not None:
                    live.start()

    def close(self) -> None:
        """Take every bar away: those who drew them are gone."""
        with self._lock:
            self._tasks.clear()
            self._lines.clear()
            self._stop_live()

    def _show_line(self, state: BarState, prefix: str) -> None:
        now = self._clock()
        due = self._lines.setdefault(state.bar, now + _LINE_SECONDS)
        if state.closed:
            del self._lines[state.bar]
        elif now >= due:
            self._lines[state.bar] = now + _LINE_SECONDS
        if state.leave if state.closed else now >= due:
            self._file().write(f"{prefix}{state.text()}\n")
            self._file().flush()

    def _show_live(self, state: BarState, prefix: str) -> None:
        live = self._live or self._start_live()
        task = self._tasks.get(state.bar)
        if state.closed:
            if task is not None:
                live.remove_task(self._tasks.pop(state.bar))
            if state.leave:
                live.console.print(f"{prefix}{state.text()}", markup=False, highlight=False)
            if not self._tasks:
                self._stop_live()
            return
        total = "" if state.total is None else f"/{state.total:g}"
        figures: dict[str, Any] = {
            "description": f"{prefix}{state.desc}",
            "total": state.total,
            "completed": state.count,
            "detail": f"{state.count:g}{total} {state.unit} {state.postfix}",
            "place": (prefix, state.position),
        }
        if task is None:
            self._tasks[state.bar] = live.add_task(**figures)
        else:
            live.update(task, **figures)

    def _start_live(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        class Ordered(Progress):
            def get_renderables(self) -> Any:
                in_order = sorted(self.tasks, key=lambda task: task.fields["place"])
                yield self.make_tasks_table(in_order)

        self._live = Ordered(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=Console(file=self._file()),
            transient=True,
            # A print must not leave its stream: it is led around the bars only where it goes to a
            # terminal, too.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start()
        return self._live

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


_bars = Bars(lambda: sys.stderr, time.monotonic)


def bars() -> Bars:
    """Return the bars of this process, on its standard error: a process has one terminal."""
    return _bars
