"""Judges a chaos run by what its files say: did every actor keep its promise?

The numbers of the invariants are those of the reliability plan: I1 one result for each call, I2
nothing lost or doubled, I3 order, I4 the sequential model, I5 one owner for each epoch, I9 dead
stays dead, I11 a cancelled call leaves nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .cast import KINDS, Kind
from .history import FAIL, INFO, OK, OPEN, TOLD, Call, Run
from .linearizability import Operation, UndecidedError, is_linearizable
from .record import ActorRecord, Record
from .witness import Applied, replay

__all__ = ["Verdict", "judge"]

#: Why an actor may die in such a run; its error must say so.
_CAUSES = ("was killed by SIGKILL", "was lost", "was stopped", "was ended by")
#: Calls of a slice for the search, and how many of them may be of unknown outcome.
SLICE_CALLS, SLICE_UNKNOWN = 40, 5


@dataclass
class Verdict:
    """What the checker found."""

    faults: list[str] = field(default_factory=list)
    slices: int = 0  # histories in which the search found an order
    undecided: int = 0  # … in which it was given up
    replayed: int = 0  # calls that were replayed in the order that their actors tell


def judge(record: Record) -> Verdict:
    """Return what contradicts the promises."""
    verdict = Verdict(list(record.flaws))
    for actor in record.actors.values():
        if not actor.kind:
            verdict.faults.append(f"{actor.actor} ran, and no caller knows it")
            continue
        for rule in RULES:
            found = list(rule(actor, KINDS[actor.kind]))
            who = f"{rule.__name__}: {actor.slot} {actor.kind} {actor.actor[:8]}"
            verdict.faults += [f"{who}: {fault}" for fault in found[:3]]
            if len(found) > 3:
                verdict.faults.append(f"{who}: and {len(found) - 3} more")
        verdict.replayed += len(actor.runs)
        _search(actor, verdict)
    return verdict


# -- one actor ---------------------------------------------------------------------------------


def every_call_ended(actor: ActorRecord, kind: Kind) -> Iterator[str]:
    """I1, and no hang: each call came to one outcome."""
    for call in actor.calls:
        if call.outcome == OPEN:
            yield f"{_name(call)} has no end"


def only_promised_errors(actor: ActorRecord, kind: Kind) -> Iterator[str]:
    """A call fails only as its actor's kind says."""
    for call in actor.calls:
        if call.outcome not in {FAIL, INFO}:
            continue
        error = call.value.partition(":")[0]
        known = any(cause in call.value for cause in _CAUSES)
        died = error == "ActorDiedError" and known and (not kind.restarts or actor.ended)
        restarts = error == "ActorUnavailableError" and kind.restarts and not kind.again
        cancelled = error == "TaskCancelledError" and call.outcome == FAIL and kind.lasting
        if not died and not restarts and not cancelled:
            yield f"{_name(call)} failed with {call.value}"


def results_were_computed(actor: ActorRecord, kind: Kind) -> Iterator[str]:
    """I2: a result is one that the actor wrote down for this call, while it was waited for."""
    runs: defaultdict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in actor.runs:
        runs[run.incarnation, run.ordinal].append(run)
    for call in actor.calls:
        if call.outcome != OK:
            continue
        incarnation, ordinal, result, *_ = call.value
        wanted = (call.caller, call.number, call.method, call.operand, result)
        if not any(
            (run.caller, run.number, run.method, run.operand, run.result) == wanted
            and call.invoked <= run.ns <= call.returned
            for run in runs[incarnation, ordinal]
        ):
            yield f"{_name(call)} gave {call.value}, which never ran: {runs[incarnation, ordinal]}"


def begun_calls_never_run_again(actor: ActorRecord, kind: Kind) -> Iterator[str]:
    """I2: at most once, unless the actor was made for more."""
    if kind.again:
        return
    for (caller, number), times in Counter((run.caller, run.number) for run in actor.runs).items():
        if times > 1:
            yield f"call {number} of {caller} ran {times} times"


def order_is_kept_across_restarts(actor: ActorRecord, kind: Kind) -> Iterator[str]:
    """I3: a restarted actor goes on behind the calls that were begun before."""
    if kind.again or not kind.ordered:
        return
    births = {birth.incarnation: birth.ns for birth in actor.births}
    last: dict[str, int] = {}
    for run in sorted(actor.runs, key=lambda run: (births[run.incarnation], run.ordinal)):
        if run.number <= last.get(run.caller, 0):
            yield f"call {run.number} of {run.caller} ran behind call {last[run.caller]}"
        last[run.caller] = run.number


def each_state_follows_the_model(actor: ActorRecord, kind: Kind) -> Iterator[str]:
    """I3, I4: replayed in the actor's own order, each result is the model's."""
    if kind.lasting:
        return
    calls = {(call.caller, call.number): call for call in actor.calls}
    states: defaultdict[str, list[Run]] = defaultdict(list)
    for run in actor.runs:
        states[run.incarnation].append(run)
    for runs in states.values():
        order = [_applied(run, calls) for run in sorted(runs, key=lambda run: run.ordinal)]
        yield from replay(order, by_caller=kind.ordered)


