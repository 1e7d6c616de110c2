"""`deploy/users.acl`: who may do what with the store, and that it is enough."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import celery_actors as ca
from celery_actors.config import new_key
from celery_actors.store.sources import SOURCES
from tests.acceptance.commands import run_cli
from tests.integration import acl
from tests.integration.actors import Counter
from tests.integration.matrix import free_port
from tests.integration.stores import answers
from tests.integration.support import (
    ROOT,
    Server,
    client_of,
    embedded_server,
    redis_server,
    require_redis_server,
)
from tests.waits import wait_until

#: A part of the semantics suite, run as the user of `users.acl`. All of it: see CONTRIBUTING.md.
SELECTION = [
    "tests/integration/test_celery.py",
    "tests/integration/test_durable.py",
    "tests/integration/test_names.py",
    "tests/integration/test_placement_groups.py",
]
#: What the package asks for and does without: see `celery_actors.store_check`.
DONE_WITHOUT = {"CONFIG"}


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.debian_redis)])
def guarded(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with the users of the file."""
    program = embedded_server() if request.param == "valkey" else require_redis_server()
    with redis_server(program=program, with_acl=True) as found:
        yield found


def as_user(server: Server, user: str) -> redis.Redis:
    """Return a client of one of the users."""
    return client_of(acl.as_user(f"unix://{server.folder}/redis.sock", user))


def granted(user: str) -> set[str]:
    """Return the commands that the file gives to a user, without its subcommands."""
    (rule,) = re.findall(rf"^user {user} .*$", acl.FILE.read_text(), flags=re.MULTILINE)
    return {word.upper() for word in re.findall(r"\+([a-z]+)", rule)}


def words_of_package() -> set[str]:
    """Return what the package's code names in capitals, commands among them."""
    package = ROOT / "celery_actors"
    named = set()
    for file in package.rglob("*.py"):
        named |= set(re.findall(r'"([A-Z]{2,})"', file.read_text()))
    for source in SOURCES.values():
        named |= set(re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", source.decode()))
    return named


REFUSED = [
    "EVAL|return 1|0", "SCRIPT|LOAD|return 1", "SCRIPT|FLUSH", "FUNCTION|LIST", "FLUSHALL",
    "FLUSHDB", "KEYS|*", "SCAN|0", "CONFIG|GET|*", "CONFIG|SET|save|", "MODULE|LIST",
    "REPLICAOF|NO|ONE", "SHUTDOWN", "ACL|LIST", "MONITOR", "CLIENT|LIST", "SAVE",
    "RENAME|ca:x|ca:y", "GET|others", "SET|others|1", "DEL|others", "PUBLISH|others|1",
    "SUBSCRIBE|others", "CLUSTER|INFO", "MIGRATE|h|1|ca:x|0|1", "SORT|ca:x", "LATENCY|RESET",
]  # fmt: skip


def test_nodes_and_drivers_may_do_nothing_beyond_their_keys_and_commands(guarded: Server):
    with as_user(guarded, "celery-actors") as client:
        for command in REFUSED:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split("|"))
        client.set("ca:mine", 1)
        assert client.get("ca:mine") == b"1"
    _forget_refusals(guarded)


def test_who_loads_scripts_can_run_none_and_reads_nothing(guarded: Server):
    with as_user(guarded, "scripts") as client:
        digest = client.script_load("return redis.call('GET', KEYS[1])")
        for command in (f"EVALSHA|{digest}|1|ca:x", "EVAL|return 1|0", "GET|ca:x", "SET|ca:x|1"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split("|"))
    _forget_refusals(guarded)


