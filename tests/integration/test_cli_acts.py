"""The commands that change something: call, kill and stop; and a store that does not answer."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import celery_actors as ca
from tests.integration import acl
from tests.integration.actors import Counter, pass_gate
from tests.integration.command_line import command
from tests.integration.gates import Gate
from tests.integration.matrix import free_port
from tests.integration.support import (
    Server,
    family,
    join,
    node_on,
    redis_server,
    running_script,
    wait_all_gone,
    wait_until,
)


@ca.remote
class Desk:
    """Returns all sorts of things."""

    def sell(self, what: str, count: int = 1, *, discount: float = 0.0) -> dict[str, Any]:
        return {"what": what, "count": count, "discount": discount}

    def tags(self) -> set[str]:
        return {"only"}

    def numbers(self) -> Iterator[int]:
        yield from range(3)

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def hold(self, gate: str) -> str:
        return pass_gate(gate)


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A server and a node, and a lasting actor called desk in the namespace shop.

    No driver: the command joins the cluster itself, in this process.
    """
    with redis_server() as found, node_on(found, name="desk", cpus=2):
        with join(found, namespace="shop"):
            actor = Desk.options(name="desk", lifetime="detached").remote()
            ca.get(actor.tags.remote(), timeout=20)
        yield found
        with join(found, namespace="shop"):
            ca.kill(ca.get_actor("desk"))


def call(server: Server, *words: str) -> Result:
    return command(
        "call", *words, "--address", server.url, environment={"CELERY_ACTORS_KEYS": server.key}
    )


@pytest.mark.debian_redis
def test_call_prints_what_a_method_returns_as_json_where_that_can_say_it(shared: Server):
    plain = call(shared, "desk", "sell", '"té"', "2", "--kwargs", '{"discount": 0.5}')
    python = call(shared, "desk", "tags", "--namespace", "shop")
    wrapped = call(shared, "desk", "tags", "--json")
    yielded = call(shared, "desk", "numbers")

    assert plain.exit_code == 0, plain.stderr
    assert json.loads(plain.stdout) == {"what": "té", "count": 2, "discount": 0.5}
    assert python.stdout == "{'only'}\n"
    assert json.loads(wrapped.stdout) == {"repr": "{'only'}"}
    assert yielded.stdout == "0\n1\n2\n"


@pytest.mark.debian_redis
def test_what_a_method_raises_is_told_in_words_with_status_1(shared: Server):
    failed = call(shared, "desk", "fail", '"no tea\\nleft"')
    wrapped = call(shared, "desk", "fail", '"no tea"', "--json")
    traced = call(shared, "desk", "fail", '"no tea"', "--traceback")

    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr == "celery_actors: desk.fail raised ValueError: no tea left\n"
    assert wrapped.exit_code == 1
    assert json.loads(wrapped.stdout) == {"error": "ValueError", "message": "no tea"}
    assert "raise ValueError(text)" in traced.stderr


@pytest.mark.debian_redis
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            ("desk", "nothing"),
            1,
            "no method 'nothing'; it has: fail, hold, numbers, sell, tags",
        ),
        (("desk", "sell"), 2, "missing a required argument: 'what'"),
        (("desk", "sell", "tea"), 2, """Text is written in double quotes: '"tea"'"""),
        (("desk", "sell", "--kwargs", "[1]"), 2, "--kwargs '[1]' is no JSON object"),
        (("nobody", "sell"), 1, "no actor has the name or the id 'nobody'"),
        (("desk", "tags", "--namespace", "none"), 1, "in the namespace 'none'"),
    ],
)
def test_a_call_that_cannot_be_made_says_what_would_do(
    shared: Server, words: tuple[str, ...], status: int, said: str
):
    run = call(shared, *words)

    assert (run.exit_code, run.stdout) == (status, "")
    (line,) = run.stderr.splitlines()
    assert said in line


@pytest.mark.debian_redis
def test_a_call_without_an_answer_in_time_goes_on(shared: Server, gate: Gate):
    run = call(shared, "desk", "hold", json.dumps(gate.path), "--timeout", "0.2")
    gate.wait_reached()
    gate.open()

    assert run.exit_code == 1
    assert "desk.hold has not answered within 0.2 s; it goes on" in run.stderr
    assert call(shared, "desk", "numbers").stdout == "0\n1\n2\n"


@pytest.mark.debian_redis
def test_kill_ends_an_actor_and_restart_only_its_process(shared: Server):
    with join(shared, namespace="shop"):
        actor = Counter.options(name="victim", max_restarts=1).remote()
        first = ca.get(actor.pid.remote(), timeout=20)
        words = ("kill", "victim", "--address", shared.url)

        restarted = command(*words, "--restart")
        wait_until(lambda: _pid_of(actor) not in (None, first), "another process")
        killed = command(*words, "--json")
        again = command(*words)

        assert restarted.stdout == "Counter(victim) was told to restart\n"
        assert json.loads(killed.stdout)["killed"] is True
        with pytest.raises(ca.ActorDiedError, match="ended by `celery_actors kill`"):
            ca.get(actor.add.remote(), timeout=10)
        assert again.exit_code == 1
        assert "is dead already: it was ended by `celery_actors kill`" in again.stderr


