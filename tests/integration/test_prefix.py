"""A Celery deployment with a ``global_keyprefix``, whose user may touch nothing beside it.

The server refuses whatever is not under the prefix, and the test that ends it looks for keys that
lie elsewhere (``support.redis_server``). With ``CELERY_ACTORS_TEST_PREFIX=1`` every other test of
this folder runs so, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis
from celery import Celery

import celery_actors as ca
from celery_actors.address import Address
from celery_actors.shared_memory import HOST_VARIABLE
from tests.integration import acl
from tests.integration.actors import Counter, double
from tests.integration.command_line import as_json, command
from tests.integration.deployments import (
    PROJECT,
    Deployment,
    deployment,
)
from tests.integration.flower import needs_broker_page, serving
from tests.integration.matrix import celery_settings
from tests.integration.stores import replicated, tls_server
from tests.integration.support import ROOT, Server, client_of, node_on, redis_server
from tests.prefixed import PREFIX, outside, with_prefix
from tests.waits import wait_until

pytestmark = pytest.mark.debian_redis


class Shelf:
    """Counts and tells how; a durable actor in some tests."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def put(self, word: str) -> int:
        self.words.append(word)
        return len(self.words)

    def put_once_crashed(self, mark: str) -> int:
        if not os.path.exists(mark):  # noqa: PTH110 - the actor is small
            with open(mark, "x"):  # noqa: PTH123
                os.kill(os.getpid(), signal.SIGKILL)
        return self.put("again")

    def content(self) -> list[str]:
        return self.words

    def each(self, count: int) -> Iterator[int]:
        yield from range(count)

    def size_of(self, array: Any) -> float:
        return float(array.sum())

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture(scope="module")
def found() -> Iterator[Deployment]:
    """A project with a prefix: its app, a stock worker, a node with ``-A``."""
    with deployment(prefix=PREFIX) as running:
        yield running


@contextlib.contextmanager
def plain_client(server: Server) -> Iterator[redis.Redis]:
    """Give a client that sees the server as it is."""
    address = Address.parse(server.admin_url or server.url)
    with contextlib.closing(redis.Redis.from_url(address.server_url)) as client:
        yield client