def test_flower_reads_what_is_the_clusters_and_changes_none_of_it(guarded: Server):
    with guarded.client() as admin:
        admin.hset("ca:nodes", "here", "1")
        push = admin.script_load("return redis.call('LPUSH', KEYS[1], 'x')")
    with as_user(guarded, "flower") as client:
        assert client.hgetall("ca:nodes") == {b"here": b"1"}
        for command in ("HSET|ca:nodes|x|1", "LPUSH|ca.tasks.cpu1|x", "DEL|ca:nodes",
                        "SCRIPT|LOAD|return 1", "GET|others"):  # fmt: skip
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split("|"))
        with pytest.raises(redis.ResponseError):
            client.evalsha(push, 1, "ca.tasks.cpu1")
    with guarded.client() as admin:
        assert not admin.exists("ca.tasks.cpu1")
        admin.delete("ca:nodes")
    _forget_refusals(guarded)


def test_a_scaler_counts_what_waits_and_no_more(guarded: Server):
    count = """
    local kind = redis.call('type', KEYS[1]).ok
    return redis.call(({list = 'llen', none = 'llen'})[kind], KEYS[1])
    """
    with guarded.client() as admin:
        admin.lpush("ca.create.none", "a", "b")
    with as_user(guarded, "keda") as client:
        assert client.eval(count, 1, "ca.create.none") == 2
        assert client.eval(count, 1, "ca.tasks.cpu1") == 0
        for text in ("LRANGE|ca.create.none|0|-1", "RPOP|ca.create.none", "GET|ca:x"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*text.split("|"))
        with pytest.raises(redis.ResponseError):
            client.eval("return redis.call('RPOP', KEYS[1])", 1, "ca.create.none")
    with guarded.client() as admin:
        assert admin.llen("ca.create.none") == 2
        admin.delete("ca.create.none")
    _forget_refusals(guarded)


def test_nobody_comes_in_without_a_name(guarded: Server):
    with (
        client_of(f"unix://{guarded.folder}/redis.sock") as stranger,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        stranger.ping()


def _forget_refusals(server: Server) -> None:
    """Empty the server's list of refusals: these were meant, others fail the test as it ends."""
    with server.client() as admin:
        assert acl.refused(admin), "the server noted them"
        admin.acl_log_reset()


def test_every_command_of_the_package_is_given_and_nothing_dangerous(guarded: Server):
    with guarded.client() as admin:
        commands = {name.decode().upper() for name in admin.command_list()}
        dangerous = {
            name.decode().upper() for name in admin.execute_command("ACL", "CAT", "dangerous")
        }
    others = {"DEBUG", "MODULE", "READONLY"}  # words of other meanings in the package
    missing = (words_of_package() & commands) - granted("celery-actors") - DONE_WITHOUT - others

    assert missing == set()
    # INFO tells no secret; CLIENT is three of its subcommands.
    assert granted("celery-actors") & dangerous <= {"INFO", "CLIENT"}


def test_a_store_without_the_scripts_is_told_with_the_cure_and_heals(tmp_path: Path):
    port = free_port()
    settings = acl.write_settings(tmp_path, acl.write_users(tmp_path), str(port))
    url = f"redis://127.0.0.1:{port}/0"
    with subprocess.Popen([embedded_server(), settings], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: answers(acl.as_user(url, "admin")), "the server answers")
            address = acl.as_user(url, "celery-actors")
            with (
                pytest.raises(ca.exceptions.ClusterUnreachableError, match="load-scripts"),
                ca.init(address, keys=new_key()),
            ):
                Counter.remote()
            refused = run_cli("load-scripts", "--address", address)
            assert refused.returncode == 3
            assert "may not load" in refused.stderr
            scripts = acl.as_user(url, "scripts")
            first, second = (run_cli("load-scripts", "--address", scripts) for _ in range(2))
            assert re.fullmatch("loaded [0-9]+ scripts\n", first.stdout), first.stderr
            assert second.stdout == "every script was there\n"
        finally:
            process.kill()


@pytest.mark.debian_redis
@pytest.mark.timeout(300)
def test_a_part_of_the_suite_passes_as_the_user():
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SELECTION]
    run = subprocess.run(
        words, check=False, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "CELERY_ACTORS_TEST_ACL": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert run.returncode == 0, run.stdout[-6000:]
    passed = re.search(r"([0-9]+) passed", run.stdout)
    assert passed
    assert int(passed[1]) > 60
