"""The node's HTTP server, beside a source that stands for the node."""

from __future__ import annotations

import http.client
import socket

import pytest

from celery_actors.node.metrics_server import listening


class Source:
    closed = False
    said = ""

    def text(self) -> bytes:
        return b"one 1\n"

    def trouble(self) -> str:
        return self.said

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_it_answers_on_either_kind_of_address_until_it_ends(host: str, shown: str) -> None:
    source = Source()
    with listening((host, 0)) as server:
        assert server is not None
        server.serve(source)
        assert server.url == f"http://{shown}:{server.server_address[1]}"

        def ask(method: str, path: str) -> tuple[int, bytes]:
            client = http.client.HTTPConnection(host, server.server_address[1], timeout=10)
            client.request(method, path)
            reply = client.getresponse()
            body = reply.read()
            client.close()
            return reply.status, body

        assert ask("GET", "/metrics?x=1") == (200, b"one 1\n")
        assert ask("HEAD", "/metrics") == (200, b"")
        assert ask("GET", "/healthz") == (200, b"ok\n")
        source.said = "the lease is over"
        assert ask("GET", "/healthz") == (503, b"the lease is over\n")
        assert ask("GET", "/")[0] == 404
        assert ask("POST", "/metrics")[0] == 501
    assert source.closed
    with socket.socket(server.address_family) as probe:
        assert probe.connect_ex(server.server_address[:2]) != 0


def test_without_an_address_nothing_listens() -> None:
    with listening(None) as server:
        assert server is None
