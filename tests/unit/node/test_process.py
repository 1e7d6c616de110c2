"""A worker process as its supervisor holds it."""

from __future__ import annotations

import json
import socket
from typing import Any, cast

from celery_actors.node.process import WorkerProcess


def test_a_worker_that_does_not_listen_never_holds_up_its_node() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        worker = WorkerProcess(cast("Any", None), ours, -1, [], None)

        for number in range(10_000):  # it was paused, say: a socket holds some hundred words
            worker.tell({"cancel": number})

        heard = [json.loads(theirs.recv(1000))["cancel"] for _ in range(100)]
        assert heard == list(range(100))
        worker.tell({"cancel": "later"})
        theirs.setblocking(False)
        last = None
        try:
            while True:
                last = json.loads(theirs.recv(1000))["cancel"]
        except BlockingIOError:
            assert last == "later"
