"""init() and shutdown(): what they return, refuse and leave."""

from __future__ import annotations

import json
import socket
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import celery_actors as ca
from tests.integration import acl
from tests.integration.actors import Counter, double
from tests.integration.gates import Gate
from tests.integration.support import (
    Server,
    client_of,
    join,
    node_on,
    run_script,
    running,
    wait_until,
)

KEY = "ab" * 32


@pytest.mark.skipif(acl.IN_FORCE, reason="a local cluster has no users")
@pytest.mark.own_store("looks at the folder of a local cluster")
def test_the_context_is_also_a_mapping():
    with running("valkey") as cluster:
        context = cluster.context
        assert dict(context).keys() >= {"address", "namespace", "node_id"}
        for name in ("address", "namespace", "node_id"):
            assert context[name] == getattr(context, name)
        assert context.address.startswith("redis+socket://")
        assert ca.is_initialized()
        (node,) = ca.nodes()
        assert node["NodeID"] == context.node_id
        assert node["Alive"]
        assert ca.cluster_resources()["CPU"] == 2
        folder = Path(context.address.removeprefix("redis+socket://")).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "key").stat().st_mode & 0o077 == 0
    assert not ca.is_initialized()


def test_resources_are_taken_and_given_back():
    with ca.init(num_cpus=3, resources={"ssd": 2}):
        total = ca.cluster_resources()
        assert (total["CPU"], total["ssd"]) == (3, 2)
        actor = Counter.options(num_cpus=1, resources={"ssd": 1}).remote()
        ca.get(actor.add.remote(), timeout=10)
        deadline = time.monotonic() + 10
        left = total | {"CPU": 2, "ssd": 1}
        while ca.available_resources() != left and time.monotonic() < deadline:
            assert ca.get(actor.add.remote(), timeout=10)
        assert ca.available_resources() == left
        ca.kill(actor)
        while ca.available_resources() != total and time.monotonic() < deadline + 10:
            assert ca.get(double.remote(1), timeout=10) == 2
        assert ca.available_resources() == total


def test_shutdown_twice_and_before_init_does_nothing():
    ca.shutdown()
    with running("valkey"):
        assert ca.is_initialized()
    ca.shutdown()
    assert not ca.is_initialized()


def test_a_second_cluster_of_one_process_does_not_know_the_first():
    seen = []
    for _ in range(2):
        with running("valkey") as cluster:
            seen.append(cluster.address)
            assert ca.get(double.remote(2), timeout=10) == 4
            with pytest.raises(ValueError, match="nobody"):
                ca.get_actor("nobody")
            Counter.options(name="nobody").remote()
    assert len(set(seen)) == 2


def test_storage_keeps_a_detached_actors_calls_for_the_next_run(tmp_path: Path):
    storage = tmp_path / "storage"
    with ca.init(num_cpus=1, storage=storage, namespace="kept"):
        kept = Counter.options(name="kept", lifetime="detached", max_restarts=-1).remote(5)
        assert ca.get(kept.add.remote(), timeout=10) == 6
    with ca.init(num_cpus=1, storage=storage, namespace="kept"):
        assert ca.get(ca.get_actor("kept").add.remote(), timeout=20) == 6


def test_an_unreachable_store_fails_within_seconds_and_without_its_password():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    began = time.monotonic()

    with pytest.raises(ca.ClusterUnreachableError, match=f"127.0.0.1:{port}") as caught:
        ca.init(f"redis://user:hunter2@127.0.0.1:{port}/0", keys=KEY)

    assert time.monotonic() - began < 10
    assert "hunter2" not in str(caught.value)
    assert not ca.is_initialized()


