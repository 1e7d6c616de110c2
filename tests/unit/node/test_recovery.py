"""What becomes of the calls of a lost process or node: answered, run again, or back in line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from celery_actors import directory, routing
from celery_actors.broker.remains import control_remains
from celery_actors.errors import ActorDiedError, ClusterUnreachableError
from celery_actors.messages import decode_envelope
from celery_actors.need import Need
from celery_actors.node.recovery import (
    Lost,
    actor_lost,
    describe_exit,
    end_session,
    node_lost,
    shared_lost,
)
from celery_actors.serialization import Sealer
from celery_actors.store import Store, Wire
from celery_actors.store.scripts import _SHA as SHA
from tests.unit.node.outcomes import GARBAGE, RING, call, numbers, outcomes, text_of
from tests.unit.store.records import NODE, TTL, StoredActor, answer, results, start_node

QUEUE = routing.shared_queue("none")


def cancel(store: Store, number: int) -> None:
    store.run("SET", routing.cancelled_key(f"call-{number}"), "1")


def living(store: Store, *calls: str, **fields: Any) -> StoredActor:
    """Return an actor that serves the given calls."""
    actor = StoredActor(store).start()
    for name, value in {"st": "alive", "max_task_retries": 0, **fields}.items():
        store.run("HSET", actor.keys.meta, name, value)
    context = directory.spec_context(actor.actor_id)
    spec = Sealer(RING).seal(((), {}), context, "spec", "a spec")
    store.run("SET", actor.keys.spec, spec)
    actor.submit(1, *calls)
    return actor


def lose(actor: StoredActor, **how: Any) -> None:
    lost = Lost(**{"cause": "killed", **how})
    actor_lost(actor.store, actor.actor_id, actor.keys.queue, actor.owner, lost, TTL)


def lose_node(store: Store) -> None:
    """Take over what a node owned whose lease is over."""
    store.run("UNLINK", routing.lease_key(NODE))
    node_lost(store, NODE, TTL)


# -- exits -----------------------------------------------------------------------------------


def test_an_exit_is_described_by_its_signal_or_status() -> None:
    assert (
        describe_exit(-signal.SIGSEGV, 7, "here") == "its process 7 on here was killed by SIGSEGV"
    )
    assert describe_exit(-200, 7, "here") == "its process 7 on here was killed by a signal"
    assert describe_exit(3, 7, "here") == "its process 7 on here exited with status 3"


# -- actors ----------------------------------------------------------------------------------


class Behind(Store):
    """A client that something happens before: what a process did that still lived, or its words."""

    def __init__(self, store: Store, step: str, happens: Callable[[], object]) -> None:
        super().__init__(store.address)
        self._step, self._happens = step, happens

    def run(self, *command: Any) -> Any:
        if command[1] == SHA[self._step] and self._happens is not _nothing:
            happens, self._happens = self._happens, _nothing
            happens()
        return super().run(*command)


def _nothing() -> None:
    pass


def lose_behind(actor: StoredActor, happens: Callable[[], object]) -> None:
    """Take over an actor from a process that goes on until the last moment."""
    with closing(Behind(actor.store, "release", happens)) as store:
        lost = Lost("its node was lost")
        actor_lost(store, actor.actor_id, actor.keys.queue, actor.owner, lost, TTL)


def test_a_call_that_a_living_process_fetched_meanwhile_counts_as_begun(store: Store) -> None:
    actor = living(store, call(1), call(2))

    lose_behind(actor, lambda: actor.commit(0, [], want=1))

    assert outcomes(store) == {"1": "ActorUnavailableError"}
    assert numbers(actor.waiting) == ["2"]


def test_a_call_out_of_line_that_began_meanwhile_counts_as_begun(store: Store) -> None:
    actor = living(store, call(1), call(2))
    actor.park(0)
    keys = actor.keys
    begun = (keys.meta, keys.begun, actor.epoch, actor.owner, [0])

    lose_behind(actor, lambda: store.scripts.begin(*begun))

    assert outcomes(store) == {"1": "ActorUnavailableError"}
    assert (numbers(actor.waiting), actor.parked) == (["2"], {})


@pytest.mark.parametrize("concurrent", [0, 1])
def test_a_call_out_of_line_that_ended_meanwhile_keeps_its_result(
    store: Store, concurrent: int
) -> None:
    actor = living(store, call(1), call(2), concurrent=concurrent, max_restarts=1 - concurrent)
    actor.park(0)
    store.scripts.begin(actor.keys.meta, actor.keys.begun, actor.epoch, actor.owner, [0])

    lose_behind(actor, lambda: actor.take(1, 0, [(0, answer(7))]))

    assert results(store)["call-7"] == 7
    assert store.get(routing.result_key("call-1")) is None


def test_the_call_that_had_begun_fails_and_the_others_wait_for_the_restart(store: Store) -> None:
    actor = living(store, call(1), call(2), call(3))

    lose(actor, progress=1)

    assert outcomes(store) == {"1": "ActorUnavailableError"}
    assert numbers(actor.waiting) == ["2", "3"]
    assert actor.meta["st"] == "restarting"


def test_calls_that_may_run_again_keep_their_place_and_count_their_tries(store: Store) -> None:
    actor = living(store, call(1, retries=1), call(2, retries=-1), call(3))

    lose(actor, progress=2, tries=4)

    assert outcomes(store) == {}
    assert numbers(actor.waiting) == ["1", "2", "3"]
    retries = [decode_envelope(found.encode()).headers.retries for found in actor.waiting]
    assert retries == [1, 5, 0]


def test_a_call_without_a_limit_of_its_own_has_the_actors(store: Store) -> None:
    plain = json.loads(call(1))
    del plain["headers"]["ca"]
    actor = living(store, json.dumps(plain), max_task_retries=1)

    lose(actor, progress=1)

    assert outcomes(store) == {}
    assert numbers(actor.waiting) == ["1"]


def test_of_what_a_store_that_lost_writes_has_in_line_only_what_had_begun_is_hit(
    store: Store,
) -> None:
    """Others may have come into the places of calls that the store has forgotten."""
    actor = living(store, call(1), call(2), call(3, retries=1), call(4), call(5))

    lose(actor, progress=9, rolled_back=True, seen={"call-2", "call-3", "call-7"})

    assert outcomes(store) == {"2": "StoreRolledBackError"}
    assert "killed. This call had begun and may or may not have taken effect" in text_of(store, 2)
    assert numbers(actor.waiting) == ["1", "3", "4", "5"]
    assert actor.meta["ap"] == "1"


def test_calls_of_an_overlapping_actor_that_the_store_has_put_back_in_line_are_hit_too(
    store: Store,
) -> None:
    actor = living(store, call(1), call(2), concurrent=1)
    lose(actor, progress=0, rolled_back=True, seen={"call-1"})
    assert outcomes(store) == {"1": "StoreRolledBackError"}
    assert numbers(actor.waiting) == ["2"]


def test_where_a_store_has_lost_writes_and_nothing_here_had_begun_nothing_is_hit(
    store: Store,
) -> None:
    actor = living(store, call(1), call(2))
    lose(actor, progress=9, rolled_back=True, seen=set())
    assert outcomes(store) == {}
    assert numbers(actor.waiting) == ["1", "2"]


def test_a_move_from_a_node_that_ends_uses_up_no_restart(store: Store) -> None:
    actor = living(store, call(1), max_restarts=1)

    for moves in (1, 2):
        lose(actor, progress=0, moved=True)
        assert (actor.meta["st"], actor.meta["moves"]) == ("restarting", str(moves))
        assert actor.claim(nonce=f"move-{moves}") is not None
    lose(actor, progress=0)
    assert actor.meta["st"] == "restarting"
    assert actor.claim(nonce="crash") is not None
    lose(actor, progress=0)

    assert actor.meta["st"] == "buried"
    assert outcomes(store) == {"1": "ActorDiedError"}


def test_an_actor_that_cannot_restart_does_not_move(store: Store) -> None:
    actor = living(store, call(1), max_restarts=0)
    lose(actor, progress=0, moved=True)
    assert actor.meta["st"] == "buried"


def test_an_actor_without_restarts_answers_every_call(store: Store) -> None:
    actor = living(store, call(1, retries=-1), call(2), max_restarts=0)

    lose(actor, progress=1)

    assert outcomes(store) == {"1": "ActorDiedError", "2": "ActorDiedError"}
    assert "while it ran this call: killed" in text_of(store, 1)
    assert "died before this call started: killed" in text_of(store, 2)


def test_a_failed_constructor_and_a_wish_to_leave_end_an_actor_that_might_restart(
    store: Store,
) -> None:
    for number, how in enumerate([{"init_failed": True}, {"left": True}]):
        store.run("FLUSHDB")
        actor = living(store, call(1), max_restarts=-1)

        lose(actor, progress=number, **how)

        assert outcomes(store) == {"1": "ActorDiedError"}
        assert actor.meta["st"] == "buried"


def test_a_cancelled_call_that_had_begun_is_told_as_cancelled(store: Store) -> None:
    actor = living(store, call(1, retries=-1))
    cancel(store, 1)

    lose(actor, progress=1)

    assert outcomes(store) == {"1": "TaskCancelledError"}
    assert actor.waiting == []


def test_where_nobody_saw_the_end_what_was_marked_counts_as_begun(store: Store) -> None:
    actor = living(store, call(1), call(2), call(3), go=2)

    lose(actor)

    assert outcomes(store) == {"1": "ActorUnavailableError", "2": "ActorUnavailableError"}
    assert numbers(actor.waiting) == ["3"]


def test_where_nothing_is_marked_the_oldest_call_may_have_begun(store: Store) -> None:
    actor = living(store, call(1), call(2), max_restarts=0)

    lose(actor)

    assert "while it ran this call" in text_of(store, 1)
    assert "before this call started" in text_of(store, 2)


def test_an_actor_that_never_came_alive_had_begun_nothing(store: Store) -> None:
    actor = living(store, call(1), call(2), st="starting", go=1)

    lose(actor)

    assert outcomes(store) == {}
    assert numbers(actor.waiting) == ["1", "2"]


@pytest.mark.parametrize(
    ("fields", "begun", "answered", "kept"),
    [
        # A worker that may not restart marks nothing: any of its calls may have begun.
        ({"max_restarts": 0, "concurrent": 1}, [], {"1", "2", "3"}, []),
        ({"max_restarts": 1, "concurrent": 1}, ["0", "2"], {"1"}, ["2", "3"]),
        ({"max_restarts": 1, "concurrent": 1, "st": "starting"}, ["0"], set(), ["1", "2", "3"]),
    ],
)
def test_calls_out_of_line_are_settled_as_far_as_they_had_begun(
    store: Store, fields: dict[str, Any], begun: list[str], answered: set[str], kept: list[str]
) -> None:
    actor = living(store, call(1), call(2), call(3, retries=1), **fields)
    actor.take(0, 3)
    if begun:
        store.run("SADD", actor.keys.begun, *begun)

    lose(actor, progress=None)

    assert set(outcomes(store)) == answered
    if kept:
        assert actor.claim(nonce="n2") is not None
        assert numbers(actor.waiting) == kept


def test_a_former_owners_loss_changes_nothing(store: Store) -> None:
    actor = living(store, call(1))
    former, actor.owner = actor.owner, "another|n9"

    lose(actor, progress=1)

    assert outcomes(store) == {}
    assert actor.meta["own"] == former


def test_the_loss_of_a_process_whose_actor_was_killed_helps_to_bury_it(store: Store) -> None:
    actor = living(store, call(1), GARBAGE, call(2))
    actor.kill("the driver asked for it")

    lose(actor, progress=1)

    assert outcomes(store) == {"1": "ActorDiedError", "2": "ActorDiedError"}
    assert actor.meta["st"] == "buried"
    assert directory.find(store, actor.actor_id) is None


# -- shared workers --------------------------------------------------------------------------


def worker_with(store: Store, *calls: str, **fields: Any) -> routing.ActorKeys:
    """Let a worker of a shared queue take the given calls, oldest first."""
    keys = routing.worker_keys("w-1")
    words = {"ep": 1, "own": f"{NODE}|w-1", "ap": 0, "go": 0, "st": "alive", "source": QUEUE,
             "resident": 1, **fields}  # fmt: skip
    for name, value in words.items():
        store.run("HSET", keys.meta, name, value)
    store.run("SADD", routing.owned_key(NODE), "w-1")
    for message in calls:
        store.run("LPUSH", keys.queue, message)
    return keys


def lose_worker(store: Store, **how: Any) -> None:
    shared_lost(store, "w-1", f"{NODE}|w-1", Lost(**{"cause": "killed", **how}), TTL)


def waiting(store: Store) -> list[str]:
    """The calls in the shared queue, oldest first."""
    return numbers(store.texts("LRANGE", QUEUE, 0, -1)[::-1])


def test_a_begun_function_call_runs_again_or_fails_and_the_others_go_back(store: Store) -> None:
    worker_with(store, call(1), call(2, retries=1), call(3))

    lose_worker(store, progress=2)

    assert outcomes(store) == {"1": "WorkerCrashedError"}
    assert "No retry was left (max_retries=0)" in text_of(store, 1)
    assert waiting(store) == ["2", "3"]


def test_cancelled_function_calls_are_answered_by_what_they_had_done(store: Store) -> None:
    worker_with(store, call(1, retries=-1), call(2, retries=-1), call(3))
    for number in (1, 2):
        cancel(store, number)

    lose_worker(store, progress=1)

    assert outcomes(store) == {"1": "WorkerCrashedError", "2": "TaskCancelledError"}
    assert "cancelled with force=True" in text_of(store, 1)
    assert "cancelled before it started" in text_of(store, 2)
    assert waiting(store) == ["3"]


def test_what_is_no_message_goes_back_for_the_next_worker_to_set_aside(store: Store) -> None:
    worker_with(store, GARBAGE, call(1))

    lose_worker(store, progress=1)

    assert waiting(store) == [GARBAGE, "1"]


def test_a_plain_celery_message_that_had_begun_fails(store: Store) -> None:
    plain = json.loads(call(1))
    del plain["headers"]["ca"]
    worker_with(store, json.dumps(plain))

    lose_worker(store, progress=1)

    assert outcomes(store) == {"1": "WorkerCrashedError"}


def test_a_shared_workers_loss_is_settled_once(store: Store) -> None:
    worker_with(store, call(1))
    lose_worker(store, progress=0)

    lose_worker(store, progress=0)

    assert waiting(store) == ["1"]


# -- nodes and drivers -----------------------------------------------------------------------


def test_a_lost_nodes_work_is_taken_over_and_the_node_forgotten(store: Store) -> None:
    actor = living(store, call(1), call(2), go=1)
    worker_with(store, call(11), call(12), go=1)
    store.run("HSET", routing.NODES, NODE, "{}", "node-2", "{}")
    store.run("SADD", routing.owned_key(NODE), "no-such-actor", "w-gone")

    lose_node(store)

    assert outcomes(store) == {"1": "ActorUnavailableError", "11": "WorkerCrashedError"}
    assert numbers(actor.waiting) == ["2"]
    assert waiting(store) == ["12"]
    assert store.texts("HKEYS", routing.NODES) == ["node-2"]
    assert store.run("EXISTS", routing.owned_key(NODE)) == 0


def test_control_mailboxes_of_a_lost_nodes_workers_are_removed(store: Store) -> None:
    living(store, call(1))
    worker_with(store, call(11))
    store.run("HSET", routing.worker_keys("w-1").meta, "needs", Need().encode())
    told = {NODE: "here", "node-2": "there", "node-3": "there"}
    for name, host in told.items():
        store.run("HSET", routing.NODES, name, json.dumps({"host": host}))
    labels = ("Counter-counter@here", f"{routing.tasks_label(Need().label, 'w-1')}@here",
              "node@here", "node@there")  # fmt: skip
    for name in labels:
        bindings, member, queue = control_remains(name)
        store.run("SADD", bindings, member)
        store.run("RPUSH", queue, "a broadcast")

    lose_node(store)
    store.run("UNLINK", routing.lease_key("node-2"))
    node_lost(store, "node-2", TTL)  # another run on that host has its name now

    bindings, member, queue = control_remains("node@there")
    assert store.texts("SMEMBERS", bindings) == [member]
    assert [name for name in labels if store.run("EXISTS", control_remains(name)[2])] == [
        "node@there"
    ]


def test_a_node_that_was_taken_over_enters_nothing_in_its_books(store: Store) -> None:
    store.run("HSET", routing.NODES, NODE, "{}")
    lose_node(store)
    keys = [routing.sessions_key(NODE), routing.owned_key(NODE), "meta", routing.gone_key(NODE)]

    assert not store.scripts.enlist(keys, "session", "w-1", "own", NODE)

    assert store.run("EXISTS", *keys[:3]) == 0


def test_a_node_that_has_its_lease_again_keeps_what_it_owns(store: Store) -> None:
    actor = living(store, call(1), go=1)
    store.run("HSET", routing.NODES, NODE, "{}")

    node_lost(store, NODE, TTL)

    assert (actor.meta["st"], outcomes(store)) == ("alive", {})
    assert store.texts("HKEYS", routing.NODES) == [NODE]


def test_the_connection_of_a_lost_process_is_closed(store: Store) -> None:
    with closing(Wire(store.address)) as mailbox:
        living(store, call(1), cid=mailbox.call("CLIENT", "ID"))

        lose_node(store)

        with pytest.raises(ClusterUnreachableError):
            mailbox.receive(10)


def test_an_actor_that_another_node_has_taken_over_stays_there(store: Store) -> None:
    actor = living(store, call(1))
    store.run("HSET", actor.keys.meta, "own", "node-2|n1")

    lose_node(store)

    assert outcomes(store) == {}
    assert actor.meta["own"] == "node-2|n1"


def test_with_the_last_node_go_the_needs_that_nothing_waits_for(store: Store) -> None:
    waits, idle = Need((("CPU", 10_000),)), Need((("ssd", 10_000),))
    for need in (waits, idle):
        store.run("HSET", routing.NEEDS, need.label, json.dumps(need.amounts))
    store.run("LPUSH", routing.shared_queue(waits.label), call(1))
    store.run("HSET", routing.NODES, NODE, "{}")

    lose_node(store)

    assert store.texts("HKEYS", routing.NEEDS) == [waits.label]


def test_the_end_of_a_driver_ends_its_actors_and_forgets_it(store: Store) -> None:
    actor = living(store, call(1))
    store.run("SADD", routing.job_key("job-1"), "an-actor-that-is-gone")
    store.run("ZADD", routing.SESSIONS, 1, "job-1")

    end_session(store, "job-1", TTL)

    assert outcomes(store) == {"1": "ActorDiedError"}
    assert "the driver that created it ended" in text_of(store, 1)
    assert actor.meta["st"] == "buried"
    assert store.run("ZCARD", routing.SESSIONS) == 0
    assert store.run("EXISTS", routing.job_key("job-1")) == 0


class KilledError(Exception):
    """Stands for the end of a process."""


class Mortal(Store):
    """The client of a process that ends before its n-th step."""

    def __init__(self, store: Store, steps: int) -> None:
        super().__init__(store.address)
        self._left = steps

    def run(self, *command: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise KilledError
        return super().run(*command)


@pytest.mark.parametrize("steps", range(1, 16))
def test_a_death_that_a_process_left_half_way_is_seen_to_by_any_other(
    store: Store, steps: int
) -> None:
    actor = living(store, call(1), call(2))
    actor.park(0)
    created = StoredActor(store, "actor-2", "child")
    created.create()
    store.run("SADD", routing.job_key(actor.actor_id), created.actor_id)

    with closing(Mortal(store, steps)) as dying, pytest.raises(KilledError):
        directory.end(dying, actor.actor_id, actor.keys.queue, "killed", TTL)
    for actor_id, queue in store.hash(routing.DYING).items():
        directory.reap(store, actor_id, queue, TTL)

    assert outcomes(store) == {"1": "ActorDiedError", "2": "ActorDiedError"}
    assert (actor.meta["st"], created.meta["st"]) == ("buried", "buried")
    assert store.run("EXISTS", routing.DYING, routing.ACTORS, actor.keys.queue) == 0


def test_an_actor_that_stood_still_and_was_woken_may_die_again(store: Store) -> None:
    actor = living(store)
    lose(actor, progress=0, frozen="its state cannot be read")
    assert (actor.meta["st"], store.run("EXISTS", routing.DYING)) == ("frozen", 0)
    frozen_at = actor.meta["ep"]
    directory.end_process(store, actor.actor_id, actor.keys.queue)
    actor.claim(nonce="n2")
    actor.kill()

    settled = store.scripts.settled(actor.keys.meta, routing.DYING, actor.actor_id, frozen_at)

    assert not settled, "whoever saw to it when it stood still comes late"
    assert store.hash(routing.DYING) == {actor.actor_id: actor.keys.queue}


@pytest.mark.parametrize("spec", [GARBAGE, "", "null", '{"__type__":"ca","__value__":7}'])
def test_a_creation_record_that_cannot_be_read_stops_nobody(store: Store, spec: str) -> None:
    actor = living(store, call(1))
    store.run("SET", actor.keys.spec, spec)
    store.run("ZADD", routing.SESSIONS, 1, "job-1")

    end_session(store, "job-1", TTL)

    assert outcomes(store) == {"1": "ActorDiedError"}
    assert actor.meta["st"] == "buried"
    assert store.run("EXISTS", actor.keys.spec) == 0


# -- what the directory says -----------------------------------------------------------------


def test_the_process_of_a_living_actor_can_be_ended_and_of_no_other(store: Store) -> None:
    actor = living(store)
    start_node(store)

    directory.end_process(store, actor.actor_id, actor.keys.queue)
    directory.end_process(store, "no-such-actor", "no-such-queue")

    assert store.texts("SMEMBERS", routing.kill_key(NODE)) == [actor.actor_id]


def test_a_node_that_is_taken_over_meanwhile_keeps_no_word_to_end_a_process(store: Store) -> None:
    actor = living(store)

    with closing(Behind(store, "end_process", lambda: lose_node(store))) as asking:
        directory.end_process(asking, actor.actor_id, actor.keys.queue)

    assert store.run("EXISTS", routing.kill_key(NODE)) == 0


def test_names_are_those_of_living_actors(store: Store) -> None:
    StoredActor(store, "actor-1", "one").create()
    dead = StoredActor(store, "actor-2", "two")
    dead.create()
    dead.kill()

    assert directory.names(store) == [("default", "one")]
    assert directory.names(store, "elsewhere") == []
    assert directory.find_named(store, "default", "two") is None
    found = directory.find_named(store, "default", "one")
    assert found is not None
    assert found.title == "actor Counter(one)"
    assert {found.actor_id: found.state for found in directory.actors(store)} == {
        "actor-1": "PENDING_CREATION",
        "actor-2": "DEAD",
    }


def test_a_message_that_is_none_has_an_answer_that_is_stored_nowhere() -> None:
    answer = directory.failure_answer(GARBAGE.encode(), ActorDiedError("dead", "actor-1"))

    assert (answer.key, answer.channel) == ("", "")
