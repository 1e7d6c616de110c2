"""Logs of nodes and workers: lines for people, or a JSON object each with call, actor and trace.

A worker's records go over its standard error to its node, marked, so that the node can tell them
from what user code prints; the node writes them to its own standard error. No line carries a key or
the store's password.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from .config import Address, KeyRing
from .current_call import current_call
from .watching import LogFormat

__all__ = ["LOG_MARK", "TextFormatter", "json_line", "secrets_of", "set_up", "text_of", "without"]

#: Begins a line on a worker's standard error that is a record of its log, as JSON.
LOG_MARK = "\x1elog:"
_TEXT = "%(levelname)s %(name)s: %(message)s"
#: What any URL with a password looks like: users log theirs, too.
_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@", re.IGNORECASE)
_HIDDEN = "***"


def secrets_of(address: Address, ring: KeyRing) -> list[str]:
    """Return what no log may show: the signing keys, and the passwords of the store."""
    given = re.findall(r"://[^/@]*:([^/@]+)@|password=([^&]+)", address.url)
    words = {word for pair in given for word in pair if word}
    return [*(key.hex() for key in ring.keys), *words, *map(unquote, words)]


def without(text: str, secrets: Sequence[str]) -> str:
    """Return a text without the secrets, and without passwords in URLs."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    return _PASSWORD.sub(rf"\1:{_HIDDEN}@", text)


def json_line(fields: Mapping[str, Any]) -> str:
    """Return fields as one line, without those that are empty."""
    return json.dumps({name: value for name, value in fields.items() if value not in ("", None)})


class TextFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__(_TEXT)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Return it, and a traceback below."""
        return without(super().format(record), self._secrets)


class JsonFormatter(logging.Formatter):
    """A JSON object on one line: the record, and where in which call it was made."""

    def __init__(self, about: Mapping[str, str], secrets: Sequence[str], mark: str) -> None:
        super().__init__()
        self._about = about
        self._secrets = secrets
        self._mark = mark

    def format(self, record: logging.LogRecord) -> str:
        """Return it. Times are UTC, in ISO 8601."""
        call = current_call.get()
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname, "logger": record.name,
            "message": self._clean(record.getMessage()), **self._about, "pid": record.process,
            "call_id": call.call_id if call else "", "task": call.name if call else "", **_trace(),
            "exc_info": self._clean(self._traceback(record)),
        }  # fmt: skip
        return self._mark + json_line(fields)

    def _clean(self, text: str) -> str:
        return without(text, self._secrets)

    def _traceback(self, record: logging.LogRecord) -> str:
        text = self.formatException(record.exc_info) if record.exc_info else ""
        stack = self.formatStack(record.stack_info) if record.stack_info else ""
        return "\n".join(filter(None, (text, stack)))


def _trace() -> dict[str, str]:
    """Return the ids of the current span, whoever made it; importing nothing for that."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


class _Handler(logging.StreamHandler[Any]):
    """Writes where the process writes now: a worker replaces its streams."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def set_up(
    form: LogFormat, about: Mapping[str, str], secrets: Sequence[str], *, marked: bool = False,
    level: str = "",
) -> None:  # fmt: skip
    """Set the root logger of a node up, or of one of its workers (``marked``).

    ``about``: what every JSON line says of the process. ``level``: "" as it is.
    """
    root = logging.getLogger()
    if level:
        root.setLevel(level)
    if form == "text":
        if not root.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(TextFormatter(secrets))
            root.addHandler(handler)
        return
    handler = _Handler()
    handler.setFormatter(JsonFormatter(about, secrets, LOG_MARK if marked else ""))
    root.handlers[:] = [handler]
    logging.captureWarnings(True)
    sys.excepthook = _unhandled
    threading.excepthook = lambda args: _unhandled(
        args.exc_type, args.exc_value, args.exc_traceback
    )


def _unhandled(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger("celery_actors").critical(
            "an exception that nobody handles", exc_info=(kind, error, trace)
        )


def text_of(record: Mapping[str, Any]) -> list[str]:
    """Return a record from JSON as the lines that a driver is shown of it."""
    first = f"{record.get('level', '')} {record.get('logger', '')}: {record.get('message', '')}"
    trace = str(record.get("exc_info", ""))
    return [line for text in (first, trace) for line in text.splitlines()]
