"""Who comes to its turn on one node: in order, and nothing starves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Scribe
from tests.integration.devices import Holder, told
from tests.integration.support import Cluster, wait_until

#: No CPU is needed: here devices are what requests wait for.
ALL: dict[str, Any] = {"num_gpus": 4, "num_cpus": 0}


@pytest.fixture(autouse=True)
def _all_free(with_gpus: Cluster) -> Iterator[None]:
    """Each test gives back what it held."""
    yield
    wait_until(lambda: ca.available_resources() == ca.cluster_resources(), "everything is free")


@ca.remote
def note(path: str, word: str) -> str:
    """Write a word behind the others."""
    with Path(path).open("a") as file:
        file.write(f"{word}\n")
    return word


def keep_coming(small: Any, running: list[Any], large: ca.ObjectRef[Any]) -> None:
    """Send a small request for each that ends until the large one has run."""
    ends = time.monotonic() + 60
    while not ca.wait([large], timeout=0)[0]:
        assert time.monotonic() < ends, "the large request waits for ever"
        done, _ = ca.wait([large, *running], num_returns=1, timeout=20)
        if done and done != [large]:
            running.remove(done[0])
            running.append(small.remote())


@pytest.mark.parametrize("kind", ["actor", "function"])
def test_a_request_for_all_devices_runs_while_requests_for_one_keep_coming(
    with_gpus: Cluster, kind: str
):
    small = told.options(num_gpus=1, num_cpus=0)
    running = [small.remote() for _ in range(12)]
    actor = Holder.options(**ALL).remote() if kind == "actor" else None
    large = actor.given.remote() if actor else told.options(**ALL).remote()

    keep_coming(small, running, large)

    assert ca.get(large)["ids"] == [0, 1, 2, 3]
    del actor
    ca.get(running, timeout=60)


def test_shares_that_keep_coming_do_not_starve_a_whole_device(with_gpus: Cluster):
    share = told.options(num_gpus=0.25, num_cpus=0)
    running = [share.remote() for _ in range(24)]
    whole = told.options(num_gpus=1, num_cpus=0).remote()

    keep_coming(share, running, whole)

    ca.get(running, timeout=60)


def test_actors_and_calls_with_the_same_need_take_turns(with_gpus: Cluster, tmp_path: Path):
    journal = str(tmp_path / "journal")
    blocker = Holder.options(**ALL).remote()
    ca.get(blocker.given.remote(), timeout=20)
    actors = [Scribe.options(**ALL).remote(journal) for _ in range(3)]
    written = {actor.write.remote("actor"): actor for actor in actors}
    actors.clear()
    refs = [*written, *(note.options(**ALL).remote(journal, "call") for _ in range(3))]

    ca.kill(blocker)
    while refs:
        done, refs = ca.wait(refs, timeout=20)
        if actor := written.pop(done[0], None):
            ca.kill(actor)

    words = Path(journal).read_text().split()
    assert words in (["actor", "call"] * 3, ["call", "actor"] * 3)


@pytest.mark.parametrize("kind", ["actors", "calls"])
def test_what_waits_in_one_queue_starts_in_order(with_gpus: Cluster, tmp_path: Path, kind: str):
    journal = tmp_path / "journal"
    blocker = Holder.options(**ALL).remote()
    ca.get(blocker.given.remote(), timeout=20)
    words = [str(number) for number in range(6)]
    actors: list[Any] = []
    if kind == "actors":
        actors = [Scribe.options(**ALL).remote(str(journal)) for _ in words]
        refs = [actor.write.remote(word) for actor, word in zip(actors, words, strict=True)]
    else:
        refs = [note.options(**ALL).remote(str(journal), word) for word in words]
    assert ca.wait(refs, timeout=0.3)[0] == []

    ca.kill(blocker)
    for ref, word in zip(refs, words, strict=True):
        assert ca.get(ref, timeout=20) == word
        if actors:
            ca.kill(actors.pop(0))

    assert journal.read_text().split() == words


def test_what_nobody_waits_for_any_more_is_saved_for_nobody(with_gpus: Cluster):
    blocker = Holder.options(num_gpus=1, num_cpus=0).remote()
    held = ca.get(blocker.given.remote(), timeout=20)["ids"]
    large = Holder.options(**ALL).remote()
    with with_gpus.client() as client:
        wait_until(lambda: list(client.scan_iter("ca:saving:*")), "the node saves for it")
    small = told.options(num_gpus=1, num_cpus=0).remote()
    assert ca.wait([small], timeout=0.3)[0] == []

    ca.kill(large)

    # What is free is told once a second: workers of the test before may have held the first ones.
    assert ca.get(small, timeout=20)["ids"] == [min({0, 1, 2, 3} - {*held})]
    ca.kill(blocker)


@pytest.mark.parametrize("kind", ["actor", "call", "group"])
def test_calls_that_keep_a_worker_busy_do_not_starve_others(with_gpus: Cluster, kind: str):
    most = ca.cluster_resources()["memory"] * 0.75  # so that one at a time has it
    options: dict[str, Any] = {"num_cpus": 0, "memory": most}
    busy = told.options(**options)
    running = [busy.remote() for _ in range(4)]
    ca.get(running.pop(0), timeout=20)
    actor = group = None
    if kind == "actor":  # with the very need of the calls
        actor = Holder.options(**options).remote()
        waiting: Any = actor.given.remote()
    elif kind == "call":
        waiting = told.options(num_cpus=0.5, memory=most).remote()
    else:
        group = ca.placement_group([{"memory": most}])
        waiting = group.ready()

    keep_coming(busy, running, waiting)

    if group is not None:
        ca.remove_placement_group(group)
    del actor
    ca.get(running, timeout=60)


def test_kinds_of_calls_that_need_the_same_devices_all_run(with_gpus: Cluster):
    kinds = [told.options(num_gpus=4, num_cpus=cpus) for cpus in (0, 0.01, 0.02)]

    refs = [kind.remote() for _ in range(3) for kind in kinds]

    assert [found["ids"] for found in ca.get(refs, timeout=60)] == [[0, 1, 2, 3]] * 9
