"""Several hosts: a store, two nodes and a driver, each in a network namespace of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_actors.config import new_key
from celery_actors.shared_memory import HOST_VARIABLE
from tests.acceptance.hosts import Host, hosts, require_rights
from tests.integration import acl
from tests.integration.support import ROOT, embedded_server
from tests.waits import wait_until

pytestmark = pytest.mark.timeout(90)

#: Bytes of a value that goes through shared memory on one host, and over the network between two.
SIZE = 800_000

DRIVER = """
import json, sys, time
import numpy as np
import celery_actors as ca

ca.init()

@ca.remote(num_cpus=1, max_restarts=1, max_task_retries=-1, scheduling_strategy="SPREAD")
class Place:
    def node(self):
        return ca.get_runtime_context().get_node_id()
    def make(self, count):
        return np.arange(count, dtype="float64")
    def total(self, array):
        return float(array.sum())

def say(**words):
    print(json.dumps(words), flush=True)

until = time.monotonic() + 30
while sum(node["Alive"] for node in ca.nodes()) < 2 and time.monotonic() < until:
    time.sleep(0.1)
places = [Place.remote() for _ in range(2)]
nodes = ca.get([place.node.remote() for place in places], timeout=30)
made = [place.make.remote(COUNT) for place in places]
crossed = ca.get([places[0].total.remote(made[1]), places[1].total.remote(made[0])], timeout=30)
here = [float(ca.get(ref, timeout=30).sum()) for ref in made]
say(nodes=nodes, crossed=crossed, here=here)
sys.stdin.readline()
began = time.monotonic()
now = ca.get([place.node.remote() for place in places], timeout=40)
say(nodes=now, seconds=time.monotonic() - began)
ca.shutdown()
"""


class Cluster:
    """The processes of a cluster on several hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "CELERY_ACTORS_KEYS": new_key(),
            "TMPDIR": str(folder),  # the node that is cut off is killed
        }  # fmt: skip

    def address(self, user: str, store: Host) -> str:
        return acl.as_user(f"redis://{store.address}:6379/0", user)

    def start(self, host: Host, user: str, store: Host, *words: str) -> subprocess.Popen[bytes]:
        """Run the command line on a host."""
        environment = {
            **self.environment,
            "CELERY_ACTORS_ADDRESS": self.address(user, store),
            HOST_VARIABLE: host.namespace,
        }
        return self._start(host, [sys.executable, "-m", "celery_actors", *words], environment)

    def start_store(self, host: Host) -> subprocess.Popen[bytes]:
        """Run the server with the settings and the users of `deploy/`."""
        settings = acl.write_settings(self.folder, acl.write_users(self.folder))
        words = [embedded_server(), settings, "--bind", host.address]
        return self._start(host, words, self.environment)

    def start_driver(self, host: Host, store: Host) -> subprocess.Popen[bytes]:
        """Run the driver, with pipes."""
        program = self.folder / "driver.py"
        program.write_text(DRIVER.replace("COUNT", str(SIZE // 8)))
        environment = {
            **self.environment,
            "CELERY_ACTORS_ADDRESS": self.address("celery-actors", store),
            HOST_VARIABLE: host.namespace,
        }
        with (self.folder / "driver.log").open("ab") as log:
            return host.start(
                [sys.executable, "-u", str(program)], environment, log, self.folder, talks=True
            )

    def _start(
        self, host: Host, words: list[str], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{host.namespace}.log").open("ab") as log:
            return host.start(words, environment, log, self.folder)

    def logs(self) -> str:
        """Return what everybody has said."""
        return "\n".join(
            f"== {path.name}\n{path.read_text()}" for path in self.folder.glob("*.log")
        )


@pytest.fixture
def namespaces() -> Iterator[dict[str, Host]]:
    """Four hosts."""
    require_rights()
    with hosts("store", "one", "two", "driver") as made:
        yield made


def hears(process: subprocess.Popen[bytes], cluster: Cluster) -> dict[str, object]:
    """Return the next thing that the driver says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, cluster.logs()
    found: dict[str, object] = json.loads(line)
    return found


def test_a_cluster_of_three_hosts_survives_the_loss_of_one(
    namespaces: dict[str, Host], tmp_path: Path
):
    cluster = Cluster(tmp_path)
    store, one, two = (namespaces[name] for name in ("store", "one", "two"))
    with contextlib.ExitStack() as stack:

        def keep(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        keep(cluster.start_store(store))
        keep(cluster.start(store, "scripts", store, "load-scripts", "--watch"))
        wait_until(lambda: "loaded " in cluster.logs(), "the store runs and has its scripts")
        nodes = {
            name: keep(
                cluster.start(host, "celery-actors", store, "worker", "-n", name, "--num-cpus", "2")
            )
            for name, host in (("one", one), ("two", two))
        }
        driver = keep(cluster.start_driver(namespaces["driver"], store))
        stack.callback(driver.communicate)

        first = hears(driver, cluster)
        total = float(sum(range(SIZE // 8)))
        assert first["crossed"] == first["here"] == [total, total]
        before = [str(node).split("-")[0] for node in first["nodes"]]  # type: ignore[attr-defined]
        assert sorted(before) == ["one", "two"], "SPREAD"

        two.cut_off(store)
        assert driver.stdin is not None
        driver.stdin.write(b"\n")
        driver.stdin.flush()
        then = hears(driver, cluster)
        after = [str(node).split("-")[0] for node in then["nodes"]]  # type: ignore[attr-defined]
        assert after == ["one", "one"]
        assert float(str(then["seconds"])) < 20, "a lease of 3 s, and a start"
        assert driver.wait(20) == 0, cluster.logs()

        nodes["one"].terminate()
        assert nodes["one"].wait(20) == 0, cluster.logs()
    assert "Traceback" not in cluster.logs()
