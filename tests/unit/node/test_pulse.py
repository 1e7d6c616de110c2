"""What a node says of its actors' processes, now and then."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import Any, cast

import pytest

from celery_actors import last_error, routing, vitals
from celery_actors.assignment import ERROR_OFFSET, PROGRESS_BYTES, Assignment
from celery_actors.node.process import WorkerProcess
from celery_actors.node.pulse import Pulse
from celery_actors.store import Store

NODE = "host-1"


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    """An actor's worker; its process is this one."""
    assignment = Assignment(
        worker_id="w", queue="q", epoch="1", owner="o", session="s", label="Counter-a",
        actor_id="actor-1",
    )  # fmt: skip
    page = os.memfd_create("page")
    os.ftruncate(page, PROGRESS_BYTES)
    yield WorkerProcess(assignment, cast("Any", None), page, [], None, pid=os.getpid())
    os.close(page)


def fail(worker: WorkerProcess, text: str) -> None:
    with mmap.mmap(worker.progress, PROGRESS_BYTES) as page:
        last_error.write(page, ERROR_OFFSET, 12.5, text)


def said(store: Store) -> vitals.NodeVitals:
    (found,) = vitals.published(store, [NODE])
    return found


def test_a_look_tells_memory_processor_and_last_error(store: Store, worker: WorkerProcess) -> None:
    pulse = Pulse(store, NODE, lambda: [worker])
    fail(worker, "ValueError: no change")
    pulse.look(1000.0)

    process = said(store).processes["actor-1"]
    assert process.pid == os.getpid()
    assert process.memory > 10_000_000
    assert process.cpus == 0  # nothing to compare with yet
    assert said(store).errors == {"actor-1": vitals.Error(12.5, "ValueError: no change")}
    sum(range(3_000_000))
    pulse.look(1001.0)
    assert said(store).processes["actor-1"].cpus == 0  # too early for another look
    pulse.look(1010.0)
    assert 0 < said(store).processes["actor-1"].cpus < 10
    assert 0 < store.run("TTL", routing.vitals_key(NODE)) <= vitals.LASTS_SECONDS


def test_an_error_is_told_also_when_its_process_has_ended(
    store: Store, worker: WorkerProcess
) -> None:
    workers = [worker]
    pulse = Pulse(store, NODE, lambda: workers)
    pulse.look(1000.0)
    fail(worker, "KeyError: 'a'")
    pulse.note(worker)  # it ends
    workers.clear()
    pulse.look(1010.0)

    assert said(store).errors["actor-1"].text == "KeyError: 'a'"
    assert said(store).processes == {}
    store.run("UNLINK", routing.vitals_key(NODE))
    pulse.look(1020.0)
    assert store.run("EXISTS", routing.vitals_key(NODE)) == 0  # nothing to say: no word


def test_the_errors_of_old_actors_are_forgotten(store: Store, worker: WorkerProcess) -> None:
    pulse = Pulse(store, NODE, lambda: [worker])
    for number in range(500):
        ended = WorkerProcess(
            Assignment("w", "q", "1", "o", "s", "label", actor_id=f"actor-{number}"),
            cast("Any", None), worker.progress, [], None, pid=os.getpid(),
        )  # fmt: skip
        fail(ended, f"ValueError: {number}")
        pulse.note(ended)
    pulse.look(1000.0)
    kept = said(store).errors
    assert len(kept) <= 201
    assert "actor-499" in kept


def test_what_nobody_could_have_written_is_read_as_silence(store: Store) -> None:
    store.run("SET", routing.vitals_key(NODE), b"{\xff")
    assert vitals.published(store, [NODE, "silent"]) == [vitals.NodeVitals()] * 2
    assert vitals.published(store, []) == []
