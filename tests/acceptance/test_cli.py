"""The command line, run as people run it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import celery_actors as ca
from tests.acceptance.commands import plain_environment, run_cli
from tests.integration.actors import Counter, double
from tests.integration.gates import Gate
from tests.integration.matrix import free_port
from tests.integration.support import (
    Server,
    family,
    lasting_keys,
    node_on,
    run_script,
    wait_all_gone,
    wait_empty,
)


def test_keygen_prints_a_key_alone_on_the_last_line():
    runs = [run_cli("keygen") for _ in range(2)]

    keys = [run.stdout.splitlines()[-1] for run in runs]
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)
    assert keys[0] != keys[1]
    assert runs[0].returncode == 0


def test_help_names_every_command():
    run = run_cli("--help")

    assert run.returncode == 0
    for word in (
        "worker", "status", "list", "get", "logs", "call", "kill", "top", "drain", "stop", "keygen",
        "doctor", "completion",
    ):  # fmt: skip
        assert word in run.stdout
    assert run_cli("--version").stdout


def test_a_worker_without_a_key_on_tcp_says_how_to_make_one_in_one_line():
    run = run_cli("worker", "--address", "redis://127.0.0.1:1/0")

    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith("celery_actors: no signing key for redis://127.0.0.1:1/0")
    assert "celery_actors keygen" in line


@pytest.mark.parametrize("command", ["worker", "status"])
def test_a_wrong_address_fails_within_seconds_and_hides_the_password(command: str):
    port = free_port()
    address = f"redis://user:hunter2@127.0.0.1:{port}/0"
    began = time.monotonic()

    run = run_cli(command, "--address", address, environment={"CELERY_ACTORS_KEYS": "ab" * 32})

    assert time.monotonic() - began < 15
    assert run.returncode == 3
    (line,) = run.stderr.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "hunter2" not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--num-cpus", "-1"), "num-cpus"),
        (("--resources", "{"), "--resources"),
        (("--resources", '{"CPU": 1}'), "num_cpus"),
        (("--key-file", "/no/such/file"), "key-file"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name(words: tuple[str, ...], said: str):
    run = run_cli("worker", "--address", "unix:///no/such.sock", *words)

    assert run.returncode == 2
    assert said in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.debian_redis
def test_two_nodes_on_one_machine_serve_one_cluster(server: Server, tmp_path: Path):
    gate = Gate(tmp_path)
    with (
        node_on(server, name="one", cpus=1) as one,
        node_on(server, name="two", cpus=1) as two,
        ca.init(server.url, keys=server.key),
    ):
        assert ca.cluster_resources()["CPU"] == 2
        assert {node["NodeManagerHostname"] for node in ca.nodes()} == {"one", "two"}
        actors = [Counter.options(num_cpus=1).remote() for _ in range(2)]
        held = [actor.hold.remote(gate.path) for actor in actors]
        gate.wait_reached(times=2)
        for node in (one, two):
            assert len(set(gate.pids()) & set(family(node.process.pid))) == 1
        gate.open()
        assert ca.get(held, timeout=10) == ["passed", "passed"]


@pytest.mark.debian_redis
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_a_node_which_exits_with_zero(
    server: Server, number: signal.Signals, tmp_path: Path
):
    gate = Gate(tmp_path)
    with node_on(server) as node, contextlib.closing(server.client()) as client:
        ca.init(server.url, keys=server.key)
        try:
            actor = Counter.options(max_restarts=-1).remote()
            running = actor.hold.remote(gate.path)
            waiting = [actor.add.remote() for _ in range(3)]
            gate.wait_reached()
            below = family(node.process.pid)

            node.process.send_signal(number)
            gate.open()

            assert node.process.wait(20) == 0, node.log.read_text()
            wait_all_gone(below, "the workers have ended")
            # The running call was finished, the others wait for the next node.
            assert ca.get(running, timeout=10) == "passed"
            assert client.hlen("ca:nodes") == 0
            with node_on(server, name="next"):
                assert ca.get(waiting, timeout=20) == [1, 2, 3]
                ca.kill(actor)
        finally:
            ca.shutdown()
        wait_empty(lambda: lasting_keys(client), "no key without an end", 5)
    assert "Traceback" not in node.log.read_text()


@pytest.mark.debian_redis
def test_a_node_alone_drains_at_once(server: Server):
    for number in (signal.SIGTERM, signal.SIGINT):
        with node_on(server) as node:
            node.process.send_signal(number)
            assert node.process.wait(10) == 0, node.log.read_text()


@pytest.mark.debian_redis
def test_status_describes_nodes_and_actors(server: Server):
    with node_on(server, name="shown"), ca.init(server.url, keys=server.key, namespace="shop"):
        till = Counter.options(name="till").remote()
        pid = ca.get(till.pid.remote(), timeout=10)

        as_json = run_cli("status", "--address", server.url, "--json")
        as_text = run_cli("status", "--address", server.url)

        described = json.loads(as_json.stdout)
        (node_id,) = described["nodes"]
        assert node_id.startswith("shown-")
        (actor,) = described["actors"]
        assert (actor["class_name"], actor["name"], actor["pid"]) == ("Counter", "till", pid)
        assert (actor["state"], actor["namespace"]) == ("ALIVE", "shop")
        assert actor["queue"] == ca.actor_queue("shop", "till")
        assert "till" in as_text.stdout
        assert "1 actor" in as_text.stdout


def test_auto_and_status_reach_the_newest_local_cluster(
    tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # A folder of our own, so that no other cluster of this user is newer.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    monkeypatch.delenv("CELERY_ACTORS_ADDRESS", raising=False)
    with ca.init(num_cpus=1, namespace="met") as context:
        met = Counter.options(name="met").remote(4)
        text = (
            "import celery_actors as ca\n"
            'context = ca.init({address!r}, namespace="met")\n'
            "print(context.address)\n"
            'print(ca.get(ca.get_actor("met").add.remote(), timeout=20))\n'
        )

        by_word = run_script(tmp_path, text.format(address="auto"))
        by_address = run_script(tmp_path, text.format(address=context.address))
        status = run_cli("status", "--json")

        assert by_word.stdout.split() == [context.address, "5"], by_word.stderr
        assert by_address.stdout.split() == [context.address, "6"], by_address.stderr
        assert [actor["name"] for actor in json.loads(status.stdout)["actors"]] == ["met"]
        assert ca.get(double.remote(1), timeout=10) == 2, "the guests left the cluster alone"
        assert ca.get(met.add.remote(), timeout=10) == 7
    none = run_cli("status")
    assert none.returncode == 3
    assert "no local cluster" in none.stderr


@pytest.mark.debian_redis
def test_a_node_finds_its_address_and_key_in_the_environment(server: Server):
    key_file = server.folder / "ring"
    key_file.write_text(server.key)
    environment = {"CELERY_ACTORS_ADDRESS": server.url}
    node = subprocess.Popen(
        [sys.executable, "-m", "celery_actors", "worker", "--key-file", str(key_file)],
        env={**plain_environment(), **environment}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with ca.init(server.url, key_file=key_file):
            assert ca.get(double.remote((1,)), timeout=20) == (1, 1)
    finally:
        node.terminate()
        assert node.wait(20) == 0
