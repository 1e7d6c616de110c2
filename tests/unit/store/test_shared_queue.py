"""Function calls: submitted to a shared queue, taken by a worker, given back or recovered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from celery_actors import routing
from celery_actors.need import Need
from celery_actors.node.recovery import Lost, shared_lost
from celery_actors.store import Answer, Store
from tests.unit.store.records import NODE, TTL, answers, messages_on, results

HALF = Need.of(cpus=0.5, custom={})
NEED = HALF.encode()
QUEUE = routing.shared_queue(HALF.label)


def submit(
    store: Store, first: int, *calls: str, need: str = "", caller: str = "c1", after: int = -1
) -> Any:
    names = [QUEUE, routing.CALLERS + caller, routing.BELL, routing.NEEDS]
    after = first - 1 if after < 0 else after
    return store.scripts._eval("submit_shared", names, first, after, TTL, need, NEED, *calls)


def waiting(store: Store) -> list[str]:
    """The calls in the shared queue, oldest first."""
    return store.texts("LRANGE", QUEUE, 0, -1)[::-1]


@dataclass
class StoredWorker:
    """A shared worker: its record and the list of calls it has taken."""

    store: Store
    epoch: str = "5"
    owner: str = f"{NODE}|n1"
    worker_id: str = "w-1"

    @property
    def keys(self) -> routing.ActorKeys:
        return routing.worker_keys(self.worker_id)

    @property
    def taken(self) -> list[str]:
        """The calls it has taken, oldest first."""
        return self.store.texts("LRANGE", self.keys.queue, 0, -1)[::-1]

    def start(self) -> StoredWorker:
        fields = ("ep", self.epoch, "own", self.owner, "ap", 0, "go", 0, "needs", NEED)
        self.store.run("HSET", self.keys.meta, *fields)
        self.store.run("SADD", routing.owned_key(NODE), self.worker_id)
        return self

    def commit(self, position: int, settled: Sequence[Answer], want: int) -> Any:
        words = [word for one in settled for word in one]
        return self.store.scripts._eval(
            "commit", [self.keys.queue, self.keys.meta, QUEUE],
            self.epoch, self.owner, position, len(settled), want, TTL, *words,
        )  # fmt: skip

    def give_back(self, keep: int, need: str = "") -> int:
        names = (self.keys.queue, self.keys.meta, QUEUE, routing.NEEDS)
        return self.store.scripts.give_back(names, self.epoch, self.owner, keep, need, routing.BELL)

    def recover(
        self, seen: int, answered: Sequence[Answer], returned: Sequence[bytes], **changed: str
    ) -> int:
        meta = self.store.hash(self.keys.meta)
        was = {"position": meta.get("ap", ""), "go": meta.get("go", ""), **changed}
        names = [self.keys.queue, self.keys.meta, QUEUE, routing.owned_key(NODE), routing.NEEDS]
        return self.store.scripts.recover(
            names, epoch=self.epoch, owner=self.owner, seen=seen, worker_id=self.worker_id,
            need="", bell=routing.BELL, ttl=TTL, answers=answered, returned=returned, **was,
        )  # fmt: skip


@pytest.fixture
def worker(store: Store) -> StoredWorker:
    """A worker that has taken three of five calls."""
    found = StoredWorker(store).start()
    submit(store, 1, "a", "b", "c", "d", "e")
    found.commit(0, [], want=3)
    return found


# -- submission ------------------------------------------------------------------------------


def test_function_calls_wait_in_order_each_once(store: Store) -> None:
    assert submit(store, 1, "a", "b") == [0, 2]
    assert submit(store, 1, "a", "b") == [0, 2]
    assert submit(store, 2, "b", "c") == [0, 3]
    assert waiting(store) == ["a", "b", "c"]


def test_a_gap_in_function_calls_is_reported(store: Store) -> None:
    submit(store, 1, "a")
    assert submit(store, 3, "c") == [-3, 1]
    assert waiting(store) == ["a"]


def test_a_caller_of_functions_is_forgotten_in_time(store: Store) -> None:
    submit(store, 1, "a")
    assert 0 < int(store.run("TTL", routing.CALLERS + "c1")) <= TTL


def test_a_need_of_its_own_is_registered_and_rung_for(store: Store) -> None:
    bell = store.subscribe(routing.BELL)
    submit(store, 1, "a", need="cpu0.5")
    assert messages_on(bell, 1) == ["cpu0.5"]
    assert store.hash(routing.NEEDS) == {"cpu0.5": NEED}


def test_calls_for_resident_workers_ring_for_nobody(store: Store) -> None:
    submit(store, 1, "a")
    assert store.hash(routing.NEEDS) == {}


# -- take and settle -------------------------------------------------------------------------


def test_a_worker_takes_the_oldest_calls(worker: StoredWorker, store: Store) -> None:
    assert worker.taken == ["a", "b", "c"]
    assert waiting(store) == ["d", "e"]


def test_a_worker_settles_and_takes_in_one_step(worker: StoredWorker, store: Store) -> None:
    assert worker.commit(0, answers(1, 2, 3), want=1) == [0, [b"d"], 1]
    assert worker.taken == ["d"]
    assert waiting(store) == ["e"]
    assert results(store) == {"call-1": 1, "call-2": 2, "call-3": 3}


def test_a_repeated_settlement_loses_no_call_and_keeps_the_order(
    worker: StoredWorker, store: Store
) -> None:
    worker.commit(0, answers(1, 2, 3), want=1)
    assert worker.commit(0, answers(1, 2, 3), want=1) == [0, [b"d"], 1]
    assert worker.taken + waiting(store) == ["d", "e"]


def test_a_worker_that_wants_nothing_hears_what_is_left(worker: StoredWorker) -> None:
    assert worker.commit(0, answers(1), want=0) == [0, [], 2]


# -- give back -------------------------------------------------------------------------------


def test_calls_not_begun_go_back_to_the_front_in_order(worker: StoredWorker, store: Store) -> None:
    assert worker.give_back(keep=1) == 2
    assert worker.taken == ["a"]
    assert waiting(store) == ["b", "c", "d", "e"]


def test_giving_back_is_repeatable(worker: StoredWorker, store: Store) -> None:
    worker.give_back(keep=1)
    assert worker.give_back(keep=1) == 0
    assert waiting(store) == ["b", "c", "d", "e"]


def test_only_the_owner_gives_back(worker: StoredWorker, store: Store) -> None:
    worker.epoch = "6"
    assert worker.give_back(keep=1) == -10
    assert waiting(store) == ["d", "e"]


def test_giving_back_rings_for_the_need(worker: StoredWorker, store: Store) -> None:
    bell = store.subscribe(routing.BELL)
    worker.give_back(keep=0, need="cpu0.5")
    assert messages_on(bell, 1) == ["cpu0.5"]
    assert store.hash(routing.NEEDS) == {"cpu0.5": NEED}


# -- recover ---------------------------------------------------------------------------------


def test_the_calls_of_a_lost_worker_are_answered_or_go_back_in_order(
    worker: StoredWorker, store: Store
) -> None:
    assert worker.recover(3, answers(1), [b"c", b"b again"]) == 0
    assert waiting(store) == ["b again", "c", "d", "e"]
    assert results(store) == {"call-1": 1}
    assert worker.taken == []
    assert store.hash(worker.keys.meta) == {}
    assert store.texts("SMEMBERS", routing.owned_key(NODE)) == []


def test_a_loss_is_recovered_once(worker: StoredWorker, store: Store) -> None:
    worker.recover(3, [], [b"c", b"b", b"a"])
    assert worker.recover(3, [], [b"c", b"b", b"a"]) == -10
    assert waiting(store) == ["a", "b", "c", "d", "e"]


def test_a_list_that_has_changed_is_looked_at_again(worker: StoredWorker, store: Store) -> None:
    assert worker.recover(2, answers(1), [b"b"]) == -11
    assert worker.taken == ["a", "b", "c"]
    assert waiting(store) == ["d", "e"]
    assert results(store) == {}


@pytest.mark.parametrize(("want", "was"), [(1, {"position": "0", "go": "3"}), (2, {"go": "3"})])
def test_a_worker_that_has_gone_on_is_looked_at_again(
    worker: StoredWorker, store: Store, want: int, was: dict[str, str]
) -> None:
    worker.commit(0, answers(1), want=want + 2)
    seen = len(worker.taken)

    assert worker.recover(seen, [], [b"c", b"b", b"a"], **was) == -11

    assert len(worker.taken) == seen
    assert results(store) == {"call-1": 1}


def test_a_recovered_worker_cannot_commit_any_more(worker: StoredWorker, store: Store) -> None:
    worker.recover(3, [], [b"c", b"b", b"a"])
    assert worker.commit(0, answers(1), want=1) == [-10]
    assert waiting(store) == ["a", "b", "c", "d", "e"]


def test_recovery_rings_for_the_need_also_for_half_a_cpu(
    worker: StoredWorker, store: Store
) -> None:
    store.run("HSET", worker.keys.meta, "source", QUEUE, "resident", "0", "st", "alive")
    bell = store.subscribe(routing.BELL)
    shared_lost(store, worker.worker_id, worker.owner, Lost("killed", progress=0), TTL)
    assert messages_on(bell, 1) == ["cpu0.5"]
    assert store.hash(routing.NEEDS) == {"cpu0.5": NEED}
    assert waiting(store) == ["a", "b", "c", "d", "e"]
