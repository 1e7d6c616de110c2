"""Large values on several hosts, and what is left of them when processes are killed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import celery_actors as ca
from celery_actors.shared_memory import HOST_VARIABLE
from tests.census import SHARED_MEMORY, shared_memory
from tests.integration.actors import double
from tests.integration.large import (
    MEGABYTE,
    buffers,
    far_ones,
    far_sum,
    mapped_inode,
    near_inode,
)
from tests.integration.support import (
    Server,
    join,
    node_on,
    redis_server,
    running_script,
    wait_empty,
    wait_until,
)

# -- nothing is left behind ------------------------------------------------------------------


@contextlib.contextmanager
def joined(server: Server) -> Iterator[ca.ClusterContext]:
    context = join(server)
    try:
        yield context
    finally:
        ca.shutdown()


def test_a_killed_node_leaves_nothing_in_shared_memory(server: Server):
    before = shared_memory()
    with node_on(server) as node, joined(server):
        ref = ca.put(np.ones(MEGABYTE))
        value = ca.get(ref)
        assert shared_memory() > before

        node.kill()

        wait_until(lambda: shared_memory() == before, "the folder of the killed node is gone")
        assert value.sum() == MEGABYTE
        with pytest.raises(ca.ObjectLostError, match=f"node {node.name}-"):
            ca.get(ref, timeout=30)


def test_a_killed_driver_with_a_cluster_of_its_own_leaves_nothing(tmp_path: Path):
    before = shared_memory()
    text = """
import celery_actors as ca, numpy as np
ca.init(num_cpus=1)
ref = ca.put(np.ones(1_000_000))
print("ready", flush=True)
input()
"""
    with running_script(tmp_path, text) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert shared_memory() > before
        process.kill()
        process.wait()
        wait_until(lambda: shared_memory() == before, "the folder of its node is gone")


def test_a_starting_node_removes_what_a_node_left_whose_sweeper_was_killed_too(server: Server):
    dead = SHARED_MEMORY / f"ca-test-{os.urandom(4).hex()}"
    dead.mkdir(mode=0o700)
    (dead / "node").write_text(dead.name[3:])
    with node_on(server):
        wait_until(lambda: not dead.exists(), "the folder of the dead node is gone")


# -- two hosts -------------------------------------------------------------------------------


@pytest.fixture
def two_hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Two nodes that take each other for another host; the driver is on the near one."""
    with contextlib.ExitStack() as stack:
        limit = ("--maxmemory", "80mb", "--maxmemory-policy", "noeviction")
        server = stack.enter_context(redis_server(*limit))
        for name in ("far", "near"):
            monkeypatch.setenv(HOST_VARIABLE, name)
            words = ("--resources", json.dumps({name: 2}))
            stack.enter_context(node_on(server, *words, name=name))
        stack.enter_context(joined(server))
        yield server


def test_values_go_both_ways_between_hosts(two_hosts: Server):
    result = far_ones.remote(MEGABYTE)
    here = ca.get(result, timeout=30)
    there = ca.get(far_sum.remote(np.full(MEGABYTE, 3.0)), timeout=30)

    assert not here.flags.writeable
    assert here.sum() == MEGABYTE
    assert there == 3 * MEGABYTE


def test_processes_of_one_host_share_the_copy_of_another_hosts_value(two_hosts: Server):
    result = far_ones.remote(MEGABYTE)
    mine = mapped_inode(ca.get(result, timeout=30))

    assert mine
    assert ca.get(near_inode.remote(result), timeout=30) == mine


def test_a_value_of_another_host_is_gone_with_its_last_reference(two_hosts: Server):
    result = far_ones.remote(MEGABYTE)
    here = ca.get(result, timeout=30)
    assert len(buffers(two_hosts.url)) == 2

    del result

    wait_empty(lambda: buffers(two_hosts.url), "neither the value nor its copy is left", 20)
    assert here.sum() == MEGABYTE


@pytest.mark.parametrize("size", [16, pytest.param(128, marks=pytest.mark.slow)])
def test_up_to_a_gigabyte_passes_through_a_store_of_80_megabytes(two_hosts: Server, size: int):
    result = far_ones.remote(size * MEGABYTE)

    assert ca.get(result, timeout=60)[:: MEGABYTE // 8].sum() == 8 * size
    assert ca.get(far_sum.remote(ca.put(np.ones(16 * MEGABYTE))), timeout=60) == 16 * MEGABYTE


def test_a_value_of_a_killed_host_is_lost_and_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(HOST_VARIABLE, "far")
    with node_on(server, "--resources", '{"far": 1}', name="far") as node:
        monkeypatch.setenv(HOST_VARIABLE, "near")
        with joined(server):
            lasting = far_ones.remote(MEGABYTE)
            result = far_ones.options(max_retries=0).remote(MEGABYTE)
            assert len(ca.wait([lasting, result], num_returns=2, timeout=30)[0]) == 2

            node.kill()

            with pytest.raises(ca.ObjectLostError, match=r"far-.*dead"):
                ca.get(result, timeout=30)
            with pytest.raises(ca.GetTimeoutError, match="makes it again"):
                ca.get(lasting, timeout=3)  # no node is left that could


def test_a_driver_without_a_node_sends_through_the_store_and_fetches(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(HOST_VARIABLE, "far")
    with node_on(server):
        monkeypatch.setenv(HOST_VARIABLE, "laptop")
        with joined(server):
            result = double.remote(np.ones(MEGABYTE))
            assert ca.get(result, timeout=30).sum() == 2 * MEGABYTE
            del result
            wait_empty(lambda: buffers(server.url), "neither argument nor result is left", 20)


def test_a_full_store_is_told_with_what_to_do(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(HOST_VARIABLE, "no-node-here")
    with contextlib.closing(server.client()) as client:
        client.config_set("maxmemory", "32mb")
    with joined(server), pytest.raises(ca.ObjectStoreFullError, match=r"80000000 bytes.*max"):
        ca.put(np.ones(10_000_000))
