"""What workers print and log, as it comes out of a node: for people, or a JSON object a line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from ..log_format import LOG_MARK, json_line, text_of, without
from ..watching import LogFormat

__all__ = ["Console", "console_of"]

_STREAMS = {1: "stdout", 2: "stderr"}
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Console(Protocol):
    """Where lines of a node's workers come out."""

    def sift(self, lines: list[str]) -> list[str]:
        """Return the lines that their driver is to see; take out what is for the node alone."""

    def show(self, label: str, pid: int, stream: int, lines: list[str]) -> None:
        """Show lines that no driver is there for."""


class _Text:
    def sift(self, lines: list[str]) -> list[str]:
        return lines

    def show(self, label: str, pid: int, _stream: int, lines: list[str]) -> None:
        for line in lines:
            sys.stderr.write(f"({label} pid={pid}) {line}\n")


class _Json:
    """Writes records of workers as they are, and wraps what was printed."""

    def __init__(self, host: str, secrets: Sequence[str]) -> None:
        self._host = host
        self._secrets = secrets

    def sift(self, lines: list[str]) -> list[str]:
        found: list[str] = []
        for line in lines:
            printed, record = self._parts(line)
            if printed or record is None:
                found.append(printed)
            if record is not None:
                found += text_of(record)
        return found

    def show(self, label: str, pid: int, stream: int, lines: list[str]) -> None:
        for line in lines:
            printed, record = self._parts(line)
            if printed or record is None:
                now = datetime.now(UTC).isoformat(timespec="microseconds")
                self._write(json_line({
                    "time": now, "level": "INFO", "logger": _STREAMS[stream],
                    "message": without(printed, self._secrets), "node": self._host,
                    "worker": label, "pid": pid,
                }))  # fmt: skip

    def _parts(self, line: str) -> tuple[str, dict[str, Any] | None]:
        """Return what was printed on a line, and the record behind it, which is written.

        Anybody may print the mark: what follows it is written if it is an object, on one line.
        """
        printed, mark, text = line.partition(LOG_MARK)
        if not mark:
            return line, None
        try:
            record = _decode(text)
        except msgspec.MsgspecError:
            return line, None
        self._write(json_line(record))
        return printed, record

    @staticmethod
    def _write(line: str) -> None:
        sys.stderr.write(f"{line}\n")


def console_of(form: LogFormat, host: str, secrets: Sequence[str]) -> Console:
    """Return the console of a node."""
    return _Json(host, secrets) if form == "json" else _Text()
