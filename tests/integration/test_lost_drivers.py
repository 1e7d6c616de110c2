"""A killed driver leaves nothing behind: at once where all is its own, else within a lease."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.census import shared_memory
from tests.integration.gates import Gate
from tests.integration.support import (
    Server,
    client_of,
    driver_keys,
    family,
    is_alive,
    lasting_keys,
    node_on,
    run_script,
    running_script,
    wait_all_gone,
    wait_empty,
    wait_until,
)

pytestmark = pytest.mark.timeout(60)

DRIVER = """
import json, os, sys
import celery_actors as ca
from tests.integration.actors import Counter, Scribe, double, held

context = ca.init({address})
actors = [Counter.remote(), Counter.options(name="named").remote()]
kept = Counter.options(name="kept", namespace="kept", lifetime="detached").remote()
ca.get([a.add.remote() for a in (*actors, kept)], timeout=20)
ca.get(double.remote(2), timeout=20)
array = ca.put(bytearray(3_000_000))
busy = [actors[0].hold.remote({gate!r}), held.remote({gate!r})]
pids = ca.get([a.pid.remote() for a in (actors[1], kept)], timeout=20)
print(json.dumps(dict(address=context.address, session=context["session"], pids=pids)), flush=True)
sys.stdin.readline()
"""


def report_of(driver: subprocess.Popen[str]) -> dict[str, Any]:
    assert driver.stdout is not None
    line = driver.stdout.readline()
    assert line, "the driver said nothing"
    return dict(json.loads(line))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_driver_takes_its_local_cluster_with_it(
    number: signal.Signals, gate: Gate, tmp_path: Path
):
    shared = shared_memory()
    with running_script(tmp_path, DRIVER.format(address="num_cpus=2", gate=gate.path)) as driver:
        report = report_of(driver)
        gate.wait_reached(times=2)
        folder = Path(report["address"].removeprefix("redis+socket://")).parent
        assert (folder / "store.sock").exists()
        below = family(driver.pid)[1:]
        assert len(below) >= 6, "server, node, fork server, workers"

        driver.send_signal(number)

        driver.wait(20)
        wait_all_gone(below, "everything that the driver started has ended")
        wait_until(lambda: not folder.exists(), "the private folder is removed")
    assert shared_memory() == shared


def test_the_folder_goes_even_when_driver_and_node_are_killed_together(gate: Gate, tmp_path: Path):
    with running_script(tmp_path, DRIVER.format(address="num_cpus=2", gate=gate.path)) as driver:
        report = report_of(driver)
        folder = Path(report["address"].removeprefix("redis+socket://")).parent
        below = family(driver.pid)[1:]
        node = json.loads((folder / "cluster.json").read_text())["node_id"]
        assert node
        supervisors = [pid for pid in below if "worker" in _words(pid)]

        for pid in (*supervisors, driver.pid):
            os.kill(pid, signal.SIGKILL)

        driver.wait(20)
        wait_all_gone(below, "everything that the driver started has ended")
        wait_until(lambda: not folder.exists(), "the private folder is removed")


PATIENT = """
import json, sys
import celery_actors as ca
from celery_actors import driver, registry
from tests.integration.actors import Counter

registry.OWN_SESSION_MS, driver.RENEW_SECONDS = 2_000, 0.5
context = ca.init(num_cpus=1)
actor = Counter.remote()
print(json.dumps(dict(address=context.address, node=context.node_id)), flush=True)
for _ in range(2):
    print(ca.get(actor.add.remote(), timeout=20), flush=True)
    sys.stdin.readline()
"""


def test_a_driver_that_stood_still_with_its_node_keeps_its_actors(tmp_path: Path):
    """As when a laptop sleeps: all leases are over when everybody wakes."""
    with running_script(tmp_path, PATIENT) as driver:
        report = report_of(driver)
        assert driver.stdout is not None
        assert driver.stdin is not None
        assert driver.stdout.readline() == "1\n"
        members = [psutil.Process(pid) for pid in family(driver.pid)]
        frozen = [one for one in members if not one.name().startswith(("sh", "valkey"))]
        lease = f"ca:node:{report['node']}"
        with contextlib.closing(client_of(report["address"])) as client:
            assert client.exists(lease)

            for one in frozen:
                one.suspend()
            wait_until(lambda: not client.exists(lease), "the node's lease is over")
            for one in frozen[1:]:
                one.resume()
            wait_until(lambda: client.exists(lease), "the node has looked around again")
        frozen[0].resume()

        driver.stdin.write("\n")
        driver.stdin.flush()
        assert driver.stdout.readline() == "2\n"


def _words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


@pytest.mark.debian_redis
def test_a_killed_driver_of_a_shared_cluster_loses_its_actors_and_keys(
    server: Server, gate: Gate, tmp_path: Path
):
    text = DRIVER.format(address=repr(server.url), gate=gate.path)
    with node_on(server) as node, contextlib.closing(server.client()) as client:
        with running_script(tmp_path, text, server.environment()) as driver:
            report = report_of(driver)
            gate.wait_reached(times=2)
            mine, kept = report["pids"]

            driver.send_signal(signal.SIGKILL)

            # Its session's lease is 10 s; the node looks once a second.
            wait_until(lambda: not is_alive(mine), "the driver's actors have ended", 20)

            def left() -> list[str]:
                found = driver_keys(client, report["session"])
                return [word for word in found if not word.startswith("actor ")]

            wait_empty(left, "no key carries the driver's name", 20)
            assert is_alive(kept), "a detached actor stays"
            assert len(client.hgetall("ca:actors")) == 1
        gate.open()
        assert node.process.poll() is None


@pytest.mark.debian_redis
def test_a_driver_that_ends_well_leaves_only_what_it_detached(
    server: Server, gate: Gate, tmp_path: Path
):
    gate.open()
    text = DRIVER.format(address=repr(server.url), gate=gate.path)
    with node_on(server), contextlib.closing(server.client()) as client:
        with running_script(tmp_path, text, server.environment()) as driver:
            report = report_of(driver)
            driver.communicate("\n", timeout=20)
            assert driver.returncode == 0
        mine, kept = report["pids"]
        wait_until(lambda: not is_alive(mine), "the driver's actors have ended")
        assert is_alive(kept)
        assert len(client.hgetall("ca:actors")) == 1
        named = [key for key in lasting_keys(client) if report["session"] in key]
        assert named == []


BUSY = """
import ctypes
import celery_actors as ca
from tests.integration.actors import Counter

