"""``celery_actors worker --metrics-port``: metrics for Prometheus, and a real health check."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import celery_actors as ca
from tests.acceptance.commands import run_cli
from tests.integration.actors import Counter, double, held
from tests.integration.gates import Gate
from tests.integration.support import ROOT, Node, Server, node_on, wait_until

PAGE = ROOT / "docs/observability.md"
DASHBOARD = ROOT / "deploy/grafana/celery-actors.json"


@ca.remote(max_concurrency=4)
class Threaded:
    def ping(self) -> bool:
        return True


@pytest.fixture
def node(server: Server) -> Iterator[Node]:
    with node_on(server, "--metrics-port", "0", "--resources", '{"ssd": 3}', cpus=4) as found:
        yield found


def get(node: Node, path: str) -> tuple[int, str]:
    """Ask the node that logs where it serves; return status and text."""
    found = re.search(r"metrics at (http://127\.0\.0\.1:\d+)/metrics", node.log.read_text())
    assert found is not None
    try:
        with urllib.request.urlopen(found[1] + path, timeout=15) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def values(node: Node) -> dict[tuple[str, ...], float]:
    """Return the node's metrics: by name and the labels beside the node, without ids."""
    status, text = get(node, "/metrics")
    assert status == 200
    found = {}
    for each in text_string_to_metric_families(text):
        for sample in each.samples:
            labels = {**sample.labels}
            assert labels.pop("node") == "test"
            labels.pop("actor_id", None)
            labels.pop("node_id", None)
            name = sample.name.removeprefix("celery_actors_")
            found[name, *(labels[label] for label in sorted(labels))] = sample.value
    return found


def names_of(node: Node) -> set[str]:
    _status, text = get(node, "/metrics")
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def test_a_nodes_metrics_tell_what_runs_waits_and_has_been_done(
    server: Server, node: Node, gate: Gate
):
    with ca.init(server.url, keys=server.key):
        counter = Counter.options(name="c", resources={"ssd": 1}, max_restarts=-1).remote()
        threaded = Threaded.remote()
        ca.get([counter.add.remote() for _ in range(20)], timeout=30)
        ca.get([threaded.ping.remote() for _ in range(10)], timeout=30)
        ca.get([double.remote(n) for n in range(5)], timeout=30)
        before = values(node)
        stuck = [counter.hold.remote(gate.path), counter.add.remote(), counter.add.remote()]
        gate.wait_reached()
        length = "actor_queue_length", "c", "Counter"
        wait_until(lambda: values(node)[length] == 3, "three calls that are not settled")
        os.kill(gate.pids()[0], signal.SIGKILL)
        gate.open()
        with pytest.raises(ca.ActorUnavailableError):
            ca.get(stuck[0], timeout=30)
        ca.get(stuck[1:], timeout=30)
        after = values(node)
        ca.kill(counter)
        wait_until(lambda: values(node)["workers", "actor"] == 1, "the actor has gone")
        gone = values(node)

    assert before["node_up",] == before["store_up",] == 1
    assert 0 <= before["lease_age_seconds",] < 3
    assert (before["resource_total", "ssd"], before["resource_free", "ssd"]) == (3, 2)
    assert before["actors", "ALIVE"] == 2
    assert before["calls_settled_total", "Counter"] == 20
    assert before["calls_settled_total", "Threaded"] == 10
    assert before["function_calls_settled_total",] == 5
    assert before[length] == after[length] == 0
    assert before["actor_memory_bytes", "c", "Counter"] > 5_000_000
    assert before["shared_queue_length", "ca.tasks.cpu1"] == 0
    assert before["actor_restarts_total", "Counter"] == 0
    assert after["actor_restarts_total", "Counter"] == 1
    assert after["calls_settled_total", "Counter"] == 22  # the node has settled the lost one
    assert gone["calls_settled_total", "Counter"] == 22
    assert length not in gone


def test_calls_that_no_node_takes_are_counted(server: Server, node: Node, gate: Gate):
    with ca.init(server.url, keys=server.key):
        refs = [held.options(num_cpus=4).remote(gate.path) for _ in range(3)]
        gate.wait_reached()
        queue = "shared_queue_length", "ca.tasks.cpu4"
        wait_until(lambda: values(node).get(queue, 0) >= 1, "calls in the shared queue")
        gate.open()
        ca.get(refs, timeout=30)
        assert values(node)[queue] == 0


def test_a_node_is_healthy_as_long_as_its_lease_holds_and_the_store_answers(
    server: Server, node: Node
):
    assert get(node, "/healthz") == (200, "ok\n")
    assert get(node, "/other")[0] == 404

    server.process.send_signal(signal.SIGSTOP)
    try:
        status, text = get(node, "/healthz")
        assert status == 503
        assert re.match("the (supervisor|lease|store) ", text), text
    finally:
        server.process.send_signal(signal.SIGCONT)
    wait_until(lambda: get(node, "/healthz")[0] == 200, "a healthy node again")

    server.kill()
    status, text = get(node, "/healthz")
    assert status == 503
    server.start_again()
    wait_until(lambda: get(node, "/healthz")[0] == 200, "a healthy node again")


def test_every_metric_on_the_dashboard_and_the_page_is_one_that_a_node_serves(node: Node):
    text = DASHBOARD.read_text()
    dashboard: dict[str, Any] = json.loads(text)
    named = set(re.findall(r"celery_actors_\w+", text))

    served = names_of(node)
    assert len(named) > 15
    assert named <= served
    assert served == set(re.findall(r"`(celery_actors_\w+)`", PAGE.read_text()))
    variables = {each["name"]: each["type"] for each in dashboard["templating"]["list"]}
    assert variables["datasource"] == "datasource"
    used = {target["datasource"]["uid"] for p in dashboard["panels"] for target in p["targets"]}
    assert used == {"${datasource}"}


def test_a_port_that_is_in_use_is_told_before_anything_starts(server: Server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = run_cli(
            "worker", "--address", server.url, "--metrics-port", str(port),
            environment={"CELERY_ACTORS_KEYS": server.key},
        )  # fmt: skip

    assert run.returncode == 2
    last = run.stderr.splitlines()[-1]
    assert last.startswith(f"celery_actors: metrics cannot be served at 127.0.0.1:{port} (Address ")
    with server.client() as client:
        assert client.keys("ca:*") == []


@pytest.mark.parametrize(
    ("option", "library", "extra"),
    [
        (["--metrics-port", "0"], "prometheus_client", "metrics"),
        (["--otel"], "opentelemetry", "otel"),
    ],
    ids=["metrics", "otel"],
)
def test_a_library_that_is_missing_is_told_with_the_command_that_installs_it(
    tmp_path: Path, option: list[str], library: str, extra: str
):
    (tmp_path / f"{library}.py").write_text(f"raise ImportError('no {library} here')\n")
    run = run_cli(
        "worker", "--address", "unix:///nowhere", *option,
        environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip

    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"celery_actors: {option[0]}: ")
    assert f"pip install 'celery-actors[{extra}]'" in line
