from __future__ import annotations

from collections import Counter

from tests.chaos.checker import Verdict
from tests.chaos.history import INFO, OK
from tests.chaos.plan import FAULTS, plan
from tests.chaos.record import ActorRecord, Record
from tests.chaos.report import Report, report
from tests.unit.chaos.test_checker import honest


def test_the_same_seed_gives_the_same_faults() -> None:
    assert [*plan(7, 100, with_network=True)] == [*plan(7, 100, with_network=True)]
    assert [*plan(7, 100, with_network=True)] != [*plan(8, 100, with_network=True)]


def test_faults_come_by_time_and_of_every_kind() -> None:
    faults = [*plan(7, 1800, with_network=True)]
    assert faults == sorted(faults, key=lambda fault: fault.at)
    assert {fault.kind for fault in faults} == {kind for sorts in FAULTS.values() for kind in sorts}
    assert not any("cut off" in fault.kind for fault in plan(7, 1800, with_network=False))


def test_an_hour_has_ten_thousand_faults() -> None:
    assert len([*plan(1, 3600, with_network=True)]) >= 10_000


def reported(
    actor: ActorRecord, hits: int = 10, missed: int = 0, *wrong: str, seconds: float = 60,
    fenced: int = 0, sent_again: int = 0,
) -> Report:  # fmt: skip
    record = Record({actor.actor: actor}, [], [], [], sent_again)
    found = Counter({"actor killed": hits}), Counter({"actor killed": missed})
    return report("a run", seconds, record, Verdict([*wrong]), *found, fenced)


def test_a_run_says_with_its_status_what_it_shows() -> None:
    actor = honest("mortal")
    assert reported(actor).status == 0
    assert reported(actor, 10, 0, "a fault").status == 1
    assert reported(actor, 10, 5).status == 2
    assert reported(actor, 0).status == 2


def test_a_run_in_which_too_few_calls_succeeded_shows_nothing() -> None:
    actor = honest("mortal")
    assert sum(call.outcome == OK for call in actor.calls) == 60
    actor.calls[:4] = [call._replace(outcome=INFO, value="ActorDiedError: …") for call in
                       actor.calls[:4]]  # fmt: skip
    found = reported(actor)
    assert found.status == 2
    assert any("INVALID: 93.3% of the calls succeeded" in line for line in found.lines())


def test_a_long_run_without_a_fenced_process_or_a_repeated_submission_shows_nothing() -> None:
    actor = honest("mortal")
    assert reported(actor, seconds=3600, fenced=1, sent_again=1).status == 0
    assert reported(actor, seconds=3600, fenced=0, sent_again=1).status == 2
    assert reported(actor, seconds=3600, fenced=1, sent_again=0).status == 2
