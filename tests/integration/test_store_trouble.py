"""A store in trouble while calls are under way: none is lost, none runs twice, order is kept."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import redis

import celery_actors as ca
from tests.integration.actors import held
from tests.integration.gates import Gate
from tests.integration.load import under_load
from tests.integration.support import Cluster


def pid_of(client: redis.Redis) -> int:
    return int(client.info("server")["process_id"])


def test_connections_that_are_cut(cluster: Cluster, tmp_path: Path):
    with under_load(tmp_path) as load, cluster.client() as client:
        for turn in range(1, 13):
            load.wait_done(turn * load.total // 14)
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)


def test_scripts_that_are_flushed(cluster: Cluster, tmp_path: Path):
    with under_load(tmp_path) as load, cluster.client() as client:
        for turn in range(1, 13):
            load.wait_done(turn * load.total // 14)
            client.script_flush()


def test_a_server_that_pauses_its_clients(cluster: Cluster, tmp_path: Path):
    """The last pause is longer than a node's lease, and ends connections that were cut in it."""
    with under_load(tmp_path) as load, cluster.client() as client:
        for turn in range(1, 6):
            load.wait_done(turn * load.total // 8)
            client.client_pause(200)
        load.wait_done(6 * load.total // 8)
        client.client_kill_filter(_type="normal", skipme=True)
        client.client_pause(4_000)


def test_a_server_that_stands_still_for_longer_than_a_lease(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    waiting = held.remote(gate.path)
    gate.wait_reached()
    with under_load(tmp_path) as load, cluster.client() as client:
        server = pid_of(client)
        load.wait_done(load.total // 4)
        os.kill(server, signal.SIGSTOP)
        try:
            with pytest.raises(ca.GetTimeoutError):
                ca.get(waiting, timeout=5)
        finally:
            os.kill(server, signal.SIGCONT)
    gate.open()
    assert ca.get(waiting, timeout=20) == "passed"
