"""Lost values are made again by the calls that gave them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import celery_actors as ca
from celery_actors import runtime
from tests.integration.large import SIZE, lose_everything
from tests.integration.support import Cluster


@ca.remote
def fill(value: float, journal: str, *_: Any) -> np.ndarray:
    """Return an array of one value; note that it was made."""
    with Path(journal).open("a") as file:
        file.write("made\n")
    return np.full(SIZE, value)


@ca.remote
def total(array: np.ndarray) -> float:
    return float(array.sum())


@ca.remote
def inside(box: list[Any]) -> float:
    return float(ca.get(box[0]).sum())


@ca.remote
class Maker:
    """Gives the number of its call, many times."""

    def __init__(self) -> None:
        self.calls = 0

    def make(self) -> np.ndarray:
        self.calls += 1
        return np.full(SIZE, float(self.calls))


def times_made(journal: Path) -> int:
    return len(journal.read_text().splitlines()) if journal.exists() else 0


def ready(ref: Any) -> Any:
    assert ca.wait([ref], timeout=10)[0] == [ref]
    return ref


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_a_lost_result_of_a_function_is_made_again(cluster: Cluster, journal: Path):
    ref = ready(fill.remote(2.0, str(journal)))
    lose_everything(cluster.address)
    assert ca.get(ref, timeout=10)[0] == 2.0
    assert times_made(journal) == 2


def test_a_signed_argument_reaches_the_second_run(cluster: Cluster, journal: Path):
    ref = ready(fill.remote(3.0, str(journal), {1, 2}, (4,)))
    lose_everything(cluster.address)
    assert ca.get(ref, timeout=10)[0] == 3.0


def test_a_lost_argument_is_made_again_for_the_call_that_needs_it(cluster: Cluster, journal: Path):
    ref = ready(fill.remote(1.0, str(journal)))
    lose_everything(cluster.address)
    assert ca.get(total.remote(ref), timeout=10) == SIZE
    assert times_made(journal) == 2


def test_who_borrows_a_lost_value_has_its_owner_make_it_again(cluster: Cluster, journal: Path):
    ref = ready(fill.remote(1.0, str(journal)))
    lose_everything(cluster.address)
    assert ca.get(inside.remote([ref]), timeout=10) == SIZE
    assert times_made(journal) == 2


def test_a_lost_value_made_from_a_lost_value_brings_both_back(cluster: Cluster, journal: Path):
    first = ready(fill.remote(1.0, str(journal)))
    second = ready(fill.remote(5.0, str(journal), first))
    del first
    lose_everything(cluster.address)
    assert ca.get(second, timeout=20)[0] == 5.0
    assert times_made(journal) == 4


def test_late_news_of_a_lost_value_are_not_taken_for_the_new_one(cluster: Cluster, journal: Path):
    ref = ready(fill.remote(1.0, str(journal)))
    results, old = runtime.current().results, ref._meta
    lose_everything(cluster.address)
    results.reset(ref)
    results.arrived(old)
    assert not ref.ready
    results.arrived(msgspec.structs.replace(old, status="FAILURE", result=msgspec.Raw(b"null")))
    assert ref.failed


def test_an_awaited_value_is_made_again(cluster: Cluster, journal: Path):
    ref = ready(fill.remote(4.0, str(journal)))
    lose_everything(cluster.address)

    async def wait() -> Any:
        return await asyncio.wait_for(ref.as_future(), 10)

    assert asyncio.run(wait())[0] == 4.0


def test_a_function_without_retries_is_not_run_again(cluster: Cluster, journal: Path):
    ref = ready(fill.options(max_retries=0).remote(1.0, str(journal)))
    lose_everything(cluster.address)
    with pytest.raises(ca.ObjectLostError, match="last holder dropped it"):
        ca.get(ref, timeout=10)
    assert times_made(journal) == 1


def test_a_value_is_made_again_as_often_as_its_call_may_be_retried(cluster: Cluster, journal: Path):
    ref = ready(fill.options(max_retries=2).remote(1.0, str(journal)))
    for _ in range(2):
        lose_everything(cluster.address)
        assert ca.get(ref, timeout=10)[0] == 1.0
    lose_everything(cluster.address)
    with pytest.raises(ca.exceptions.ObjectReconstructionFailedError, match="run again 2 times"):
        ca.get(ref, timeout=10)
    assert times_made(journal) == 3


def test_the_result_of_an_actor_whose_calls_may_be_retried_is_made_again(cluster: Cluster):
    maker = Maker.remote()
    ref = ready(maker.make.options(max_task_retries=1).remote())
    lose_everything(cluster.address)
    assert ca.get(ref, timeout=10)[0] == 2.0, "the actor goes on from the state it has"


def test_the_result_of_an_actor_whose_calls_may_not_be_retried_is_lost(cluster: Cluster):
    maker = Maker.remote()
    ref = ready(maker.make.remote())
    lose_everything(cluster.address)
    with pytest.raises(ca.ObjectLostError):
        ca.get(ref, timeout=10)
    assert ca.get(maker.make.remote(), timeout=10)[0] == 2.0


def test_a_put_value_is_never_made_again(cluster: Cluster):
    ref = ca.put(np.ones(SIZE))
    lose_everything(cluster.address)
    with pytest.raises(ca.ObjectLostError):
        ca.get(ref, timeout=10)
    with pytest.raises(ca.ObjectLostError):
        ca.get(total.remote(ref), timeout=10)


def test_a_call_with_a_large_argument_by_value_says_why_it_cannot_run_again(
    cluster: Cluster, journal: Path
):
    ref = ready(fill.remote(1.0, str(journal), np.ones(SIZE)))
    lose_everything(cluster.address)
    expected = pytest.raises(
        ca.exceptions.ObjectReconstructionFailedError, match=r"put\(\) such values"
    )
    with expected:
        ca.get(ref, timeout=10)


def test_a_value_that_its_dead_owner_made_cannot_be_made_again(cluster: Cluster, journal: Path):
    @ca.remote
    class Owner:
        def make(self, journal: str) -> list[Any]:
            self.ref = fill.remote(1.0, journal)
            ca.wait([self.ref])
            return [self.ref]

    owner = Owner.remote()
    [ref] = ca.get(owner.make.remote(str(journal)), timeout=10)
    ready(ref)
    ca.kill(owner)
    lose_everything(cluster.address)
    with pytest.raises(ca.ObjectLostError):
        ca.get(ref, timeout=10)
