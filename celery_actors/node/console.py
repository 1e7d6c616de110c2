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

    def take(
        self, label: str, pid: int, stream: int, lines: list[str], *, alone: bool
    ) -> list[str]:  # fmt: skip
        """Take lines of a worker; show those that no driver is there for (``alone``).

        Returns them as a driver is to see them.
        """


class _Text:
    def take(
        self, label: str, pid: int, _stream: int, lines: list[str], *, alone: bool
    ) -> list[str]:  # fmt: skip
        if alone:
            for line in lines:
                sys.stderr.write(f"({label} pid={pid}) {line}\n")
        return lines


class _Json:
    """Writes records of workers as they are, and wraps what was printed."""

    def __init__(self, host: str, secrets: Sequence[str]) -> None:
        self._host = host
        self._secrets = secrets

    def take(
        self, label: str, pid: int, stream: int, lines: list[str], *, alone: bool
    ) -> list[str]:  # fmt: skip
        seen: list[str] = []
        for line in lines:
            printed, record = self._parts(line)
            if printed or record is None:
                seen.append(printed)
                if alone:
                    self._wrap(label, pid, stream, printed)
            if record is not None:
                seen += text_of(record)
        return seen

    def _wrap(self, label: str, pid: int, stream: int, printed: str) -> None:
        self._write(json_line({
            "time": datetime.now(UTC).isoformat(timespec="microseconds"), "level": "INFO",
            "logger": _STREAMS[stream], "message": without(printed, self._secrets),
            "node": self._host, "worker": label, "pid": pid,
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