def lasting_state_holds_each_call_once(actor: ActorRecord, kind: Kind) -> Iterator[str]:
    """I1 to I4 for a durable actor: its one state has applied each accepted call once, in order."""
    if not kind.lasting:
        return
    known = [call for call in actor.calls if call.outcome == OK]
    states = {call.value[0] for call in known}
    if len(states) > 1:
        yield f"its state was made {len(states)} times: {sorted(states)}"
        return
    calls = {(call.caller, call.number): call for call in actor.calls}
    places = {call.value[1]: _seen(call) for call in known}
    if len(places) < len(known):
        yield "two calls have one place in the order"
    for run in actor.runs:  # of calls whose results nobody got: other actors', and a dead one's
        if run.incarnation in states and run.ordinal not in places:
            call = calls.get((run.caller, run.number))
            if call is None or call.outcome not in {OK, FAIL}:
                places[run.ordinal] = _applied(run, calls)
    order = [places[place] for place in sorted(places)]
    yield from replay(order)
    applied = {(each.caller, each.number) for each in order}
    sent = {name for name, call in calls.items() if call.outcome != FAIL}
    if not actor.ended and sent - applied:
        yield f"these were accepted and not applied: {sorted(sent - applied)[:5]}"
    # What an actor had sent before somebody ended it, nobody may have heard of.
    if extra := {name for name in applied - sent if name[0] not in actor.gone}:
        yield f"these were applied, and nobody sent them for good: {sorted(extra)[:5]}"


def _seen(call: Call) -> Applied:
    return Applied(
        call.value[1], call.caller, call.number, call.method, call.operand, call.value[2],
        call.invoked, call.returned,
    )  # fmt: skip


def _applied(run: Run, calls: dict[tuple[str, int], Call]) -> Applied:
    call = calls.get((run.caller, run.number))
    told = call is not None and call.outcome == OK
    mine = told and call is not None and call.value[:2] == [run.incarnation, run.ordinal]
    return Applied(
        run.ordinal, run.caller, run.number, run.method, run.operand, run.result,
        invoked=call.invoked if call is not None else run.ns,
        returned=call.returned if mine and call is not None else 0,
    )  # fmt: skip


def dead_stays_dead(actor: ActorRecord, kind: Kind) -> Iterator[str]:
    """I9: a call that is made after one was told of the death has no result."""
    deaths = [call.returned for call in actor.calls
              if call.outcome == INFO and call.value.startswith("ActorDiedError")]  # fmt: skip
    died = min(deaths, default=0)
    for call in actor.calls:
        if died and call.outcome == OK and call.invoked > died:
            yield f"{_name(call)} succeeded after the actor had died"


def one_owner_for_each_epoch(actor: ActorRecord, kind: Kind) -> Iterator[str]:
    """I5: epochs only grow, and each has one owner."""
    owners: dict[str, str] = {}
    last = 0
    for event in actor.seen:
        epoch, owner = event.value[0] or "0", event.value[1]
        if int(epoch) < last:
            yield f"epoch {epoch} came after {last}"
        last = max(last, int(epoch))
        if "|" in owner and owners.setdefault(epoch, owner) != owner:
            yield f"epoch {epoch} belongs to {owners[epoch]} and to {owner}"


RULES: tuple[Callable[[ActorRecord, Kind], Iterator[str]], ...] = (
    every_call_ended,
    only_promised_errors,
    results_were_computed,
    begun_calls_never_run_again,
    order_is_kept_across_restarts,
    each_state_follows_the_model,
    lasting_state_holds_each_call_once,
    dead_stays_dead,
    one_owner_for_each_epoch,
)


# -- from outside --------------------------------------------------------------------------------


def _search(actor: ActorRecord, verdict: Verdict) -> None:
    """Look at the begin of each state as callers saw it, without what the actor wrote down."""
    unknown = [call for call in actor.calls if call.outcome in {INFO, OPEN, TOLD}]
    states: defaultdict[str, list[Call]] = defaultdict(list)
    for call in actor.calls:
        if call.outcome == OK and call.value[1] <= SLICE_CALLS:
            states[call.value[0]].append(call)
    for calls in states.values():
        end = max(call.returned for call in calls)
        begin = min(call.invoked for call in calls)
        # One that had failed before may have run in an earlier state only.
        perhaps = [
            call for call in unknown
            if call.invoked < end and (call.returned > begin or not call.returned)
        ]  # fmt: skip
        if len(perhaps) > SLICE_UNKNOWN:
            verdict.undecided += 1
            continue
        seen = [Operation(c.invoked, c.returned, c.method, c.operand, c.value[2]) for c in calls]
        seen += [Operation(c.invoked, None, c.method, c.operand) for c in perhaps]
        try:
            if not is_linearizable(seen):
                verdict.faults.append(
                    f"{actor.slot} {actor.kind} {actor.actor[:8]}: no order explains what its "
                    f"callers saw: {seen}"
                )
            verdict.slices += 1
        except UndecidedError:
            verdict.undecided += 1


def _name(call: Call) -> str:
    return f"call {call.number} of {call.caller} ({call.method} {call.operand})"