def run_celery(found: Deployment, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``celery -A project actors …``."""
    variables = {**found.server.environment(), **found.variables, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", PROJECT, "actors", *words], env=variables, cwd=ROOT,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_stock_producer_reaches_a_named_actor_by_its_bare_queue(found: Deployment) -> None:
    shop = found.shop
    actor = shop.Counter.options(name="c1").remote()
    assert shop.actors.get(actor.add.remote(1), timeout=20) == 1
    queue = ca.actor_queue("default", "c1")
    assert queue == "ca.actor.default.c1"
    sent = shop.app.send_task("Counter.add", args=[2], queue=queue)
    assert sent.get(timeout=20) == 3
    assert shop.app.AsyncResult(actor.add.remote(4).id).get(timeout=20) == 7
    with plain_client(found.server) as client:
        assert client.exists(f"{PREFIX}celery-task-meta-{sent.id}")
        assert client.hget(f"{PREFIX}ca:names", "default\x1fc1")
        assert outside(client) == []
    shop.actors.kill(actor)


def test_a_killed_actor_comes_back_and_repeats_its_call(found: Deployment, tmp_path: Any) -> None:
    actors = found.shop.actors
    actor = actors.remote(max_restarts=1, max_task_retries=1)(Shelf).remote()
    assert actors.get(actor.put_once_crashed.remote(str(tmp_path / "mark")), timeout=30) == 1
    with plain_client(found.server) as client:
        assert outside(client) == []
    actors.kill(actor)


def test_a_durable_actor_keeps_its_state_and_its_reminders(found: Deployment) -> None:
    actors = found.shop.actors
    actor = actors.remote(durable=True, name="shelf")(Shelf).remote()
    assert actors.get(actor.put.remote("first"), timeout=20) == 1
    os.kill(actors.get(actor.pid.remote(), timeout=20), signal.SIGKILL)
    actor.remind("tick", method="put", after=0, args=["tick"])
    wait_until(
        lambda: actors.get(actor.content.remote(), timeout=30) == ["first", "tick"],
        "the state, and what the reminder has added", 30,
    )  # fmt: skip
    actors.kill(actor)


def test_values_are_passed_one_by_one_and_in_buffers(found: Deployment) -> None:
    actors = found.shop.actors
    actor = actors.remote(Shelf).remote()
    assert [actors.get(ref, timeout=20) for ref in actor.each.remote(5)] == [*range(5)]
    ref = actors.put(np.ones(1_000_000))
    assert actors.get(actor.size_of.remote(ref), timeout=30) == 1_000_000
    actors.kill(actor)


def test_the_command_line_finds_the_prefix_in_the_app(found: Deployment) -> None:
    shop = found.shop
    actor = shop.Counter.options(name="listed").remote()
    shop.actors.get(actor.add.remote(5), timeout=20)
    listed = run_celery(found, "list", "actors", "--json")
    assert "listed" in {each["name"] for each in json.loads(listed.stdout)}, listed.stderr
    status = run_celery(found, "status")
    assert f"global_keyprefix={PREFIX}" in status.stdout, status.stderr
    assert "tenant-pw" not in status.stdout + status.stderr
    assert run_celery(found, "call", "listed", "add", "2").stdout.strip() == "7"
    first, second = (run_celery(found, "load-scripts").stdout.strip() for _ in range(2))
    loaded = "every script was there" if acl.IN_FORCE else "loaded 3 scripts"
    assert first == loaded, "Celery's own, of chords"
    assert second == "every script was there"
    assert "answers at" in run_celery(found, "doctor").stdout
    named = as_json(found.server.url, "get", "listed")
    assert named["name"] == "listed", "and an address says it, too"
    shop.actors.kill(actor)


@needs_broker_page
def test_flower_shows_actors_and_the_lengths_of_queues(found: Deployment) -> None:
    shop = found.shop
    actor = shop.Counter.options(name="flowered").remote()
    shop.actors.get(actor.add.remote(5), timeout=20)
    words = ["celery", "-A", PROJECT, "actors", "flower", "--port", "0"]
    everything = {**found.server.environment(), **found.variables}
    with serving(found.server.folder, words, environment=everything) as flower:
        row = wait_until(lambda: flower.actor("flowered"), "the actor's row", 20)
        assert row["state"] == "ALIVE"
        wait_until(lambda: flower.worker("Counter-flowered"), "Flower hears of the worker", 30)
        assert "ca.actor.default.flowered" in flower.page("/broker")
    shop.actors.kill(actor)


def test_three_deployments_on_one_database_do_not_meet() -> None:
    with redis_server(prefix="", with_acl=False) as server, contextlib.ExitStack() as stack:
        bare = server.url
        totals, handles = {}, []
        for number, prefix in enumerate(["", "shop:", "shop:eu:"]):
            server.url = server.admin_url = with_prefix(bare, prefix)
            stack.enter_context(node_on(server, name=f"node{number}"))
            app = Celery("deployment", set_as_current=False)
            app.conf.update(celery_settings(server.url))
            actors = stack.enter_context(ca.Actors(app, keys=server.key))
            counter = actors.remote(Counter.__celery_actors_wrapped__)
            actor = counter.options(name="counter").remote()
            handles.append(actor)
            actors.get(actor.add.remote(number + 1), timeout=20)
            sent = app.send_task(
                "Counter.add", args=[10], queue=ca.actor_queue("default", "counter")
            )
            totals[prefix] = sent.get(timeout=20)
            stack.callback(app.close)
            assert [node["host"] for node in as_json(server.url, "list", "nodes")] == [
                f"node{number}"
            ]
            assert len(as_json(server.url, "list", "actors")) == 1
        assert totals == {"": 11, "shop:": 12, "shop:eu:": 13}
        with contextlib.closing(redis.Redis.from_url(bare)) as client:
            for prefix in totals:
                assert client.hlen(f"{prefix}ca:names") == 1
        server.url = bare


def test_large_values_go_through_the_store_between_hosts() -> None:
    with (
        redis_server(prefix=PREFIX) as server,
        node_on(server, variables={HOST_VARIABLE: "far"}),
        ca.init(server.url, keys=server.key),
    ):
        assert (ca.get(double.remote(np.ones(1_000_000)), timeout=30) == 2).all()


def test_with_rabbitmq_only_the_store_has_the_prefix() -> None:
    with deployment("rabbitmq", prefix=PREFIX) as found:
        shop = found.shop
        actor = shop.Counter.options(name="raw").remote()
        assert shop.actors.get(actor.add.remote(1), timeout=20) == 1
        sent = shop.app.send_task("Counter.add", args=[2], queue=ca.actor_queue("default", "raw"))
        assert sent.get(timeout=20) == 3
        shop.actors.kill(actor)


def test_calls_pass_over_tls() -> None:
    with tls_server() as server:
        bare = server.url
        server.url = with_prefix(bare)
        _call(server)
        with contextlib.closing(redis.Redis.from_url(bare)) as client:
            assert outside(client) == []


@pytest.mark.slow
def test_calls_pass_where_sentinels_name_the_primary() -> None:
    with replicated(sentinels=1) as store:
        primary = f"redis://127.0.0.1:{store.primary()}/0"
        server: Any = store
        server.url = with_prefix(store.url)
        server.client = lambda: client_of(with_prefix(primary))
        _call(server)
        with contextlib.closing(redis.Redis.from_url(primary)) as client:
            assert outside(client) == []


def _call(server: Any) -> None:
    with node_on(server), ca.init(server.url, keys=server.key) as context:
        actor = Counter.remote()
        ref = actor.add.remote(2)
        assert ca.get(ref, timeout=20) == 2
        assert context.app.AsyncResult(ref.id).get(timeout=10) == 2
        wait_until(
            lambda: any("node@test" in each for each in context.app.control.ping(timeout=0.5)),
            "the node answers Celery's remote control", 20,
        )  # fmt: skip


def test_a_node_that_would_not_find_its_app_says_so() -> None:
    with redis_server(prefix="") as server:
        settings = json.dumps(celery_settings(with_prefix(server.url, PREFIX)))
        variables = {"SHOP_SETTINGS": settings, "SHOP_NOTES": ""}
        with node_on(server, "-A", PROJECT, variables=variables) as node:
            said = wait_until(
                lambda: [line for line in node.log.read_text().splitlines() if "Start" in line],
                "a word about the prefix", 30,
            )  # fmt: skip
    assert "global_keyprefix 'shop:', and this node's address has ''" in said[0]
    assert said[0].endswith(f"global_keyprefix={PREFIX}")


def test_a_command_without_the_prefix_is_told_what_the_server_refuses(found: Deployment) -> None:
    address = Address.parse(found.server.url).server_url
    said = command("status", "--address", address)
    assert said.exit_code != 0
    assert "no permissions to access one of the keys" in said.output
    with contextlib.closing(found.server.client()) as client:
        client.acl_log_reset()