def _pid_of(actor: Any) -> int | None:
    """Return an actor's process; None where that was ended under the call."""
    try:
        return int(ca.get(actor.pid.remote(), timeout=20))
    except ca.ActorUnavailableError:
        return None


# -- stop ----------------------------------------------------------------------------------------


@pytest.mark.debian_redis
def test_stop_ends_the_nodes_of_this_machine_gently_or_by_force(server: Server, gate: Gate):
    with (
        node_on(server, name="one") as one, node_on(server, name="two") as two,
        join(server), contextlib.closing(server.client()) as client,
    ):  # fmt: skip
        actor = Counter.options(num_cpus=1, max_restarts=-1).remote()
        held = actor.hold.remote(gate.path)
        gate.wait_reached()
        below = [*family(one.process.pid), *family(two.process.pid)]

        gentle = command("stop", "--address", server.url, "--timeout", "1")
        forced = command("stop", "--address", server.url, "--force", "--json")
        nothing = command("stop", "--address", server.url)

        assert gentle.exit_code == 1, "the call still runs"
        assert "--force" in gentle.stderr
        assert forced.exit_code == 0, forced.stderr
        assert len(json.loads(forced.stdout)["stopped"]) >= 1
        wait_all_gone(below, "nothing of the nodes runs")
        assert client.hlen("ca:nodes") == 0
        assert nothing.exit_code == 1
        assert "no node of the cluster" in nothing.stderr
        del held
        ca.kill(actor)


def test_stop_without_an_address_ends_the_newest_local_cluster(
    tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    monkeypatch.delenv("CELERY_ACTORS_ADDRESS", raising=False)
    text = (
        "import sys, celery_actors as ca\nca.init(num_cpus=1)\nprint('up')\nsys.stdin.readline()\n"
    )
    with running_script(tmp_path, text) as driver:
        assert driver.stdout is not None
        assert driver.stdin is not None
        assert driver.stdout.readline() == "up\n"

        stopped = command("stop")
        none = command("stop")
        driver.stdin.write("\n")
        driver.stdin.flush()

        assert (stopped.exit_code, none.exit_code) == (0, 3), stopped.stderr
        assert "the local store" in stopped.stdout
        assert "no local cluster" in none.stderr
        assert driver.wait(30) == 0, "and its driver can end, too"


# -- errors --------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Something that accepts connections and never answers."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen(8)
        yield int(found.getsockname()[1])


@pytest.mark.parametrize("words", ["status", "list actors", "get x", "logs x", "top", "worker"])
def test_a_broker_that_is_stopped_or_silent_is_one_line_within_three_seconds(words: str):
    with silent_port() as silent:
        for port in (free_port(), silent):
            began = time.monotonic()
            run = command(
                *words.split(), "--address", f"redis://user:hunter2@127.0.0.1:{port}/0",
                environment={"CELERY_ACTORS_KEYS": "ab" * 32},
            )  # fmt: skip
            seconds = time.monotonic() - began

            assert (run.exit_code, run.stdout) == (3, "")
            (line,) = run.stderr.splitlines()
            assert f"127.0.0.1:{port}" in line
            assert "hunter2" not in line
            assert seconds < 2.0, "Python itself has to start within the three, too"


class Quiet(BaseHTTPRequestHandler):
    """A web server that logs nothing."""

    def log_message(self, *_words: Any) -> None:
        """Say nothing: what is on standard error is the command's."""


@contextlib.contextmanager
def web_server() -> Iterator[int]:
    """Something else that listens, and answers in its own language."""
    with HTTPServer(("127.0.0.1", 0), Quiet) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        try:
            yield found.server_address[1]
        finally:
            found.shutdown()
            thread.join()


@pytest.mark.debian_redis
@pytest.mark.skipif(acl.IN_FORCE, reason="a server with users asks everybody for a name")
def test_a_wrong_password_and_what_is_no_store_are_told_as_that(server: Server):
    with contextlib.closing(server.client()) as client, web_server() as port:
        client.config_set("requirepass", "secret")
        asked = command("status", "--address", server.url)
        refused = command("status", "--address", server.url.replace("://", "://:wrong@"))
        stranger = command("status", "--address", f"redis://127.0.0.1:{port}/0")
        client.config_set("requirepass", "")

    for run, said in (
        (asked, "asks for one"), (refused, "refuses the user or the password"),
        (stranger, "is no Redis or Valkey"),
    ):  # fmt: skip
        assert (run.exit_code, run.stdout) == (3, "")
        (line,) = run.stderr.splitlines()
        assert said in line
        assert "wrong@" not in line
