"""Order, also when the connection breaks, the server forgets its scripts, or arguments are late."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import celery_actors as ca
from tests.integration.actors import Caller, Counter, Recorder, double, held
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until

CALLERS = 10
CALLS = 1_000


def test_ten_callers_see_ten_thousand_calls_in_their_own_order(cluster: Cluster):
    recorder = Recorder.remote()
    callers = [Caller.remote() for _ in range(CALLERS)]

    sent = ca.get(
        [caller.send.remote(recorder, who, CALLS) for who, caller in enumerate(callers)], timeout=60
    )

    assert sent == [CALLS] * CALLERS
    notes = ca.get(recorder.notes_taken.remote(), timeout=10)
    assert len(notes) == CALLERS * CALLS
    for who in range(CALLERS):
        assert [number for caller, number in notes if caller == who] == list(range(CALLS))
    for handle in (recorder, *callers):
        ca.kill(handle)


def test_calls_of_the_driver_run_in_order_while_another_caller_is_busy(cluster: Cluster):
    recorder, caller = Recorder.remote(), Caller.remote()

    busy = caller.send.remote(recorder, "other", 500)
    for number in range(500):
        recorder.note.remote("driver", number)
    ca.get(busy, timeout=30)

    notes = ca.get(recorder.notes_taken.remote(), timeout=10)
    assert [n for who, n in notes if who == "driver"] == list(range(500))
    assert [n for who, n in notes if who == "other"] == list(range(500))


def test_an_unready_argument_holds_back_only_its_own_callers_later_calls(
    cluster: Cluster, gate: Gate
):
    recorder, other = Recorder.remote(), Caller.remote()
    late = held.remote(gate.path)
    gate.wait_reached()

    recorder.note.remote("driver", 1)
    waiting = recorder.note.remote("driver", late)
    after = recorder.note.remote("driver", 3)
    # Another caller passes, although its calls come later.
    assert ca.get(other.send.remote(recorder, "other", 5), timeout=10) == 5
    ready, _rest = ca.wait([waiting, after], num_returns=2, timeout=0)
    assert ready == []

    gate.open()
    ca.get(after, timeout=10)
    notes = ca.get(recorder.notes_taken.remote(), timeout=10)
    assert [n for who, n in notes if who == "driver"] == [1, "passed", 3]
    assert notes.index(["other", 4]) < notes.index(["driver", "passed"])


def test_many_late_arguments_are_passed_in_order(cluster: Cluster, gate: Gate):
    recorder = Recorder.remote()
    first = held.remote(gate.path)
    gate.wait_reached()
    recorder.note.remote("driver", first)
    for number in range(50):
        recorder.note.remote("driver", double.remote(number))

    gate.open()

    notes = ca.get(recorder.notes_taken.remote(), timeout=20)
    assert [n for _who, n in notes] == ["passed", *range(0, 100, 2)]


def _cut(kind: str) -> Callable[[Cluster], None]:
    def cut(cluster: Cluster) -> None:
        with cluster.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    return cut


def _forget_scripts(cluster: Cluster) -> None:
    with cluster.client() as client:
        client.script_flush()


HARMS = {
    "a_cut_of_every_connection": _cut("normal"),
    "a_cut_of_every_subscription": _cut("pubsub"),
    "a_script_flush": _forget_scripts,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_thousand_calls_are_neither_lost_nor_doubled_by(
    cluster: Cluster, harm: Callable[[Cluster], None]
):
    counter = Counter.remote()
    ca.get(counter.pid.remote(), timeout=10)

    refs = []
    for number in range(CALLS):
        refs.append(counter.add.remote())
        if number in (300, 600, 900):
            wait_until(lambda number=number: refs[number - 250].ready or _read(refs[number - 250]),
                       "calls are under way")  # fmt: skip
            harm(cluster)

    assert ca.get(refs, timeout=40) == list(range(1, CALLS + 1))
    assert ca.get(counter.seen.remote(), timeout=10) == [1] * CALLS


def _read(ref: ca.ObjectRef[int]) -> bool:
    ready, _ = ca.wait([ref], timeout=0.1)
    return bool(ready)


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_an_idle_cluster_serves_on_after(cluster: Cluster, harm: Callable[[Cluster], None]):
    counter = Counter.remote()
    assert ca.get(counter.add.remote(), timeout=10) == 1

    harm(cluster)

    assert ca.get(counter.add.remote(), timeout=20) == 2
    assert ca.get(double.remote(4), timeout=20) == 8
    assert ca.get(Counter.remote(5).add.remote(), timeout=20) == 6


@ca.remote
class Overlapping:
    """Its calls overlap, and each of them counts."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def add(self, number: int) -> int:
        self.seen.append(number)
        return number

    def sum_up(self) -> tuple[int, int]:
        return len(self.seen), len(set(self.seen))


@ca.remote
class Threaded:
    """The same in threads."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def add(self, number: int) -> int:
        self.seen.append(number)
        return number

    def sum_up(self) -> tuple[int, int]:
        return len(self.seen), len(set(self.seen))


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("kind", ["async", "threaded"])
def test_a_thousand_calls_that_overlap_are_neither_lost_nor_doubled_by(
    cluster: Cluster, kind: str, harm: Callable[[Cluster], None]
):
    actor = (
        Overlapping.remote() if kind == "async" else Threaded.options(max_concurrency=4).remote()
    )
    ca.get(actor.sum_up.remote(), timeout=10)

    refs = []
    for number in range(CALLS):
        refs.append(actor.add.remote(number))
        if number in (300, 600, 900):
            wait_until(lambda number=number: _read(refs[number - 250]), "calls are under way")
            harm(cluster)

    assert ca.get(refs, timeout=40) == list(range(CALLS))
    assert ca.get(actor.sum_up.remote(), timeout=10) == (CALLS, CALLS)
