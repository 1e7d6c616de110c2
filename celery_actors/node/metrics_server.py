"""The small HTTP server of a node: ``/metrics`` for Prometheus, ``/healthz`` for probes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from ..errors import ConfigurationError

__all__ = ["MetricsServer", "listening"]


class Source(Protocol):
    """Knows the metrics of a node."""

    def text(self) -> bytes:
        """Return them in Prometheus' text format."""

    def trouble(self) -> str:
        """Return what is wrong with the node; '' nothing."""

    def close(self) -> None:
        """Nobody asks any more."""


class MetricsServer(ThreadingHTTPServer):
    """Listens from the start; serves in threads of its own once it has a source."""

    daemon_threads = True
    source: Source
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def serve(self, source: Source) -> None:
        """Answer from now on."""
        self.source = source
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.1,), name="ca-metrics", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
            self.source.close()
        self.server_close()


class _MetricsServer6(MetricsServer):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    server_version, sys_version = "celery_actors", ""
    timeout = 10  # seconds for a request to arrive

    def do_GET(self) -> None:
        """Answer one request."""
        source = self.server.source
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send(HTTPStatus.OK, source.text(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/healthz":
            trouble = source.trouble()
            status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
            self._send(status, f"{trouble or 'ok'}\n".encode())
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there are /metrics and /healthz\n")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing: probes come every few seconds."""


@contextlib.contextmanager
def listening(place: tuple[str, int] | None) -> Iterator[MetricsServer | None]:
    """Listen at a host and port, 0 any free one; None: at none.

    Raises:
        ConfigurationError: that is not possible.
    """
    if place is None:
        yield None
        return
    try:
        server = (_MetricsServer6 if ":" in place[0] else MetricsServer)(place, _Handler)
    except OSError as error:
        raise ConfigurationError(
            f"metrics cannot be served at {place[0]}:{place[1]} ({error.strerror or error}): name "
            "another --metrics-port, or an address of this machine as --metrics-host"
        ) from None
    try:
        yield server
    finally:
        server.stop()
