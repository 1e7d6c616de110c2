from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.cast import KINDS
from tests.chaos.checker import judge
from tests.chaos.history import FAIL, INFO, OK, OPEN, TOLD, Birth, Call, Event, Run
from tests.chaos.model import FRESH, METHODS, step
from tests.chaos.record import ActorRecord, Record

CALLERS = ("a", "b", "c")


def honest(kind: str, count: int = 60) -> ActorRecord:
    """Return what an actor of this kind leaves that was restarted in the middle, with no loss."""
    actor = ActorRecord("actor-1", kind, "slot-1")
    state, incarnation, ordinal = FRESH, "one", 0
    actor.births.append(Birth("actor-1", "one", 1, 1))
    for place in range(count):
        if place == count // 2 and not KINDS[kind].lasting:
            state, incarnation, ordinal = FRESH, "two", 0
            actor.births.append(Birth("actor-1", "two", 2, place * 100))
        caller, number = CALLERS[place % 3], place // 3 + 1
        method, operand, ordinal = METHODS[place % 3], place + 1, ordinal + 1
        state, result = step(state, method, operand)
        now = place * 100 + 50
        actor.runs.append(Run(incarnation, ordinal, caller, number, method, operand, result, now))
        actor.calls.append(
            Call(caller, number, "actor-1", method, operand, now - 30, now + 40, OK,
                 [incarnation, ordinal, result])
        )  # fmt: skip
    for at, epoch in enumerate(("5", "8")):
        actor.seen.append(Event("watcher", "seen", "actor-1", "record", [epoch, f"n|{at}"], at))
    return actor


def faults(actor: ActorRecord) -> list[str]:
    return judge(Record({actor.actor: actor}, [], [], [])).faults


def change(actor: ActorRecord, place: int, **changed: Any) -> None:
    actor.calls[place] = actor.calls[place]._replace(**changed)


@pytest.mark.parametrize("kind", KINDS)
def test_an_actor_that_keeps_its_promise_passes(kind: str) -> None:
    assert faults(honest(kind)) == []


def _no_end(actor: ActorRecord) -> None:
    change(actor, 7, outcome=OPEN, value="", returned=0)


def _stranger_error(actor: ActorRecord) -> None:
    change(actor, 7, outcome=INFO, value="GetTimeoutError: too late")


def _never_sent(actor: ActorRecord) -> None:
    change(actor, 7, outcome=FAIL, value="StoreError: no")


def _invented_result(actor: ActorRecord) -> None:
    change(actor, 7, value=["one", 8, -1])


def _result_of_another_time(actor: ActorRecord) -> None:
    change(actor, 7, returned=actor.calls[7].invoked + 1)


def _lost_update(actor: ActorRecord) -> None:
    for place in (3, 6):
        run = actor.runs[place]
        result = run.result - 1 if isinstance(run.result, int) else run.result
        actor.runs[place] = run._replace(result=result)
        change(actor, place, value=[run.incarnation, run.ordinal, result])


def _epoch_goes_back(actor: ActorRecord) -> None:
    actor.seen.reverse()


def _two_owners(actor: ActorRecord) -> None:
    actor.seen.append(actor.seen[-1]._replace(value=["8", "n|another"]))


def _success_after_death(actor: ActorRecord) -> None:
    change(actor, 7, outcome=INFO, value="ActorDiedError: its process was killed by SIGKILL")
    actor.ended = 1


