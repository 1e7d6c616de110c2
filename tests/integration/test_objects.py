"""References in drivers: get, put, wait, callbacks, futures and `await`, with their edges."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, double, fail, held
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until


def test_a_timeout_of_zero_means_what_is_here_now(cluster: Cluster, gate: Gate):
    waiting = held.remote(gate.path)

    with pytest.raises(ca.GetTimeoutError, match="1 of 2 values were not ready after 0 s"):
        ca.get([ca.put(1), waiting], timeout=0)
    assert ca.get(ca.put(1), timeout=0) == 1
    gate.open()
    assert ca.get(waiting, timeout=10) == "passed"
    assert ca.get(waiting, timeout=0) == "passed"


def test_put_keeps_references_inside_a_value_as_references(cluster: Cluster):
    inner = ca.put("inner")

    [again, label] = ca.get(ca.put([inner, "label"]))

    assert again == inner
    assert (ca.get(again), label) == ("inner", "label")
    with pytest.raises(TypeError, match="pass the reference itself"):
        ca.put(inner)


def test_a_stored_value_does_not_change_with_the_callers(cluster: Cluster):
    value = [1, 2]
    ref = ca.put(value)
    value.append(3)

    assert ca.get(ref) == [1, 2]
    ca.get(ref).append(4)
    assert ca.get(double.remote(ref), timeout=10) == [1, 2, 1, 2]


def test_wait_gives_no_more_than_asked_though_all_are_ready(cluster: Cluster):
    refs = [ca.put(number) for number in range(4)]

    ready, rest = ca.wait(refs, num_returns=2)

    assert (ready, rest) == (refs[:2], refs[2:])


def test_wait_with_a_timeout_of_zero_looks_once(cluster: Cluster, gate: Gate):
    waiting, here = held.remote(gate.path), ca.put(1)

    assert ca.wait([waiting, here], num_returns=2, timeout=0) == ([here], [waiting])
    gate.open()
    assert ca.wait([waiting, here], num_returns=2, timeout=10) == ([waiting, here], [])


def test_wait_may_leave_values_where_they_are(cluster: Cluster):
    refs = [double.remote(1), double.remote(2)]

    ready, rest = ca.wait(refs, num_returns=2, timeout=10, fetch_local=False)

    assert (ready, rest) == (refs, [])


def test_a_callback_hears_the_value_or_the_error(cluster: Cluster, gate: Gate):
    heard: list[Any] = []
    refs = [held.remote(gate.path), fail.remote("no")]
    for ref in refs:
        ref._on_completed(heard.append)
    gate.open()

    wait_until(lambda: len(heard) == 2, "both callbacks")
    assert sorted(type(found).__name__ for found in heard) == ["RayTaskError(ValueError)", "str"]
    late: list[Any] = []
    refs[0]._on_completed(late.append)
    assert late == ["passed"]


def test_a_thousand_references_can_be_awaited_together(cluster: Cluster):
    counter = Counter.remote()

    async def gather() -> list[int]:
        return await asyncio.gather(*[counter.add.remote() for _ in range(1000)])

    assert asyncio.run(gather()) == list(range(1, 1001))


def test_asyncio_waits_and_times_out_over_references(cluster: Cluster, gate: Gate):
    async def use() -> Any:
        quick, slow = double.remote(2), held.remote(gate.path)
        done, pending = await asyncio.wait(
            [quick.as_future(), slow.as_future()], return_when=asyncio.FIRST_COMPLETED, timeout=10
        )
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow, 0.01)
        gate.open()
        return [future.result() for future in done], len(pending), await slow

    assert asyncio.run(use()) == ([4], 1, "passed")


def test_cancelling_an_asyncio_future_does_not_cancel_the_call(cluster: Cluster, gate: Gate):
    async def use() -> tuple[bool, Any]:
        ref = held.remote(gate.path)
        future = ref.as_future()
        await asyncio.to_thread(gate.wait_reached)
        future.cancel()
        gate.open()
        return future.cancelled(), await ref

    assert asyncio.run(use()) == (True, "passed")


def test_what_a_signals_handler_raises_ends_get(cluster: Cluster, gate: Gate):
    """Programs limit their own time so: `signal.alarm` and a handler that raises."""
    actor = Counter.remote()
    ref = actor.hold.remote(gate.path)
    gate.wait_reached()

    def time_is_up(_number: int, _frame: Any) -> None:
        raise TimeoutError("the user's own")

    before = signal.signal(signal.SIGALRM, time_is_up)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(TimeoutError, match="the user's own"):
            ca.get(ref, timeout=30)
    finally:
        signal.signal(signal.SIGALRM, before)
    gate.open()
    ca.get(ref, timeout=10)


def test_cancelling_a_future_does_not_cancel_the_call(cluster: Cluster, gate: Gate):
    ref = held.remote(gate.path)
    future = ref.future()

    assert future.cancel()
    gate.open()
    assert ca.get(ref, timeout=10) == "passed"


def test_many_threads_may_wait_for_one_reference(cluster: Cluster, gate: Gate):
    ref = held.remote(gate.path)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(ca.get(ref, timeout=15))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(15)

    assert found == ["passed"] * 8