def test_a_store_that_accepts_and_says_nothing_fails_too():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(ca.ClusterUnreachableError):
            ca.init(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", keys=KEY)
        assert time.monotonic() - began < 15


@pytest.mark.parametrize("address", ["http://x", "amqp://x", "redis//x", "unix://"])
def test_an_address_of_another_kind_is_refused(address: str):
    with pytest.raises(ca.ConfigurationError):
        ca.init(address, keys=KEY)


def test_joining_without_a_key_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CELERY_ACTORS_KEYS", raising=False)

    with pytest.raises(ca.ConfigurationError, match="keygen"):
        ca.init("redis://127.0.0.1:1/0")
    with pytest.raises(ca.ConfigurationError, match="loopback"):
        ca.init("redis://192.0.2.1:6379/0", insecure=True)


def test_resources_of_a_joined_cluster_are_refused():
    with pytest.raises(ca.ConfigurationError, match="num_cpus"):
        ca.init("redis://127.0.0.1:1/0", keys=KEY, num_cpus=2)


@pytest.mark.debian_redis
def test_old_and_new_keys_work_together(server: Server):
    old, new = server.key, "cd" * 32
    server.key = f"{new},{old}"  # the node signs with the new one and accepts both
    with node_on(server), ca.init(server.url, keys=f"{old},{new}"):
        assert ca.get(double.remote((1, 2)), timeout=10) == (1, 2, 1, 2)
        actor = Counter.remote()
        assert ca.get(actor.add.remote(), timeout=10) == 1


@pytest.mark.debian_redis
def test_a_lost_store_ends_every_wait(server: Server):
    with node_on(server):
        join(server)
        try:
            counter = Counter.remote()
            assert ca.get(counter.add.remote(), timeout=10) == 1

            server.process.kill()
            server.process.wait()

            with pytest.raises(ca.ClusterUnreachableError):
                ca.get(counter.add.remote(), timeout=60)
        finally:
            ca.shutdown()


def test_a_store_that_stands_still_holds_up_no_get(gate: Gate):
    with ca.init(num_cpus=1) as context:
        actor = Counter.remote()
        running = actor.hold.remote(gate.path)
        gate.wait_reached()
        # Other tests may have a server of their own below this process.
        socket_path = context.address.removeprefix("redis+socket://")
        (store,) = [
            process
            for process in psutil.Process().children(recursive=True)
            if process.name().startswith("valkey") and socket_path in " ".join(process.cmdline())
        ]
        outcome: list[BaseException] = []

        def wait() -> None:
            try:
                ca.get(running, timeout=4)
            except ca.GetTimeoutError as error:
                outcome.append(error)

        store.suspend()
        try:
            waiting = threading.Thread(target=wait)
            waiting.start()
            wait_until(lambda: outcome, "the get has ended with its time", 10)
            waiting.join()
        finally:
            store.resume()
        gate.open()

        assert ca.get([running, actor.add.remote()], timeout=20) == ["passed", 1]


def test_a_fork_of_the_driver_leaves_its_cluster_alone(tmp_path: Path):
    run = run_script(
        tmp_path,
        textwrap.dedent("""
        import os, sys, warnings
        import celery_actors as ca

        @ca.remote
        def three():
            return 3

        warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads
        ca.init(num_cpus=1)
        child = os.fork()
        if child == 0:
            assert not ca.is_initialized()
            sys.exit(0)
        print("child", os.waitpid(child, 0)[1])
        print("value", ca.get(three.remote(), timeout=20))
        """),
    )
    assert run.stdout.splitlines() == ["child 0", "value 3"]


def test_what_a_driver_holds_does_not_expire():
    with ca.init(num_cpus=1, result_seconds=4) as context, client_of(context.address) as client:
        value = ca.put(np.ones(100_000))
        [folder] = [Path(json.loads(raw)["folder"]) for raw in client.hgetall("ca:nodes").values()]
        [file] = [path for path in folder.iterdir() if path.name.startswith(value.id)]
        written = file.stat().st_mtime
        key = f"celery-task-meta-{value.id}"
        lowest = client.pttl(key)
        assert 0 < lowest <= 4_000

        def renewed() -> bool:
            nonlocal lowest
            left = client.pttl(key)
            lowest = min(lowest, left)
            return left > lowest + 500 and file.stat().st_mtime > written

        wait_until(renewed, "the end was put off")
        assert ca.get(value).sum() == 100_000