EVERY_KIND: dict[Callable[[ActorRecord], None], str] = {
    _no_end: "every_call_ended",
    _stranger_error: "only_promised_errors",
    _never_sent: "only_promised_errors",
    _invented_result: "results_were_computed",
    _result_of_another_time: "results_were_computed",
    _lost_update: "where the model gives",
    _epoch_goes_back: "epoch 5 came after 8",
    _two_owners: "epoch 8 belongs to",
    _success_after_death: "dead_stays_dead",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm", EVERY_KIND, ids=lambda harm: harm.__name__.strip("_"))
def test_a_broken_promise_of_any_actor_is_told(
    kind: str, harm: Callable[[ActorRecord], None]
) -> None:
    actor = honest(kind)
    harm(actor)
    assert any(EVERY_KIND[harm] in fault for fault in faults(actor))


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_of_a_restarted_process_fails_only_where_that_is_the_promise(kind: str) -> None:
    actor = honest(kind)
    error = "ActorUnavailableError: its process was killed by SIGKILL"
    change(actor, len(actor.calls) - 1, outcome=INFO, value=error)
    allowed = kind in {"restarting", "overlapping"}
    assert (faults(actor) == []) is allowed


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_ran_again_is_told_but_where_that_is_the_promise(kind: str) -> None:
    actor = honest(kind)
    again = actor.runs[-1]
    actor.runs.append(again._replace(ns=again.ns + 1))  # taken back with its process, and run again
    told = any("ran 2 times" in fault for fault in faults(actor))
    assert told is (kind in {"mortal", "restarting", "overlapping"})


def test_the_calls_of_a_restarted_actor_keep_their_order() -> None:
    actor = honest("restarting")
    actor.births[0], actor.births[1] = (
        actor.births[0]._replace(incarnation="two"), actor.births[1]._replace(incarnation="one"),
    )  # fmt: skip
    assert any("order_is_kept_across_restarts" in fault for fault in faults(actor))


def test_a_durable_actor_that_lost_an_accepted_call_is_told() -> None:
    actor = honest("durable")
    lost = actor.calls[-1]._replace(number=99, outcome=INFO, value="ActorDiedError: was ended by")
    actor.calls.append(lost)
    assert any("accepted and not applied" in fault for fault in faults(actor))
    actor.ended = lost.invoked
    assert faults(actor) == []


def test_a_call_that_an_actor_sent_with_its_commit_must_be_applied_and_no_other() -> None:
    actor = honest("durable")
    last = actor.calls[-1]
    actor.calls[-1] = last._replace(outcome=TOLD, value="", returned=0)
    assert faults(actor) == []
    told = actor.calls.pop()
    assert any("nobody sent them for good" in fault for fault in faults(actor))
    actor.gone = frozenset({told.caller})
    assert faults(actor) == []
    actor.calls.append(told._replace(number=99))
    assert any("accepted and not applied" in fault for fault in faults(actor))


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_lasting_actor_takes_a_cancelled_call_back(kind: str) -> None:
    actor = honest(kind)
    change(actor, len(actor.calls) - 1, outcome=FAIL, value="TaskCancelledError: while it ran")
    assert (faults(actor) == []) is KINDS[kind].lasting


def test_a_cancelled_call_that_left_an_effect_is_told() -> None:
    actor = honest("durable")
    change(actor, len(actor.calls) - 4, outcome=FAIL, value="TaskCancelledError: while it ran")
    assert any("is missing or taken twice" in fault for fault in faults(actor))


def test_a_durable_actor_that_was_made_twice_is_told() -> None:
    actor = honest("durable")
    last = actor.calls[-1]
    actor.runs[-1] = actor.runs[-1]._replace(incarnation="two")
    change(actor, len(actor.calls) - 1, value=["two", *last.value[1:]])
    assert any("its state was made 2 times" in fault for fault in faults(actor))


def test_a_durable_actor_that_applied_a_call_twice_is_told() -> None:
    actor = honest("durable")
    doubled = actor.runs[-1]
    state, ordinal = step(FRESH, "read", 0)[1], doubled.ordinal
    actor.runs[-1] = doubled._replace(ordinal=ordinal + 1, result=state)
    change(actor, len(actor.calls) - 1, value=["one", ordinal + 1, state])
    assert any("is missing or taken twice" in fault for fault in faults(actor))


def test_the_search_finds_what_the_actor_hides() -> None:
    actor = honest("mortal")
    for place in range(2):  # both are swapped in what the actor wrote down, and not in time
        actor.runs[place] = actor.runs[place]._replace(ns=0)
    change(actor, 2, value=["one", 3, [0, 0]])
    assert any("no order explains" in fault for fault in faults(actor))
