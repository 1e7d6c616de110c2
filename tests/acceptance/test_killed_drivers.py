"""Fifty drivers that are killed in the middle: within a lease, nothing of theirs is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.census import SHARED_MEMORY, take
from tests.integration.support import Server, node_on
from tests.waits import wait_empty

DRIVERS, AT_A_TIME = 50, 5
#: A driver's lease is 10 s, and its node looks once a second: the rest is for a busy machine.
SECONDS = 40

#: Forks a driver for each number that it reads: fifty programs would import the package for long.
NURSERY = """
import json, os, signal, sys
import celery_actors as ca

class Counter:
    count = 0

    def add(self):
        self.count += 1
        return self.count

    def keep(self, things):
        self.things = things

@ca.remote
def double(value):
    return 2 * value

def drive(number):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    context = ca.init(sys.argv[1], log_to_driver=False)
    actors = [
        ca.remote(Counter).remote(),
        ca.remote(Counter).options(name=f"named-{number}", max_restarts=-1).remote(),
        ca.remote(durable=True)(Counter).remote(),
    ]
    values = [ca.put(bytearray(300_000)), ca.put("small"), double.remote(2)]
    kept = actors[0].keep.remote([actors[1], values])
    ca.get([kept, *(actor.add.remote() for actor in actors), values[-1]], timeout=60)
    print(json.dumps([os.getpid(), context["session"]]), flush=True)
    while True:
        ca.get(actors[number % 3].add.remote())

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    if os.fork() == 0:
        drive(int(line))
"""


@contextlib.contextmanager
def nursery(server: Server) -> Iterator[subprocess.Popen[str]]:
    """Run the program that forks drivers."""
    program = server.folder / "nursery.py"
    program.write_text(NURSERY)
    with subprocess.Popen(
        [sys.executable, str(program), server.url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=server.environment(),
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def kill_drivers(parent: subprocess.Popen[str], numbers: range) -> list[str]:
    """Start drivers at the same time, kill them once they call, return their sessions."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.writelines(f"{number}\n" for number in numbers)
    parent.stdin.flush()
    told = [json.loads(parent.stdout.readline()) for _ in numbers]
    for pid, _ in told:
        os.kill(pid, signal.SIGKILL)
    return [session for _, session in told]


@pytest.mark.slow
@pytest.mark.debian_redis
@pytest.mark.timeout(300)  # 150 actors and 50 sessions, on machines that may be busy
def test_nothing_is_left_of_killed_drivers(server: Server):
    with (
        node_on(server, cpus=1) as node,  # one worker for functions, which the first driver warms
        nursery(server) as parent,
        contextlib.closing(server.client()) as client,
    ):
        values = SHARED_MEMORY / next(iter(client.hkeys("ca:nodes"))).decode()

        def left() -> dict[str, Any]:
            """Return what is here and was not there before the drivers came."""
            now = take(client)
            found: dict[str, Any] = now.beyond(before)
            if len(now.connections) <= len(before.connections):
                found.pop("connections", None)  # the node's own are made anew now and then
            found["sessions"] = client.zrange("ca:sessions", 0, -1)
            found["actors"] = client.hkeys("ca:actors")
            found["values"] = [path.name for path in values.glob("*") if path.stat().st_size > 1000]
            return {sort: names for sort, names in found.items() if names}

        kill_drivers(parent, range(1))
        wait_empty(lambda: client.zrange("ca:sessions", 0, -1), "the first one is forgotten", 40)
        before = take(client)
        sessions: set[str] = set()
        for first in range(0, DRIVERS, AT_A_TIME):
            sessions |= {*kill_drivers(parent, range(first, first + AT_A_TIME))}

        assert len(sessions) == DRIVERS
        wait_empty(left, "nothing of the killed drivers is left", SECONDS)
        assert node.process.poll() is None, node.log.read_text()
