"""Cancelling against a real store, with the test in the place of the workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_actors import routing
from celery_actors.config import Address, KeyRing
from celery_actors.errors import TaskCancelledError
from celery_actors.object_ref import ObjectRef
from celery_actors.options import FunctionOptions
from celery_actors.runtime import Runtime
from celery_actors.store import Store

NEED = FunctionOptions().need
QUEUE = routing.shared_queue(NEED.label)
TAKEN = "taken-by-a-worker"


@pytest.fixture
def runtime(address: Address, store: Store) -> Iterator[Runtime]:
    """A driver's runtime without a cluster around it."""
    found = Runtime(address, KeyRing((b"\x01" * 32,)), namespace="default", node_id="")
    yield found
    found.close()


def wait_until(state: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 10
    while not state():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def send(runtime: Runtime, store: Store) -> ObjectRef[Any]:
    """Send one function call and let a worker take it."""
    target = runtime.calls.shared("double", NEED, registered=False)
    ref: ObjectRef[Any] = runtime.calls.submit(target, runtime.template(target, "double"), [2], {})
    runtime.calls.settle()
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
