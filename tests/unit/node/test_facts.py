"""What a node counts, and how other threads see what is the supervisor's."""

from __future__ import annotations

import select
import threading
from dataclasses import replace

from celery_actors.node.facts import Facts, Tally, Window, WorkerFacts
from celery_actors.routing import ActorKeys

WORKER = WorkerFacts(
    "a-1", 1, ActorKeys("queue", "actor"), first=100, serves=True, busy=False, actor_id="actor",
    actor_class="Counter",
)  # fmt: skip
FUNCTIONS = WorkerFacts("w-1", 2, ActorKeys("taken", "w-1"), 0, serves=True, busy=False)
FACTS = Facts(1.0, False, {"CPU": 10_000}, {"CPU": 0}, (), [])


def test_calls_are_counted_from_where_the_process_found_its_mailbox() -> None:
    tally = Tally()
    tally.begins(WORKER)
    tally.begins(FUNCTIONS)
    tally.settled(WORKER, 103)
    tally.settled(WORKER, 103)
    tally.settled(WORKER, 101)  # an older look
    tally.settled(FUNCTIONS, 7)

    settled, _restarts, _frozen = tally.totals()
    assert settled == {"Counter": 3, "": 7}


def test_what_a_process_did_last_is_counted_at_its_end_but_for_the_call_that_ended_it() -> None:
    tally = Tally()
    tally.begins(WORKER)
    tally.settled(WORKER, 103)
    tally.ends(replace(WORKER, busy=True), 106, frozen=False)
    tally.settled(WORKER, 105)  # by one who looked before that
    again = replace(WORKER, worker_id="a-2", first=106, restarts=1)
    tally.begins(again)
    tally.ends(again, 0, frozen=True)  # it has begun no call

    settled, restarts, frozen = tally.totals()
    assert settled == {"Counter": 5}
    assert restarts == {"Counter": 1}
    assert frozen == {"Counter": 1}


def test_another_thread_sees_the_facts_as_soon_as_the_supervisor_answers() -> None:
    window = Window(lambda: FACTS)
    seen: list[Facts | None] = []
    threads = [threading.Thread(target=lambda: seen.append(window.look(10))) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if select.select([window], [], [], 0.1)[0]:
            window.answer()

    assert seen == [FACTS] * 3


def test_a_supervisor_without_time_for_an_answer_is_not_waited_for() -> None:
    window = Window(lambda: FACTS)

    assert window.look(0.01) is None
    window.answer()  # nobody listens any more
