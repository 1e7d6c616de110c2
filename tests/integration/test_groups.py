"""Concurrency groups: each with its own limit and its own order, none in another's way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Caller, held, pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until


@ca.remote(concurrency_groups={"io": 2, "compute": 1})
class Office:
    """Threads, in groups."""

    def __init__(self) -> None:
        self.notes: dict[str, list[Any]] = {"io": [], "compute": [], "": []}

    @ca.method(concurrency_group="io")
    def fetch(self, gate: str) -> str:
        return pass_gate(gate)

    @ca.method(concurrency_group="compute")
    def compute(self, value: Any) -> Any:
        self.notes["compute"].append(value)
        return value

    @ca.method(concurrency_group="compute")
    def compute_behind(self, gate: str) -> str:
        return pass_gate(gate)

    def plain(self, value: Any) -> Any:
        self.notes[""].append(value)
        return value

    def noted(self) -> dict[str, list[Any]]:
        return self.notes

    def thread(self) -> str:
        return threading.current_thread().name


@ca.remote(concurrency_groups={"io": 2})
class AsyncOffice:
    """Coroutines, in groups."""

    def __init__(self) -> None:
        self.door: dict[str, asyncio.Event] = {}
        self.inside = self.most = 0

    @ca.method(concurrency_group="io")
    async def fetch(self, door: str) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.door.setdefault(door, asyncio.Event()).wait()
        self.inside -= 1
        return door

    async def open(self, door: str) -> int:
        self.door.setdefault(door, asyncio.Event()).set()
        return self.most

    async def count(self) -> int:
        return self.inside


def test_a_full_group_lets_others_pass_with_two_thousand_calls_queued_for_it(
    cluster: Cluster, gate: Gate
):
    office = Office.remote()
    full = [office.fetch.remote(gate.path) for _ in range(2_000)]
    gate.wait_reached(times=2)

    assert ca.get(office.compute.remote(1), timeout=10) == 1
    assert ca.get(office.plain.remote(2), timeout=10) == 2
    assert len(gate.pids()) == 2, "no more of the group run than it has threads"

    gate.open()
    assert ca.get(full, timeout=60) == ["passed"] * 2_000


def test_a_full_group_of_coroutines_lets_others_pass(cluster: Cluster):
    office = AsyncOffice.remote()
    full = [office.fetch.remote("door") for _ in range(2_000)]
    wait_until(lambda: ca.get(office.count.remote()) == 2, "the group is full")

    assert ca.get(office.open.remote("door"), timeout=10) == 2
    assert ca.get(full, timeout=30) == ["door"] * 2_000
    assert ca.get(office.open.remote("door"), timeout=10) == 2, "never more than two at once"


def test_each_group_keeps_the_order_of_each_caller(cluster: Cluster):
    office = Office.remote()
    for number in range(300):
        office.compute.remote(number)
        office.plain.remote(number)
    noted = ca.get(office.noted.remote(), timeout=20)
    assert noted[""] == list(range(300))
    wait_until(lambda: len(ca.get(office.noted.remote())["compute"]) == 300, "the other group")
    assert ca.get(office.noted.remote(), timeout=10)["compute"] == list(range(300))


def test_an_unready_argument_holds_back_its_callers_calls_of_its_group_only(
    cluster: Cluster, gate: Gate
):
    office, other = Office.remote(), Caller.remote()
    late = held.remote(gate.path)
    gate.wait_reached()

    office.compute.remote(1)
    waiting = office.compute.remote(late)
    behind = office.compute.remote(3)

    assert ca.get(office.plain.remote("another group"), timeout=10) == "another group"
    assert ca.get(other.call.remote(office, "compute", "another caller"), timeout=10)
    assert not ca.wait([waiting, behind], timeout=0)[0]

    gate.open()
    assert ca.get([waiting, behind], timeout=10) == ["passed", 3]
    noted = ca.get(office.noted.remote(), timeout=10)
    assert [n for n in noted["compute"] if n != "another caller"] == [1, "passed", 3]


def test_two_unready_arguments_in_a_row_both_come(cluster: Cluster, gate: Gate):
    office = Office.remote()
    gates = [Gate(gate_path, "first") for gate_path in [_folder(gate)]]
    first, second = held.remote(gates[0].path), held.remote(gate.path)
    refs = [office.compute.remote(first), office.compute.remote(second), office.compute.remote(3)]
    gates[0].wait_reached()

    gates[0].open()
    assert ca.get(refs[0], timeout=10) == "passed"
    gate.open()
    assert ca.get(refs[1:], timeout=10) == ["passed", 3]


def _folder(gate: Gate) -> Any:
    from pathlib import Path

    return Path(gate.path).parent


def test_a_call_may_name_another_group_than_its_method(cluster: Cluster):
    office = Office.remote()

    assert ca.get(office.thread.remote(), timeout=10).startswith("ca-calls")
    wanted = office.thread.options(concurrency_group="io").remote()
    assert ca.get(wanted, timeout=10).startswith("ca-io")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ca.remote(concurrency_groups={"io": 0})(type("A", (), {})), "at least 1"),
        (lambda: Office.options(concurrency_groups={"io": 1}), "not to .options"),
        (
            lambda: Office.remote().plain.options(concurrency_group="oi"),
            "no concurrency group 'oi'",
        ),
        (lambda: ca.remote(_wants("oi")), "'oi'"),
    ],
    ids=["size nought", "later", "unknown in a call", "unknown in the class"],
)
def test_a_wrong_group_is_an_error_in_the_caller(
    cluster: Cluster, make: Callable[[], Any], words: str
):
    with pytest.raises(ValueError, match=words):
        make()


def _wants(group: str) -> type:
    class Wanting:
        @ca.method(concurrency_group=group)
        def work(self) -> None:
            """Never runs."""

    return Wanting


def test_an_actor_that_runs_calls_out_of_order_overtakes_an_unready_argument(
    cluster: Cluster, gate: Gate
):
    @ca.remote(allow_out_of_order_execution=True)
    class Loose:
        def echo(self, value: Any) -> Any:
            return value

    loose = Loose.remote()
    waiting = loose.echo.remote(held.remote(gate.path))

    assert ca.get([loose.echo.remote(n) for n in range(3)], timeout=10) == [0, 1, 2]
    assert not ca.wait([waiting], timeout=0)[0]
    gate.open()
    assert ca.get(waiting, timeout=10) == "passed"


def test_two_copies_of_a_handle_in_one_process_share_one_order(cluster: Cluster):
    @ca.remote
    class Log:
        def __init__(self) -> None:
            self.words: list[int] = []

        def add(self, word: int) -> None:
            self.words.append(word)

        def read(self) -> list[int]:
            return self.words

    log = Log.options(name="one-order").remote()
    again = ca.get_actor("one-order")
    for number in range(0, 400, 2):
        log.add.remote(number)
        again.add.remote(number + 1)

    assert ca.get(again.read.remote(), timeout=10) == list(range(400))
    ca.kill(log)
