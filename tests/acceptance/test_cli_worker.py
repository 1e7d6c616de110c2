"""The options of `worker` that people know from Celery, and `celery -A proj actors`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.result import AsyncResult

import celery_actors as ca
from celery_actors.packages import package_cache
from tests.acceptance.commands import plain_environment, run_cli
from tests.integration.actors import Counter
from tests.integration.command_line import as_json
from tests.integration.support import (
    ROOT,
    Server,
    family,
    node_on,
    wait_all_gone,
    wait_empty,
    wait_until,
)

pytestmark = [pytest.mark.debian_redis, pytest.mark.timeout(120)]

PROJECT = """
import os
from celery import Celery

app = Celery("proj", broker={url!r}, backend={url!r})
app.conf.broker_connection_retry_on_startup = True
app.conf.result_expires = 60

@app.task(bind=True, default_retry_delay=0)
def flaky(self, path):
    with open(path, "a") as file:
        file.write("tried\\n")
    if self.request.retries < 2:
        raise self.retry()
    return os.getpid()

@app.task
def add(a, b):
    return a + b
"""


@ca.remote
class Eater:
    """Uses memory."""

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def eat(self, megabytes: int) -> int:
        self.held.append(os.urandom(megabytes * 2**20))
        return os.getpid()


@pytest.fixture
def project(server: Server) -> str:
    """A module with a Celery app on the server, in its folder, where the nodes run."""
    url = server.url.replace("unix://", "redis+socket://")
    (server.folder / "proj.py").write_text(PROJECT.format(url=url))
    return url


@contextlib.contextmanager
def client_app(url: str) -> Iterator[Celery]:
    """A plain client of that app."""
    app = Celery("proj", broker=url, backend=url, set_as_current=False)
    try:
        yield app
    finally:
        app.backend.result_consumer.stop()
        app.backend.client.connection_pool.disconnect()
        app.pool.force_close_all()
        app.amqp.producer_pool.force_close_all()
        app.close()


def test_q_serves_queues_of_the_app_with_all_that_celery_does_and_ends_with_the_node(
    server: Server, project: str
):
    words = ("-A", "proj", "-Q", "celery,mail", "--concurrency", "1", "-l", "warning")
    tried = server.folder / "tried"
    with client_app(project) as app, node_on(server, *words, name="both") as node:
        retried = app.send_task("proj.flaky", [str(tried)])
        after = app.signature("proj.add", args=(1, 2), queue="mail")
        after |= app.signature("proj.add", args=(10,), queue="mail")
        chained = after.apply_async()

        pid = retried.get(timeout=60)
        assert chained.get(timeout=30) == 13
        below = family(node.process.pid)
        with ca.init(server.url, keys=server.key):
            counter = Counter.remote()
            assert ca.get(counter.add.remote(), timeout=20) == 1, "the node is as ever"

        assert tried.read_text() == "tried\n" * 3
        assert pid in below
        node.process.terminate()
        assert node.process.wait(30) == 0, node.log.read_text()
        wait_all_gone(below, "the Celery worker has ended, too")
    assert "Traceback" not in node.log.read_text()


def test_a_killed_node_takes_its_celery_worker_with_it(server: Server, project: str):
    with (
        client_app(project) as app,
        node_on(server, "-A", "proj", "-Q", "celery", "-c", "1") as node,
    ):
        result: AsyncResult[int] = app.send_task("proj.add", [1, 2])
        assert result.get(timeout=60) == 3
        below = family(node.process.pid)

        node.kill()

        wait_all_gone(below, "nothing of it runs")
    with package_cache():
        pass  # what a killed node has left of its own is removed by the next one


def test_without_an_address_the_broker_of_the_app_is_the_address(server: Server, project: str):
    process = subprocess.Popen(
        [sys.executable, "-m", "celery_actors", "worker", "-A", "proj", "-n", "w@%h"],
        env={**server.environment(), "PYTHONPATH": f"{ROOT}:{server.folder}"},
        cwd=server.folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with contextlib.closing(server.client()) as client:
            wait_until(lambda: client.hlen("ca:nodes"), "the node is there", 30)
            (name,) = client.hkeys("ca:nodes")
        assert name.startswith(b"w.")
        assert project
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_an_actor_that_outgrows_its_memory_restarts_and_the_cause_says_so(server: Server):
    with (
        node_on(server, "--max-memory-per-actor", "150M"),
        ca.init(server.url, keys=server.key, log_to_driver=False),
    ):
        lasting = Eater.options(max_restarts=1, max_task_retries=0, name="eater").remote()
        mortal = Eater.options(name="mortal").remote()
        small = ca.get([lasting.eat.remote(1), mortal.eat.remote(1)], timeout=20)

        for actor in (lasting, mortal):
            actor.eat.remote(200)

        def last_cause(name: str) -> str:
            return str(as_json(server.url, "get", name)["last_cause"])

        wait_until(lambda: "--max-memory-per-actor" in last_cause("eater"), "it was ended", 20)
        assert ca.get(lasting.eat.remote(1), timeout=20) != small[0], "another process"
        with pytest.raises(ca.ActorDiedError, match=r"MiB of memory, more than the 150 MiB of"):
            ca.get(mortal.eat.remote(1), timeout=20)


def test_a_pidfile_is_there_while_the_node_runs_and_keeps_a_second_one_away(server: Server):
    path = server.folder / "node.pid"
    with node_on(server, "--pidfile", str(path), "--loglevel", "error") as node:
        assert path.read_text() == f"{node.process.pid}\n"

        second = run_cli(
            "worker", "--address", server.url, "--pidfile", str(path),
            environment={"CELERY_ACTORS_KEYS": server.key},
        )  # fmt: skip

        assert second.returncode == 2
        assert f"names process {node.process.pid}, which runs" in second.stderr.splitlines()[-1]
    wait_empty(path.exists, "the file is gone with the node")
    assert "INFO" not in node.log.read_text()


def test_a_node_that_root_starts_runs_as_another_user(server: Server):
    words = ("worker", "--address", server.url, "--uid", "nobody")

    run = run_cli(*words, environment={"CELERY_ACTORS_KEYS": server.key})

    # Root has become nobody, who cannot reach the socket in root's private folder.
    said, status = ("Permission denied", 3) if os.geteuid() == 0 else ("need root", 2)
    assert run.returncode == status
    assert said in run.stderr


def test_an_app_that_cannot_be_imported_is_one_line():
    run = run_cli("worker", "-A", "no.such.app", "-Q", "celery", "--insecure")

    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "the Celery app no.such.app cannot be imported" in line


# -- celery -A proj actors -----------------------------------------------------------------------


@pytest.fixture
def installed(server: Server, project: str) -> dict[str, str]:
    """The environment of Celery's command where this package's entry point is installed."""
    assert project
    with (ROOT / "pyproject.toml").open("rb") as file:
        (entry,) = tomllib.load(file)["project"]["entry-points"]["celery.commands"].items()
    folder = server.folder / "site"
    about = folder / "celery_actors_here-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: celery-actors-here\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[celery.commands]\n{' = '.join(entry)}\n")
    # The variable must not count: the app says where.
    return {**plain_environment(), "PYTHONPATH": f"{ROOT}:{server.folder}:{folder}",
            "CELERY_ACTORS_ADDRESS": "redis://127.0.0.1:1/0",
            "CELERY_ACTORS_KEYS": server.key}  # fmt: skip


def celery(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "celery", *words],
        capture_output=True, text=True, check=False, timeout=60, env=environment,
    )  # fmt: skip


def test_celery_s_own_command_has_the_commands_at_the_app_s_broker(
    server: Server, installed: dict[str, str]
):
    with node_on(server, name="seen"), ca.init(server.url, keys=server.key, namespace="shop"):
        till = Counter.options(name="till").remote()
        ca.get(till.pid.remote(), timeout=20)

        listed = celery(installed, "-A", "proj", "actors", "list", "actors", "--json")
        called = celery(installed, "-A", "proj", "actors", "call", "till", "add", "5")
        missing = celery(installed, "-A", "proj", "actors", "get", "nobody")

    assert [each["name"] for each in json.loads(listed.stdout)] == ["till"], listed.stderr
    assert (called.stdout, called.returncode) == ("5\n", 0), called.stderr
    assert missing.returncode == 1
    assert missing.stderr.startswith("celery_actors: no actor")


def test_celery_starts_without_importing_the_package(installed: dict[str, str]):
    text = (
        "import sys\nfrom celery.bin.celery import celery\n"
        "print('actors' in celery.commands, 'celery_actors' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, env=installed
    )

    assert run.stdout == "True False\n", run.stderr
