"""Local clusters that a command finds by itself: which one it takes, and how a node of it ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.commands import plain_environment, run_cli
from tests.integration.support import is_alive, running_script, wait_until

DRIVER = """
import celery_actors as ca
print(ca.init(num_cpus=1).address, flush=True)
input()
ca.shutdown()
print("over", flush=True)
"""


@pytest.fixture
def environment(short_path: Path) -> dict[str, str]:
    """Where a user has no local cluster."""
    return {**plain_environment(), "XDG_RUNTIME_DIR": str(short_path)}


@contextlib.contextmanager
def local_cluster(
    folder: Path, environment: dict[str, str]
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a program with a local cluster; give its address and the program."""
    folder.mkdir()
    with running_script(folder, DRIVER, environment) as program:
        assert program.stdout is not None
        address = program.stdout.readline().strip().replace("redis+socket:", "unix:")
        assert address.startswith("unix:"), address
        yield address, program


def end(program: subprocess.Popen[str]) -> None:
    """Let a program end as it wishes."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "over\n"


@contextlib.contextmanager
def second_node(log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node that finds the local cluster by itself."""
    command = [sys.executable, "-m", "celery_actors", "worker", "-n", "second", "--num-cpus", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_until(
            lambda: (
                b"second" in run_cli("status", environment=environment).stdout.encode()
                or process.poll() is not None
            ),
            "the node is in the cluster",
        )
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        if is_alive(process.pid):
            process.kill()
        process.wait()


def test_a_node_does_not_guess_which_of_several_clusters_it_is_to_join(
    tmp_path: Path, environment: dict[str, str]
):
    with (
        local_cluster(tmp_path / "a", environment) as (one, _),
        local_cluster(tmp_path / "b", environment) as (other, _),
    ):
        node = run_cli("worker", environment=environment)
        status = run_cli("status", environment=environment)

    assert node.returncode != 0
    assert "2 local clusters of yours are running: say which one with --address" in node.stderr
    assert one in node.stderr
    assert other in node.stderr
    assert status.returncode == 0, status.stderr
    assert other in status.stdout
    assert "2 local clusters of yours are running; this is the newest" in status.stderr


def test_a_node_that_ctrl_c_ends_says_so(tmp_path: Path, environment: dict[str, str]):
    log = tmp_path / "log"
    with local_cluster(tmp_path / "a", environment), second_node(log, environment) as node:
        node.send_signal(signal.SIGINT)
        assert node.wait(30) == 0

    assert "this node has ended: SIGINT" in log.read_text()
    assert "appendonly" not in log.read_text()  # the store is not the user's


def test_a_node_ends_with_the_local_cluster_that_it_has_joined(
    tmp_path: Path, environment: dict[str, str]
):
    log = tmp_path / "log"
    with (
        local_cluster(tmp_path / "a", environment) as (_, program),
        second_node(log, environment) as node,
    ):
        end(program)
        assert node.wait(60) == 0, log.read_text()

    assert "this node has ended: its driver ended" in log.read_text()
    assert "lost its lease" not in log.read_text()
