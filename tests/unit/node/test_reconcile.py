"""What a living node owns and has no process for: settled, and nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from celery_actors import routing
from celery_actors.assignment import Assignment
from celery_actors.config import Address
from celery_actors.node.process import WorkerProcess
from celery_actors.node.reconcile import TICKS, Orphan, Reconcile, TwoLooks
from celery_actors.node.recovery import Lost
from celery_actors.store import Store
from tests.unit.node.outcomes import call, numbers, outcomes
from tests.unit.store.records import NODE, TTL, StoredActor, start_node

QUEUE = routing.shared_queue("none")
KILLED = Lost("its process 7 on here was killed by SIGKILL", 1)


class Reconciler(Reconcile):
    """One whose next look compares."""

    def compare(self, *present: Assignment, times: int = 1) -> None:
        for _ in range(times):
            self.hasten()
            self.look(present)


@pytest.fixture
def reconcile(store: Store) -> Reconciler:
    return Reconciler(store, NODE, "here", TTL)


def serving(store: Store, *calls: str) -> StoredActor:
    """Return an actor that this node serves."""
    actor = StoredActor(store).start()
    store.run("HSET", actor.keys.meta, "st", "alive", "max_task_retries", 0)
    actor.submit(1, *calls)
    return actor


def process_of(actor: StoredActor, session: str = "s-1") -> Assignment:
    return Assignment(
        worker_id=f"a-{actor.actor_id}", queue=actor.keys.queue, epoch=actor.epoch,
        owner=actor.owner, session=session, label="counter", actor_id=actor.actor_id,
    )  # fmt: skip


def taking(store: Store, *calls: str) -> Assignment:
    """Let a worker of a shared queue take calls, oldest first."""
    keys = routing.worker_keys("w-1")
    words = ("ep", 1, "own", f"{NODE}|w-1", "ap", 0, "go", 0, "st", "alive", "source", QUEUE,
             "resident", 1)  # fmt: skip
    store.run("HSET", keys.meta, *words)
    store.run("SADD", routing.owned_key(NODE), "w-1")
    store.run("LPUSH", keys.queue, *calls)
    return Assignment(
        worker_id="w-1", queue=QUEUE, epoch="1", owner=f"{NODE}|w-1", session="s-2", label="tasks"
    )


@pytest.fixture
def ended() -> Iterator[list[WorkerProcess]]:
    """Workers that a test has made."""
    made: list[WorkerProcess] = []
    yield made
    for worker in made:
        worker.control.close()
        os.close(worker.progress)


def worker_of(assignment: Assignment, made: list[WorkerProcess]) -> WorkerProcess:
    control = socket.socket(socket.AF_UNIX)
    made.append(WorkerProcess(assignment, control, os.memfd_create("page"), [], None))
    return made[-1]


def owned(store: Store) -> list[str]:
    return store.texts("SMEMBERS", routing.owned_key(NODE))


def waiting(store: Store) -> list[str]:
    return numbers(store.texts("LRANGE", QUEUE, 0, -1)[::-1])


# -- the decision ----------------------------------------------------------------------------


def test_only_what_two_looks_running_have_found_counts() -> None:
    looks, one, two = TwoLooks(), Orphan("actor-1", "n|1"), Orphan("w-1", "n|w-1")

    assert looks.look([one]) == frozenset()
    assert looks.look([two]) == frozenset()
    assert looks.look([one, two]) == {two}
    assert looks.look([]) == frozenset()
    assert looks.look([two]) == frozenset()


def test_the_same_actor_under_another_owner_is_another_finding() -> None:
    looks = TwoLooks()

    looks.look([Orphan("actor-1", "n|1")])

    assert looks.look([Orphan("actor-1", "n|2")]) == frozenset()
    assert looks.look([Orphan("actor-1", "n|2")]) == {Orphan("actor-1", "n|2")}


# -- without a process -----------------------------------------------------------------------


def test_an_actor_without_a_process_restarts(store: Store, reconcile: Reconciler) -> None:
    actor = serving(store, call(1), call(2))
    store.run("HSET", actor.keys.meta, "go", 1)

    reconcile.compare()
    assert actor.meta["st"] == "alive"
    reconcile.look(())

    assert (actor.meta["st"], actor.meta["own"]) == ("restarting", "")
    assert outcomes(store) == {"1": "ActorUnavailableError"}
    assert numbers(actor.waiting) == ["2"]
    assert owned(store) == []


def test_an_actor_whose_claim_never_arrived_is_started_by_the_next_claim(
    store: Store, reconcile: Reconciler
) -> None:
    actor = StoredActor(store).start()

    reconcile.compare(times=2)

    claim = actor.claim(nonce="n2")
    assert claim is not None
    assert claim.actor_id == actor.actor_id


def test_a_shared_worker_without_a_process_gives_back_what_it_cannot_have_begun(
    store: Store, reconcile: Reconciler
) -> None:
    taking(store, call(1), call(2))

    reconcile.compare(times=2)

    assert outcomes(store) == {"1": "WorkerCrashedError"}
    assert waiting(store) == ["2"]
    assert owned(store) == []


def test_what_has_a_process_stays(store: Store, reconcile: Reconciler) -> None:
    actor, worker = serving(store, call(1)), taking(store, call(11))
    before = actor.meta

    reconcile.compare(process_of(actor), worker, times=4)

    assert actor.meta == before
    assert sorted(owned(store)) == ["actor-1", "w-1"]
    assert outcomes(store) == {}


def test_an_actor_that_was_claimed_between_two_looks_stays(
    store: Store, reconcile: Reconciler
) -> None:
    actor = serving(store, call(1))
    reconcile.compare()
    actor.release(0, [])
    actor.claim(nonce="n2")
    before = actor.meta

    reconcile.look(())

    assert actor.meta == before
    reconcile.compare(process_of(actor), times=2)
    assert actor.meta == before


def test_nothing_is_settled_that_others_own_or_nobody_knows(
    store: Store, reconcile: Reconciler
) -> None:
    actor = serving(store, call(1))
    store.run("HSET", actor.keys.meta, "own", "node-2|n1")
    store.run("SADD", routing.owned_key(NODE), "no-such-actor", "w-gone")

    reconcile.compare(times=2)

    assert actor.meta["own"] == "node-2|n1"
    assert outcomes(store) == {}
    assert owned(store) == []


def test_an_actor_of_a_process_before_the_present_one_restarts(
    store: Store, reconcile: Reconciler, ended: list[WorkerProcess]
) -> None:
    # The store was rolled back: it names a process of this node that had ended before.
    actor = serving(store, call(1))
    latest = replace(process_of(actor), owner=f"{NODE}|n2")

    reconcile.ended(worker_of(latest, ended), KILLED)
    assert owned(store) == [actor.actor_id]
    reconcile.compare(times=2)

    assert actor.meta["st"] == "restarting"
    assert owned(store) == []


def test_a_session_without_a_process_is_ended(store: Store, reconcile: Reconciler) -> None:
    actor = serving(store)
    sessions = routing.sessions_key(NODE)
    store.run("SADD", sessions, "s-1", "s-gone")

    reconcile.compare(process_of(actor, "s-1"), times=2)

    assert store.texts("SMEMBERS", sessions) == ["s-1"]
    assert store.run("EXISTS", routing.gone_key("s-gone")) == 1
    assert store.run("EXISTS", routing.gone_key("s-1")) == 0


def test_without_trouble_a_node_compares_now_and_then(store: Store, reconcile: Reconciler) -> None:
    actor = serving(store)

    for _ in range(TICKS):
        reconcile.look(())
    assert actor.meta["st"] == "alive"
    reconcile.look(())

    assert actor.meta["st"] == "restarting"


def test_a_death_that_nobody_sees_to_is_seen_to_at_the_second_look(
    store: Store, reconcile: Reconciler
) -> None:
    actor = serving(store, call(1))
    actor.kill()
    dying = store.hash(routing.DYING)

    reconcile.bury(dying)
    assert outcomes(store) == {}
    reconcile.bury(dying)

    assert outcomes(store) == {"1": "ActorDiedError"}
    assert actor.meta["st"] == "buried"
    assert store.hash(routing.DYING) == {}


# -- ended while the store was away ----------------------------------------------------------


class Away(Reconciler):
    """One whose store can be away."""

    def away(self, nowhere: Path | None, address: Address) -> None:
        self._store.close()
        self._store = Store(Address.parse(f"unix://{nowhere}") if nowhere else address, retries=0)


@pytest.fixture
def troubled(address: Address, tmp_path: Path, store: Store) -> Iterator[Away]:
    """A node whose store does not answer."""
    found = Away(Store(address), NODE, "here", TTL)
    found.away(tmp_path / "no.sock", address)
    yield found
    found._store.close()


def test_what_ended_while_the_store_was_away_is_settled_with_the_first_answer(
    store: Store, address: Address, troubled: Away, ended: list[WorkerProcess],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    actor, worker = serving(store, call(1), call(2)), taking(store, call(11), call(12))
    store.run("SADD", routing.sessions_key(NODE), "s-1", "s-2")
    troubled.ended(worker_of(process_of(actor), ended), KILLED)
    troubled.ended(worker_of(worker, ended), KILLED)
    assert "settled when the store answers again" in caplog.text
    assert outcomes(store) == {}

    troubled.away(None, address)
    troubled.look(())

    # What the supervisor saw counts: one call of each had begun.
    assert outcomes(store) == {"1": "ActorUnavailableError", "11": "WorkerCrashedError"}
    assert actor.meta["cause"] == KILLED.cause
    assert (numbers(actor.waiting), waiting(store)) == (["2"], ["12"])
    assert owned(store) == store.texts("SMEMBERS", routing.sessions_key(NODE)) == []


def test_an_actor_that_runs_again_meanwhile_stays_in_its_nodes_hands(
    store: Store, address: Address, troubled: Away, ended: list[WorkerProcess]
) -> None:
    actor = serving(store)
    troubled.ended(worker_of(process_of(actor), ended), KILLED)
    actor.release(0, [])  # it had arrived, and only its reply was lost
    actor.claim(nonce="n2")
    before = actor.meta

    troubled.away(None, address)
    troubled.compare(process_of(actor, "s-3"), times=2)

    assert actor.meta == before
    assert owned(store) == [actor.actor_id]


def test_a_worker_that_the_store_will_not_settle_stops_no_other(
    store: Store, address: Address, troubled: Away, ended: list[WorkerProcess]
) -> None:
    actor, worker = serving(store, call(1)), taking(store, call(11))
    troubled.ended(worker_of(process_of(actor), ended), KILLED)
    troubled.ended(worker_of(worker, ended), KILLED)
    mailbox = store.run("DUMP", actor.keys.queue)
    store.run("SET", actor.keys.queue, "no list")

    troubled.away(None, address)
    troubled.compare(times=2)
    assert outcomes(store) == {"11": "WorkerCrashedError"}

    store.run("RESTORE", actor.keys.queue, 0, mailbox, "REPLACE")
    troubled.look(())
    assert outcomes(store) == {"1": "ActorUnavailableError", "11": "WorkerCrashedError"}


def test_a_living_store_settles_at_once(
    store: Store, reconcile: Reconciler, ended: list[WorkerProcess]
) -> None:
    actor = serving(store, call(1))
    start_node(store)
    store.run("SADD", routing.kill_key(NODE), actor.actor_id)

    reconcile.ended(worker_of(process_of(actor), ended), KILLED)

    assert outcomes(store) == {"1": "ActorUnavailableError"}
    assert store.run("EXISTS", routing.kill_key(NODE), routing.owned_key(NODE)) == 0


def test_the_end_of_a_passive_actors_process_is_no_crash(
    store: Store, reconcile: Reconciler, ended: list[WorkerProcess]
) -> None:
    actor = serving(store)
    former = process_of(actor)
    assert actor.passivate()
    before = actor.meta

    reconcile.ended(worker_of(former, ended), Lost("it exited with status 0", 0))

    assert actor.meta == before
    assert owned(store) == []


def test_one_that_came_back_to_this_node_before_its_end_was_seen_stays_in_its_hands(
    store: Store, reconcile: Reconciler, ended: list[WorkerProcess]
) -> None:
    actor = serving(store)
    former = process_of(actor)
    assert actor.passivate()
    actor.submit(1, call(1))
    actor.claim(nonce="n2")
    before = actor.meta

    reconcile.ended(worker_of(former, ended), KILLED, [process_of(actor, "s-3")])

    assert actor.meta == before
    assert owned(store) == [actor.actor_id]
    assert numbers(actor.waiting) == ["1"]
