"""A worker process as its supervisor holds it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest

from celery_actors.assignment import Assignment
from celery_actors.need import Need
from celery_actors.node.process import WorkerProcess


@pytest.mark.parametrize("told_first", [True, False])
def test_a_worker_that_is_to_retire_ends_also_where_it_had_not_started_when_it_was_told(
    told_first: bool,
):
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
