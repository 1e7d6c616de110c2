"""`celery_actors doctor`, and what a node says of its store as it starts."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.embedded import newest_address
from tests.acceptance.commands import run_cli
from tests.integration.matrix import free_port
from tests.integration.support import Server, node_on, redis_server

pytestmark = pytest.mark.debian_redis

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def checks(*words: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run the command; return its status and what it found, by name."""
    run = run_cli("doctor", "--json", *words, environment=environment)
    assert "Traceback" not in run.stderr, run.stderr
    found = json.loads(run.stdout)
    assert found["ok"] is (run.returncode == 0)
    return run.returncode, {each["name"]: each for each in found["checks"]}


def test_a_durable_store_with_a_key_is_fine():
    with redis_server(*DURABLE) as server, node_on(server) as node:
        status, found = checks("--address", server.url, CELERY_ACTORS_KEYS=server.key)
        assert status == 0
        assert {each["state"] for each in found.values()} == {"ok"}
        assert found["nodes"]["seen"] == "1 alive"
        assert "appendonly" not in node.log.read_text()

        run = run_cli("doctor", "--address", server.url, environment=server.environment())
        assert run.returncode == 0
        assert "signing key" in run.stdout
        assert server.key not in run.stdout


def test_what_is_wrong_is_shown_with_its_cure_and_the_node_logs_the_same(server: Server):
    with contextlib.closing(server.client()) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    with node_on(server) as node:
        run = run_cli("doctor", "--address", server.url)
        logged = node.log.read_text()

    assert run.returncode == 1
    for cure in ("set `appendonly yes`", "set `maxmemory-policy noeviction`"):
        assert cure in run.stdout
        assert logged.count(cure) == 1
    assert "celery_actors keygen" in run.stdout


def test_what_the_users_acl_forbids_is_not_known(server: Server):
    words = ("~*", "&*", "+@all", "-config", "-info")
    with contextlib.closing(server.client()) as client:
        client.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", *words)
    address = server.url.replace("unix://", "unix://narrow:pw@")

    status, found = checks("--address", address, CELERY_ACTORS_KEYS=server.key)

    assert status == 0
    for name in ("server version", "appendonly", "maxmemory-policy"):
        assert found[name]["state"] == found[name]["seen"] == "not known"
    with contextlib.closing(server.client()) as client:
        client.execute_command("ACL", "SETUSER", "narrow", "+info")
    _, found = checks("--address", address, CELERY_ACTORS_KEYS=server.key)
    assert found["appendonly"]["state"] == "wrong"
    server.url = address
    with node_on(server), ca.init(address, keys=server.key):
        assert ca.nodes()[0]["Alive"]


def test_a_store_that_does_not_answer_is_wrong_and_keeps_its_password():
    port = free_port()
    run = run_cli("doctor", "--address", f"redis://:hunter2@127.0.0.1:{port}/0")
    assert run.returncode == 1
    assert f"127.0.0.1:{port}" in run.stdout
    assert "hunter2" not in run.stdout + run.stderr
    status, found = checks("--address", f"redis://:hunter2@127.0.0.1:{port}/0")
    assert (status, found["store"]["state"]) == (1, "wrong")


@pytest.mark.parametrize("lasts", [False, True])
def test_an_embedded_store_says_one_quiet_line_at_most(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, lasts: bool
):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    with ca.init(num_cpus=1, storage=short_path / "kept" if lasts else None):
        socket = newest_address().socket_path
        assert socket is not None
        log = (socket.parent / "log").read_text()
    assert log.count("storage=") == (0 if lasts else 1)
    assert "WARNING celery_actors" not in log
