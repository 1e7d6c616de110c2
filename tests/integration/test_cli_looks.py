"""The commands that look at a cluster: list, get, logs and top."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, double, held, pass_gate
from tests.integration.command_line import as_json, command
from tests.integration.gates import Gate
from tests.integration.support import Server, join, node_on, redis_server, wait_until

pytestmark = pytest.mark.debian_redis

FIELDS = {
    "actor_id", "class_name", "name", "namespace", "state", "node_id", "pid", "num_restarts",
    "death_cause", "queue",
}  # fmt: skip


@ca.remote
class Speaker:
    """Prints."""

    def say(self, *lines: str) -> None:
        for line in lines:
            print(line)  # noqa: T201 - what it is for

    def pid(self) -> int:
        return os.getpid()


@ca.remote
def mutter(line: str) -> None:
    """Print."""
    print(line)  # noqa: T201 - what it is for


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A server, a node called desk and this driver, in the namespace shop, for the whole module."""
    with (
        redis_server() as found,
        node_on(found, name="desk", cpus=3),
        join(found, namespace="shop", log_to_driver=False),
    ):
        yield found


def listed(server: Server, actor_id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = as_json(server.url, "list", "actors")
    return next(each for each in found if each["actor_id"] == actor_id)


def test_list_actors_says_who_lives_and_why_the_others_died(shared: Server):
    till = Counter.options(name="till").remote()
    crashed, killed = Counter.remote(), Counter.remote()
    pid, dead_pid = ca.get([till.pid.remote(), crashed.pid.remote()], timeout=20)
    ca.get(killed.pid.remote(), timeout=20)
    os.kill(dead_pid, signal.SIGKILL)
    ca.kill(killed)
    ids = [actor._identity.actor_id for actor in (till, crashed, killed)]
    wait_until(lambda: listed(shared, ids[1])["state"] == "DEAD", "the crash is known", 20)

    alive, gone, ended = (listed(shared, actor_id) for actor_id in ids)
    text = command("list", "actors", "--address", shared.url)

    assert set(alive) == FIELDS
    assert (alive["state"], alive["name"], alive["namespace"]) == ("ALIVE", "till", "shop")
    assert (alive["pid"], alive["death_cause"]) == (pid, "")
    assert alive["queue"] == ca.actor_queue("shop", "till")
    assert alive["node_id"].startswith("desk-")
    assert f"process {dead_pid} on desk was killed by SIGKILL" in gone["death_cause"]
    assert (ended["state"], ended["death_cause"]) == (
        "DEAD",
        "it was ended by celery_actors.kill()",
    )
    assert "SIGKILL" in text.stdout
    living = as_json(shared.url, "list", "actors", "--dead", "0")
    assert all(each["state"] != "DEAD" for each in living)


def test_list_nodes_has_what_each_has_and_what_is_free(shared: Server):
    (node,) = as_json(shared.url, "list", "nodes")

    assert (node["host"], node["state"]) == ("desk", "alive")
    assert node["resources"]["CPU"] == 3
    assert set(node) >= {"node_id", "pid", "available", "labels", "devices", "workers"}
    assert "3 CPUs" in command("list", "nodes", "--address", shared.url).stdout


def test_list_calls_tells_what_runs_from_what_waits_in_the_order_of_the_queue(
    shared: Server, gate: Gate, tmp_path: Path
):
    actor = Counter.options(name="busy").remote()
    other = Gate(tmp_path, "other")
    refs = [actor.hold.remote(gate.path), actor.add.remote(), actor.seen.remote()]
    function = held.remote(other.path)
    gate.wait_reached()
    other.wait_reached()
    queue = ca.actor_queue("shop", "busy")

    calls = as_json(shared.url, "list", "calls", "--queue", queue)
    everywhere = as_json(shared.url, "list", "calls")
    limited = command("list", "calls", "--limit", "1", "--address", shared.url)
    (length,) = [each for each in as_json(shared.url, "list", "queues") if each["queue"] == queue]
    waiting = as_json(shared.url, "get", refs[2].id)
    gate.open()
    other.open()

    told = [(call["task"], call["state"], call["place"]) for call in calls]
    assert told == [("Counter.hold", "RUNNING", 1), ("Counter.add", "WAITING", 2),
                    ("Counter.seen", "WAITING", 3)]  # fmt: skip
    assert ("held", "RUNNING") in [(call["task"], call["state"]) for call in everywhere]
    assert "the first 1 of more" in limited.stderr
    assert (length["length"], length["what"]) == (3, "calls of Counter(busy)")
    assert (waiting["kind"], waiting["state"], waiting["place"]) == ("call", "WAITING", 3)
    assert ca.get([*refs, function], timeout=20) == ["passed", 1, [1], "passed"]


def test_get_shows_one_of_anything_in_full(shared: Server):
    actor = Counter.options(name="one", max_restarts=2).remote()
    ref = double.remote(4)
    assert ca.get([actor.add.remote(), ref], timeout=20) == [1, 8]

    by_name = as_json(shared.url, "get", "one")
    by_id = as_json(shared.url, "get", by_name["actor_id"][:8])
    node, call = as_json(shared.url, "get", "desk"), as_json(shared.url, "get", ref.id)
    queue = as_json(shared.url, "get", by_name["queue"])
    text = command("get", "one", "--address", shared.url)

    assert (by_name["kind"], by_name["max_restarts"]) == ("actor", 2)
    wait_until(lambda: as_json(shared.url, "get", "one")["calls_done"] == 1, "the call is counted")
    assert by_id["actor_id"] == by_name["actor_id"]
    assert f"Counter(one) {by_name['actor_id']}" in node["actors"]
    assert (call["state"], call["result"]) == ("SUCCESS", "8")
    assert (queue["kind"], queue["purpose"], queue["calls"]) == ("queue", "actor", [])
    assert f"{'queue':<16}  {by_name['queue']}" in text.stdout


@pytest.mark.parametrize("name", ["get", "logs", "kill"])
def test_what_is_not_there_is_one_line_and_status_1(shared: Server, name: str):
    run = command(name, "nobody", "--address", shared.url)

    assert (run.exit_code, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert "'nobody'" in line
    assert "celery_actors list actors" in line


def test_a_name_in_two_namespaces_asks_for_one_of_them(shared: Server):
    one = Counter.options(name="twin").remote()
    two = Counter.options(name="twin", namespace="other").remote()
    ca.get([one.pid.remote(), two.pid.remote()], timeout=20)

    both = command("get", "twin", "--address", shared.url)
    chosen = as_json(shared.url, "get", "twin", "--namespace", "other")

    assert both.exit_code == 1
    assert "may be several actors" in both.stderr
    assert chosen["namespace"] == "other"


def test_logs_shows_the_last_lines_of_an_actor_also_after_its_death(shared: Server):
    speaker = Speaker.options(name="speaker").remote()
    ca.get(speaker.say.remote("one", "two", "three"), timeout=20)
    words = ("logs", "speaker", "--address", shared.url)
    wait_until(lambda: "three" in command(*words).stdout, "the lines are kept")

    last = command(*words, "-n", "2")
    (line,) = command(*words, "-n", "1", "--json").stdout.splitlines()
    pid = ca.get(speaker.pid.remote(), timeout=10)
    ca.kill(speaker)
    after = command(*words)

    assert last.stdout == "two\nthree\n"
    said = json.loads(line)
    assert (said["text"], said["pid"], said["node"], said["stream"]) == ("three", pid, "desk", 1)
    assert after.stdout == "one\ntwo\nthree\n"


def test_logs_of_a_node_has_its_functions_and_its_actors(shared: Server):
    speaker = Speaker.remote()
    ca.get([speaker.say.remote("from an actor"), mutter.remote("from a function")], timeout=20)

    def told() -> list[str]:
        lines = command("logs", "desk", "--address", shared.url).stdout.splitlines()
        return [line for line in lines if "from a" in line]

    wait_until(lambda: len(told()) == 2, "both are kept")
    assert any(line.startswith("(Speaker pid=") for line in told())
    assert any(line.startswith("(mutter pid=") for line in told())


def test_top_counts_calls_and_shows_what_waits(shared: Server, gate: Gate):
    actor = Counter.options(name="topped").remote()
    refs = [actor.hold.remote(gate.path), *(actor.add.remote() for _ in range(4))]
    gate.wait_reached()

    seen = as_json(shared.url, "top", "--every", "0.2")
    text = command("top", "--every", "0.2", "--address", shared.url)
    gate.open()

    (row,) = [each for each in seen["actors"] if each["name"] == "topped"]
    assert (row["calls_waiting"], row["calls_per_second"]) == (5, 0.0)
    assert seen["nodes"][0]["host"] == "desk"
    assert "Counter(topped)" in text.stdout
    assert ca.get(refs, timeout=20) == ["passed", 1, 2, 3, 4]


@ca.remote
class Weaver:
    """Runs calls that overlap."""

    async def hold(self, gate: str) -> str:
        return await asyncio.to_thread(pass_gate, gate)

    async def add(self, number: int) -> int:
        return number


def test_calls_that_overlap_run_and_one_whose_argument_is_not_ready_waits_out_of_line(
    shared: Server, gate: Gate, tmp_path: Path
):
    weaver = Weaver.options(name="weaver").remote()
    serial = Counter.options(name="serial").remote()
    other = Gate(tmp_path, "other")
    overlapping = [weaver.hold.remote(gate.path), weaver.hold.remote(other.path)]
    gate.wait_reached()
    other.wait_reached()
    late = serial.add.remote(weaver.add.remote(2))  # its caller's turn has come, its argument not
    slow = serial.add.remote(overlapping[0])
    assert ca.get(late, timeout=20) == 2

    def states(name: str) -> list[tuple[str, int]]:
        queue = ca.actor_queue("shop", name)
        found = as_json(shared.url, "list", "calls", "--queue", queue)
        return [(call["state"], call["place"]) for call in found]

    wait_until(lambda: states("weaver") == [("RUNNING", 0), ("RUNNING", 0)], "both run")
    wait_until(lambda: states("serial") == [("WAITING", 0)], "it has left the line")
    gate.open()
    other.open()
    assert ca.get(overlapping, timeout=20) == ["passed", "passed"]
    with pytest.raises(ca.RayError):
        ca.get(slow, timeout=20)
