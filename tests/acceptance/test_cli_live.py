"""The command line in processes of its own: what follows, what shells ask, statuses for scripts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

import celery_actors as ca
from tests.acceptance.commands import run_cli
from tests.integration.actors import Counter
from tests.integration.matrix import free_port
from tests.integration.support import ROOT, Server, node_on


@ca.remote
class Speaker:
    """Prints."""

    def say(self, *lines: str) -> None:
        for line in lines:
            print(line)  # noqa: T201 - what it is for


@pytest.fixture
def shared(server: Server) -> Iterator[Server]:
    """A server, a node called desk and this driver, in the namespace shop."""
    with (
        node_on(server, name="desk", cpus=2),
        ca.init(server.url, keys=server.key, namespace="shop", log_to_driver=False),
    ):
        yield server


@pytest.mark.debian_redis
def test_a_script_reads_json_and_statuses(shared: Server):
    actor = Counter.options(name="scripted").remote(3)
    assert ca.get(actor.add.remote(), timeout=20) == 4
    environment = {"CELERY_ACTORS_ADDRESS": shared.url, "CELERY_ACTORS_KEYS": shared.key}

    listed = run_cli("list", "actors", "--json", environment=environment)
    called = run_cli("call", "scripted", "add", "2", environment=environment)
    failed = run_cli("call", "scripted", "fail", '"no"', environment=environment)
    wrong = run_cli("call", "scripted", "add", "x", environment=environment)
    away = run_cli("status", "--address", f"redis://127.0.0.1:{free_port()}/0")

    assert "scripted" in [each["name"] for each in json.loads(listed.stdout)]
    assert called.stdout == "6\n", called.stderr
    runs = (listed, called, failed, wrong, away)
    assert [run.returncode for run in runs] == [0, 0, 1, 2, 3]
    assert failed.stderr == "celery_actors: scripted.fail raised ValueError: no\n"
    assert all(len(run.stderr.splitlines()) == 1 for run in runs[2:])


@pytest.mark.debian_redis
def test_logs_follows_what_is_printed_until_it_is_interrupted(shared: Server):
    speaker = Speaker.options(name="live").remote()
    ca.get(speaker.say.remote("before"), timeout=20)
    with following(shared, "logs", "live", "-f") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "before\n"

        ca.get(speaker.say.remote("while"), timeout=20)

        assert process.stdout.readline() == "while\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@contextlib.contextmanager
def following(server: Server, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "celery_actors", *words, "--address", server.url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# -- words for shells ----------------------------------------------------------------------------


def offered(line: str, address: str, shell: str = "bash") -> subprocess.CompletedProcess[str]:
    """Ask for the words that may come next, as a shell's script does."""
    words = line.split(" ")
    environment = {
        "_CELERY_ACTORS_COMPLETE": f"{shell}_complete", "COMP_WORDS": line,
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
        "CELERY_ACTORS_ADDRESS": address,
    }  # fmt: skip
    return run_cli(environment=environment)


@pytest.mark.debian_redis
def test_shells_are_offered_living_actors_and_nodes(shared: Server):
    actor = Counter.options(name="completed").remote()
    ca.get(actor.pid.remote(), timeout=20)

    by_bash = offered("celery_actors kill comp", shared.url).stdout
    by_zsh = offered("celery_actors call comp", shared.url, "zsh").stdout
    by_fish = offered("celery_actors logs comp", shared.url, "fish").stdout
    node = offered("celery_actors drain des", shared.url).stdout

    assert "plain,completed" in by_bash.split()
    assert "completed\nCounter, ALIVE, namespace shop" in by_zsh
    assert "plain,completed\tCounter, ALIVE, namespace shop" in by_fish
    assert "plain,desk-" in node


def test_shells_are_offered_nothing_and_told_nothing_without_a_store():
    run = offered("celery_actors kill x", f"redis://127.0.0.1:{free_port()}/0")

    assert (run.stdout.strip(), run.stderr) == ("", "")


def test_the_script_for_bash_is_one_that_bash_understands():
    run = run_cli("completion", "bash")

    assert "_CELERY_ACTORS_COMPLETE=bash_complete" in run.stdout
    checked = subprocess.run(
        ["/bin/bash", "-n"], input=run.stdout, text=True, check=False, capture_output=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")
