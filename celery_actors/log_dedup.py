"""Which lines of the workers' output a driver prints when many processes say the same.

Two lines have the same pattern if they differ only in words that hold a digit. The first line of a
pattern is printed at once, and so is whatever the process that said it goes on to say. Once another
process repeats the pattern, repetitions are counted, and told together when the window is over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .errors import ConfigurationError

__all__ = ["DedupSettings", "Line", "LogDeduplicator"]

_WINDOW_SECONDS = 5.0
_HINT = " (set CELERY_ACTORS_DEDUP_LOGS=0 to see every line)"


class Line(NamedTuple):
    """One line that a worker printed."""

    label: str
    pid: int
    node: str
    stream: int  # 1 standard output, 2 standard error
    text: str


@dataclass(frozen=True, slots=True)
class DedupSettings:
    """What is collapsed, and for how long."""

    enabled: bool = True
    window_seconds: float = _WINDOW_SECONDS
    allow: re.Pattern[str] | None = None  # lines that are never held back
    skip: re.Pattern[str] | None = None  # lines that are never printed

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> DedupSettings:
        """Read ``CELERY_ACTORS_DEDUP_LOGS`` and its kin, or Ray's names of them.

        Raises:
            ConfigurationError: a value is no number of seconds, or no regular expression.
        """

        def value(suffix: str) -> tuple[str, str]:
            for prefix in ("CELERY_ACTORS", "RAY"):
                name = f"{prefix}_DEDUP_LOGS{suffix}"
                if environ.get(name):
                    return name, environ[name]
            return "", ""

        return cls(
            enabled=value("")[1] not in ("0", "false", "False"),
            window_seconds=_seconds(*value("_AGG_WINDOW_S")),
            allow=_pattern(*value("_ALLOW_REGEX")),
            skip=_pattern(*value("_SKIP_REGEX")),
        )


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text) if text else _WINDOW_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"{name} must be a number of seconds, got {text!r}")
    return seconds


def _pattern(name: str, text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ConfigurationError(f"{name} is no regular expression: {error}") from None


@dataclass(slots=True)
class _Recent:
    """A pattern that was printed within the window."""

    since: float
    last: Line
    sources: set[tuple[str, int]] = field(default_factory=set)
    held: int = 0  # repetitions that were not printed


class LogDeduplicator:
    """Holds back what other processes have said; nothing is lost but repetition.

    Args:
        settings: what is collapsed, and for how long.
        clock: returns seconds, as ``time.monotonic``.
    """

    def __init__(self, settings: DedupSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._recent: dict[tuple[int, str], _Recent] = {}  # oldest first
        self._hint = _HINT

    def take(self, lines: Iterable[Line]) -> list[Line]:
        """Take in new lines; return those to print now."""
        now = self._clock()
        return [line for line in lines if self._shows(line, now)] + self.due()

    def _shows(self, line: Line, now: float) -> bool:
        settings = self._settings
        if not settings.enabled or (settings.allow and settings.allow.search(line.text)):
            return True
        if settings.skip and settings.skip.search(line.text):
            return False
        words = [word for word in line.text.split() if not any(map(str.isdigit, word))]
        if not words:
            return True  # all digits or nothing: no pattern to speak of
        source = (line.node, line.pid)
        key = (line.stream, " ".join(words))
        recent = self._recent.get(key)
        if recent is None:
            self._recent[key] = _Recent(now, line, {source})
            return True
        recent.sources.add(source)
        if len(recent.sources) == 1:
            return True
        recent.last = line
        recent.held += 1
        return False

    def due(self) -> list[Line]:
        """Return what was held back for the whole window."""
        now = self._clock()
        told: list[Line] = []
        while self._recent:
            key, recent = next(iter(self._recent.items()))
            if now - recent.since < self._settings.window_seconds:
                break
            del self._recent[key]
            if recent.held > 1:  # it may go on: the next ones are counted from here
                self._recent[key] = _Recent(now, recent.last, recent.sources)
            told += self._told(recent)
        return told

    def flush(self) -> list[Line]:
        """Return everything that was held back, and begin anew."""
        recents = list(self._recent.values())
        self._recent.clear()
        return [line for recent in recents for line in self._told(recent)]

    def _told(self, recent: _Recent) -> list[Line]:
        if recent.held == 0:
            return []
        if recent.held == 1:  # nothing to sum up
            return [recent.last]
        hint, self._hint = self._hint, ""
        text = f"{recent.last.text} [repeated {recent.held}x across cluster]{hint}"
        return [recent.last._replace(text=text)]
