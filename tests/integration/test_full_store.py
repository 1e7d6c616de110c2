"""A store whose memory is full: callers are told, what was accepted is worked off, nobody dies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import celery_actors as ca
from celery_actors.exceptions import StoreFullError
from tests.integration.actors import Counter, Scribe, double, held
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until


@contextlib.contextmanager
def full(cluster: Cluster) -> Iterator[None]:
    """Let the store refuse whatever needs memory."""
    with cluster.client() as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


def nodes_renewed(cluster: Cluster) -> None:
    """Wait until every node has renewed its lease since now, three times over."""
    with cluster.client() as client:
        for node in client.hkeys("ca:nodes"):
            lease = f"ca:node:{node.decode()}"
            for _ in range(3):
                client.pexpire(lease, 2_500)
                wait_until(lambda lease=lease: client.pttl(lease) > 2_600, "the lease is renewed")


@pytest.mark.parametrize("options", [{}, {"max_restarts": -1}, {"max_concurrency": 2}], ids=str)
def test_what_waits_for_an_actor_is_worked_off(
    cluster: Cluster, tmp_path: Path, options: dict[str, int]
):
    gate = Gate(tmp_path)
    scribe = Scribe.options(**options).remote(str(tmp_path / "journal"))
    running = scribe.hold.remote(gate.path)
    gate.wait_reached()
    waiting = [scribe.write.remote(str(number)) for number in range(300)]
    ca.wait(waiting, timeout=0)

    with full(cluster):
        refused = scribe.write.remote("refused")
        with pytest.raises(StoreFullError, match=r"refused 1 calls to .*Scribe.* it is full"):
            ca.get(refused, timeout=20)
        gate.open()
        assert ca.get(running, timeout=20) == "passed"
        assert ca.get(waiting, timeout=30) == [str(number) for number in range(300)]
        nodes_renewed(cluster)
        with pytest.raises(StoreFullError):
            ca.get(scribe.write.remote("refused"), timeout=20)

    assert ca.get(scribe.write.remote("after"), timeout=20) == "after"
    written = (tmp_path / "journal").read_text().split()[1:]
    assert written.count("refused") == 0
    assert sorted(written) == sorted([*map(str, range(300)), "after"])
    if "max_concurrency" not in options:
        assert written[-1] == "after"


def test_functions_that_wait_are_worked_off_and_their_workers_started(
    cluster: Cluster, tmp_path: Path
):
    gate = Gate(tmp_path)
    running = [held.remote(gate.path) for _ in range(2)]
    gate.wait_reached(times=2)
    waiting = [double.remote((number,)) for number in range(50)]
    others = [double.options(num_cpus=0.5).remote((number,)) for number in range(10)]
    ca.wait([*waiting, *others], timeout=0)

    with full(cluster):
        gate.open()
        assert ca.get(running, timeout=20) == ["passed"] * 2
        assert ca.get(waiting, timeout=30) == [(number, number) for number in range(50)]
        assert ca.get(others, timeout=30) == [(number, number) for number in range(10)]
        with pytest.raises(StoreFullError, match=r"calls to functions .queue ca\.tasks"):
            ca.get(double.remote((1,)), timeout=20)

    assert ca.get(double.remote((1,)), timeout=20) == (1, 1)


def test_actors_that_were_accepted_start_and_new_ones_are_refused(cluster: Cluster, tmp_path: Path):
    gate = Gate(tmp_path)
    running = [held.remote(gate.path) for _ in range(2)]
    gate.wait_reached(times=2)
    accepted = Counter.options(num_cpus=1).remote(5)
    call = accepted.add.remote()
    ca.wait([call], timeout=0)

    with full(cluster):
        with pytest.raises(StoreFullError, match="is full"):
            Counter.remote()
        gate.open()
        assert ca.get(call, timeout=30) == 6
        assert ca.get(running, timeout=20) == ["passed"] * 2
        ca.kill(accepted)
        with pytest.raises(ca.ActorDiedError):
            ca.get(accepted.add.remote(), timeout=20)

    assert ca.get(Counter.remote().add.remote(), timeout=20) == 1