ca.init(num_cpus=1)
actor = Counter.remote()
print(ca.get(actor.add.remote(), timeout=20))
ctypes.PyDLL(None).sleep(14)  # as a long call of C code that lets no other thread run
print(ca.get(actor.add.remote(), timeout=20))
"""


@pytest.mark.slow
def test_a_driver_whose_threads_stood_still_keeps_its_actors(tmp_path: Path):
    done = run_script(tmp_path, BUSY)

    assert done.stdout.split() == ["1", "2"], done.stderr


LATE = """
import json
import celery_actors as ca
from celery_actors import driver
from tests.integration.generators import Source

look = driver.Driver.watchdog

def watchdog(self):
    look(self)
    print("looked", flush=True)

driver.Driver.watchdog = watchdog
context = ca.init(num_cpus=1)
actor = Source.remote()
print(json.dumps(dict(address=context.address, node=context.node_id)), flush=True)
print("result", ca.get(actor.wait_and_return.remote({gate!r}, 5), timeout=50), flush=True)
"""


@pytest.mark.slow
def test_a_local_node_that_stands_still_is_not_taken_for_dead(tmp_path: Path, gate: Gate):
    """As on a machine that has far too much to do."""
    with running_script(tmp_path, LATE.format(gate=gate.path)) as driver:
        report = report_of(driver)
        assert driver.stdout is not None
        gate.wait_reached()
        (node,) = [pid for pid in family(driver.pid) if psutil.Process(pid).name() == "ca-node"]
        lease = f"ca:node:{report['node']}"
        with contextlib.closing(client_of(report["address"])) as client:
            psutil.Process(node).suspend()
            wait_until(lambda: not client.exists(lease), "the node's lease is over")
            looks = [driver.stdout.readline() for _ in range(5)]
            psutil.Process(node).resume()
            wait_until(lambda: client.exists(lease), "the node has looked around again")
        gate.open()
        lines = iter(driver.stdout.readline, "")
        assert next(line for line in lines if line != "looked\n") == "result 5\n"
    assert looks == ["looked\n"] * 5


STOPPED = """
import sys
import celery_actors as ca
from tests.integration.actors import Counter, double

context = ca.init({address})
actor = Counter.remote()
ca.get([actor.add.remote(), double.remote(2)], timeout=20)
print(context["session"], flush=True)
sys.stdin.readline()
for call in (lambda: actor.add.remote(), lambda: double.remote(3), lambda: double.remote(4)):
    try:
        print(ca.get(call(), timeout=20), flush=True)
    except ca.RayError as error:
        print(" ".join(f"{{type(error).__name__}}: {{error}}".split()), flush=True)
"""


@pytest.mark.debian_redis
def test_a_driver_that_was_stopped_for_longer_than_its_lease_is_told_so(
    server: Server, tmp_path: Path
):
    text = STOPPED.format(address=repr(server.url))
    with (
        node_on(server), contextlib.closing(server.client()) as client,
        running_script(tmp_path, text, server.environment()) as driver,
    ):  # fmt: skip
        assert driver.stdout is not None
        assert driver.stdin is not None
        session = driver.stdout.readline().strip()
        driver.send_signal(signal.SIGSTOP)
        wait_until(
            lambda: client.zscore("ca:sessions", session) is None, "it was taken for ended", 20
        )
        driver.send_signal(signal.SIGCONT)
        driver.stdin.write("\n")
        driver.stdin.flush()

        actors, functions, after = (driver.stdout.readline() for _ in range(3))
    assert actors.startswith("ActorDiedError: ")
    assert "driver" in actors, actors
    assert functions.startswith("StoreRolledBackError: this driver was silent for "), functions
    assert after == "8\n"
