"""Which waiting request comes first, and what is kept free for one that was passed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from celery_actors import routing
from celery_actors.need import Need
from celery_actors.node import saving
from celery_actors.node.saving import PATIENCE_SECONDS, ROUND_SECONDS, SAVE_SECONDS, Saving
from celery_actors.placement import Ledger
from celery_actors.store import Store, Waiting
from tests.unit.clock import Clock
from tests.unit.needs import ONE, grant, of_gpus

FOUR = of_gpus(4)
SMALL = of_gpus(1)
NEEDS = {need.label: need for need in (FOUR, SMALL, ONE)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of(monkeypatch, saving)


def ledger_of(gpus: int = 4, cpus: float = 4) -> Ledger:
    return Ledger.of(cpus=cpus, gpus=gpus, custom={})


def saver(
    store: Store, node: str = "n1", without_calls: Callable[[], Ledger] = ledger_of
) -> Saving:
    """Return a node that could start whatever waits as soon as its function calls have ended."""
    return Saving(store, node, without_calls)


def actors_in_the_way() -> Ledger:
    """Return the books of a node where an actor has a device, whatever calls do."""
    books = ledger_of()
    grant(books, SMALL)
    return books


def look(found: Saving, *needs: Need, group: tuple[float, Need] | None = None) -> None:
    found.look({need.label: need for need in needs or NEEDS.values()}, group)


def one_is_taken() -> Ledger:
    ledger = ledger_of()
    grant(ledger, SMALL)
    return ledger


def allows(found: Saving, need: Need) -> bool:
    """Tell whether a request is met on a node where one of four devices is taken."""
    return found.allows(need.label, need, one_is_taken())


# -- patience --------------------------------------------------------------------------------


def test_where_nobody_was_passed_over_everybody_is_served(store: Store, clock: Clock) -> None:
    found = saver(store)
    look(found)
    assert allows(found, SMALL)
    assert allows(found, of_gpus(3))


def test_one_that_was_passed_over_for_a_second_is_saved_for(store: Store, clock: Clock) -> None:
    found = saver(store)
    found.passed_over(FOUR.label)
    clock.now += PATIENCE_SECONDS / 2
    look(found)
    assert allows(found, SMALL)
    clock.now += PATIENCE_SECONDS / 2
    look(found)
    assert not allows(found, SMALL)
    assert found.allows(FOUR.label, FOUR, ledger_of())
    assert allows(found, ONE)


def test_its_patience_begins_when_it_is_passed_over_first(store: Store, clock: Clock) -> None:
    found = saver(store)
    for _ in range(3):
        found.passed_over(FOUR.label)
        clock.now += PATIENCE_SECONDS / 2
        look(found)
    assert not allows(found, SMALL)


def test_when_it_is_served_the_next_begins_to_wait(store: Store, clock: Clock) -> None:
    found = saver(store)
    found.passed_over(FOUR.label)
    clock.now += PATIENCE_SECONDS
    look(found)
    found.served(FOUR.label)
    assert allows(found, SMALL)
    assert store.run("EXISTS", routing.saving_key(FOUR.label)) == 0
    found.passed_over(FOUR.label)
    look(found)
    assert allows(found, SMALL)


def test_one_that_waits_no_longer_is_forgotten(store: Store, clock: Clock) -> None:
    found = saver(store)
    found.passed_over(FOUR.label)
    clock.now += PATIENCE_SECONDS
    look(found, SMALL)
    assert allows(found, SMALL)
    look(found)
    assert allows(found, SMALL)


def test_one_that_this_node_cannot_hold_is_forgotten(store: Store, clock: Clock) -> None:
    found = saver(store)
    found.passed_over(FOUR.label)
    clock.now += PATIENCE_SECONDS
    look(found)
    found.forget(FOUR.label)
    assert allows(found, SMALL)


# -- who comes first -------------------------------------------------------------------------


def test_the_kind_that_was_passed_over_longest_comes_first(store: Store, clock: Clock) -> None:
    found = saver(store)
    for need in (ONE, FOUR):
        found.passed_over(need.label)
        clock.now += 0.1
    waiting = [Waiting(need.label, b"", 1, 0) for need in (SMALL, FOUR, ONE)]
    assert [each.label for each in found.in_order(waiting)] == [
        ONE.label, FOUR.label, SMALL.label,
    ]  # fmt: skip


def test_the_one_that_waits_longest_is_saved_for(store: Store, clock: Clock) -> None:
    found = saver(store)
    for need in (FOUR, ONE):
        found.passed_over(need.label)
        clock.now += PATIENCE_SECONDS
    look(found)
    assert not allows(found, SMALL)
    found.served(FOUR.label)
    look(found)
    assert allows(found, SMALL)


# -- one node at a time ----------------------------------------------------------------------


def test_one_node_saves_while_the_others_go_on(store: Store, clock: Clock) -> None:
    nodes = [saver(store, name) for name in ("n1", "n2")]
    for found in nodes:
        found.passed_over(FOUR.label)
    clock.now += PATIENCE_SECONDS
    for _ in range(2):
        for found in nodes:
            look(found)
        assert [allows(found, SMALL) for found in nodes] == [False, True]


def test_a_node_saves_for_the_next_where_another_saves_for_the_first(
    store: Store, clock: Clock
) -> None:
    nodes = [saver(store, name) for name in ("n1", "n2")]
    two = of_gpus(2)
    for found in nodes:
        found.passed_over(FOUR.label)
        found.passed_over(two.label)
    clock.now += PATIENCE_SECONDS
    for found in nodes:
        look(found, FOUR, two, SMALL)
    three = of_gpus(3)
    assert not nodes[0].allows(SMALL.label, SMALL, one_is_taken())
    assert nodes[1].allows(SMALL.label, SMALL, one_is_taken())
    assert not nodes[1].allows(three.label, three, one_is_taken())


def test_when_one_node_has_served_it_another_may_save_for_the_next(
    store: Store, clock: Clock
) -> None:
    nodes = [saver(store, name) for name in ("n1", "n2")]
    for found in nodes:
        found.passed_over(FOUR.label)
    clock.now += PATIENCE_SECONDS
    for found in nodes:
        look(found)
    nodes[0].served(FOUR.label)
    look(nodes[1])
    assert not allows(nodes[1], SMALL)


def test_a_node_that_is_lost_saves_for_nobody_in_the_end(store: Store, clock: Clock) -> None:
    found = saver(store)
    found.passed_over(FOUR.label)
    clock.now += PATIENCE_SECONDS
    look(found)
    assert 0 < int(store.run("PTTL", routing.saving_key(FOUR.label))) <= 3_000


# -- where actors are in the way -------------------------------------------------------------


def test_where_calls_alone_are_in_the_way_a_node_saves_until_they_end(
    store: Store, clock: Clock
) -> None:
    found = saver(store)
    found.passed_over(FOUR.label)
    for _ in range(20):
        clock.now += ROUND_SECONDS / 7
        look(found)
        assert not allows(found, SMALL)


def test_where_actors_are_in_the_way_a_node_saves_for_a_while_in_longer_and_longer_rounds(
    store: Store, clock: Clock
) -> None:
    found = saver(store, without_calls=actors_in_the_way)
    found.passed_over(FOUR.label)
    began = clock.now
    length = 1
    for _round in range(4):
        for seconds, saves in (
            (PATIENCE_SECONDS, True), (length * SAVE_SECONDS - 0.1, True),
            (length * SAVE_SECONDS + 0.1, False), (length * ROUND_SECONDS - 0.1, False),
        ):  # fmt: skip
            clock.now = began + seconds
            look(found)
            assert allows(found, SMALL) is not saves
        began += length * ROUND_SECONDS
        length *= 2


def test_while_a_node_does_not_save_another_can(store: Store, clock: Clock) -> None:
    # The first may never be able to: the request must not starve on the second.
    nodes = [saver(store, "n1", actors_in_the_way), saver(store, "n2")]
    for found in nodes:
        found.passed_over(FOUR.label)
    clock.now += PATIENCE_SECONDS
    for found in nodes:
        look(found)
    clock.now += SAVE_SECONDS
    store.run("PEXPIRE", routing.saving_key(FOUR.label), 0)  # the first renews it no more
    for found in nodes:
        look(found)
    assert [allows(found, SMALL) for found in nodes] == [True, False]


# -- placement groups ------------------------------------------------------------------------


def test_a_groups_share_is_saved_for_like_a_request(store: Store, clock: Clock) -> None:
    found = saver(store)
    since = clock.now
    clock.now += PATIENCE_SECONDS
    look(found, group=(since, FOUR))
    assert not allows(found, SMALL)
    assert not found.allows(FOUR.label, FOUR, ledger_of())  # a request of its size is not it
    look(found)
    assert allows(found, SMALL)


def test_whoever_waits_longer_comes_first(store: Store, clock: Clock) -> None:
    found = saver(store)
    before = clock.now
    clock.now += 1
    found.passed_over(ONE.label)
    clock.now += PATIENCE_SECONDS
    look(found, group=(before, FOUR))
    assert not allows(found, SMALL)
    look(found, group=(before + 1.5, FOUR))
    assert allows(found, SMALL)


def test_a_group_is_saved_for_where_others_save_for_all_requests(
    store: Store, clock: Clock
) -> None:
    found = saver(store)
    found.passed_over(ONE.label)
    store.scripts.save_for(routing.saving_key(ONE.label), "n2", 60_000)
    clock.now += 2 * PATIENCE_SECONDS
    look(found, group=(clock.now - PATIENCE_SECONDS, FOUR))
    assert not allows(found, SMALL)


# -- processors ------------------------------------------------------------------------------


def test_saved_processors_are_those_that_are_free_of_what_is_asked(
    store: Store, clock: Clock
) -> None:
    found = saver(store)
    need = Need.of(cpus=3, custom={})
    ledger = ledger_of(cpus=4)
    assert found.cpus(ledger) == 0
    found.passed_over(need.label)
    clock.now += PATIENCE_SECONDS
    look(found, need)
    assert found.cpus(ledger) == need.cpus
    taken = grant(ledger, replace(need, amounts=(("CPU", 20_000),)))
    assert found.cpus(ledger) == 20_000
    ledger.lend_cpus(taken)
    for _ in range(3):
        ledger.take_cpus(taken)
    assert found.cpus(ledger) == 0
