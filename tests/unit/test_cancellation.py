"""Cancelling against a real store, with the test in the place of the workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from celery_actors import routing
from celery_actors.errors import TaskCancelledError
from celery_actors.need import Need
from celery_actors.node.stranded import Stranded
from celery_actors.object_ref import ObjectRef
from celery_actors.options import FunctionOptions
from celery_actors.runtime import Runtime
from celery_actors.store import Store

NEED = FunctionOptions().need
QUEUE = routing.shared_queue(NEED.label)
TAKEN = "taken-by-a-worker"


def wait_until(state: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 10
    while not state():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def submit(runtime: Runtime, need: Need) -> ObjectRef[Any]:
    """Send one function call."""
    target = runtime.calls.shared("double", need, registered=False)
    ref: ObjectRef[Any] = runtime.calls.submit(target, runtime.template(target, "double"), [2], {})
    runtime.calls.settle()
    return ref


def send(runtime: Runtime, store: Store) -> ObjectRef[Any]:
    """Send one function call and let a worker take it."""
    ref = submit(runtime, NEED)
    assert store.run("LMOVE", QUEUE, TAKEN, "RIGHT", "LEFT")
    return ref


def cancelling(runtime: Runtime, store: Store, ref: ObjectRef[Any]) -> threading.Thread:
    """Begin to cancel a call that a worker has."""
    words = {"force": False, "recursive": True, "patience": 1.0}
    thread = threading.Thread(target=runtime.canceller.cancel, args=(ref,), kwargs=words)
    thread.start()
    mark = routing.cancelled_key(ref.id)
    wait_until(lambda: store.run("EXISTS", mark), "the mark of a call that a worker may have")
    return thread


def test_a_call_that_its_worker_gives_back_while_it_is_cancelled_never_runs(
    runtime: Runtime, store: Store
) -> None:
    ref = send(runtime, store)

    thread = cancelling(runtime, store, ref)
    store.run("LMOVE", TAKEN, QUEUE, "LEFT", "RIGHT")
    thread.join(10)

    assert store.run("LLEN", QUEUE) == 0
    with pytest.raises(TaskCancelledError, match="before it started"):
        runtime.get([ref], 10)
    assert not store.run("EXISTS", routing.cancelled_key(ref.id)), "nobody will ask for it"


def test_a_call_that_ends_while_it_is_cancelled_leaves_no_mark(
    runtime: Runtime, store: Store
) -> None:
    ref = send(runtime, store)

    thread = cancelling(runtime, store, ref)
    store.run("UNLINK", routing.cancelled_key(ref.id))  # as its worker does in the end
    thread.join(10)

    assert not store.run("EXISTS", routing.cancelled_key(ref.id))


@pytest.mark.parametrize("otherwise", ["gone", "full"])
def test_a_waiting_call_that_was_passed_on_to_another_queue_never_runs(
    runtime: Runtime, store: Store, otherwise: Any
) -> None:
    need = replace(NEED, node="full-1", otherwise=otherwise)
    ref = submit(runtime, need)
    Stranded(store, "full-1", 60).pass_on(need.label, need)
    assert store.run("LLEN", QUEUE) == 1, "it waits for any node now"

    runtime.canceller.cancel(ref, force=False, recursive=True, patience=0.0)

    assert store.run("LLEN", QUEUE) == 0
    with pytest.raises(TaskCancelledError, match="before it started"):
        runtime.get([ref], 10)
    assert not store.run("EXISTS", routing.cancelled_key(ref.id))


def test_a_waiting_call_that_is_bound_to_its_node_is_cancelled_there(
    runtime: Runtime, store: Store
) -> None:
    ref = submit(runtime, replace(NEED, node="full-1"))

    runtime.canceller.cancel(ref, force=False, recursive=True, patience=0.0)

    with pytest.raises(TaskCancelledError, match="before it started"):
        runtime.get([ref], 10)
