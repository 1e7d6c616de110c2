"""A worker process as its supervisor holds it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from typing import Any, cast

import pytest

from celery_actors.assignment import Assignment
from celery_actors.need import Need
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


@pytest.mark.parametrize("told_first", [True, False])
def test_a_worker_that_is_to_retire_ends_also_where_it_had_not_started_when_it_was_told(
    told_first: bool,
) -> None:
    ours, theirs = socket.socketpair()
    assignment = Assignment(
        worker_id="w", queue="q", epoch="1", owner="o", session="s", position=0, need=Need(),
        label="tasks", meta={},
    )  # fmt: skip
    worker = WorkerProcess(assignment, ours, os.memfd_create("page"), [], None)
    with ours, theirs, subprocess.Popen(["sleep", "120"]) as process:
        try:
            if told_first:
                worker.retire()
            worker.began(process.pid)
            if not told_first:
                worker.retire()
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()
    os.close(worker.progress)
