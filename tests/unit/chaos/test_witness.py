from __future__ import annotations

import random

import pytest

from tests.chaos.model import FRESH, METHODS, step
from tests.chaos.witness import Applied, replay


def told(seed: int, count: int = 300) -> list[Applied]:
    """Return what an actor tells of calls that it ran one after the other."""
    draw = random.Random(seed)
    state, order, numbers = FRESH, [], dict.fromkeys("abcd", 0)
    for ordinal in range(1, count + 1):
        caller = draw.choice("abcd")
        numbers[caller] += 1
        method, operand = draw.choice(METHODS), draw.randint(1, 9)
        state, result = step(state, method, operand)
        lost = draw.random() < 0.1
        order.append(Applied(
            ordinal, caller, numbers[caller], method, operand, result,
            invoked=ordinal * 10 - draw.randint(0, 9),
            returned=0 if lost else ordinal * 10 + draw.randint(1, 9),
        ))  # fmt: skip
    return order


@pytest.mark.parametrize("seed", range(10))
def test_what_truly_happened_is_accepted(seed: int) -> None:
    assert replay(told(seed)) == []


def test_a_lost_update_is_told() -> None:
    order = told(1)
    place = next(n for n, call in enumerate(order) if call.method == "add" and n > 50)
    order[place] = order[place]._replace(result=order[place].result - order[place].operand)
    (fault,) = replay(order)
    assert "where the model gives" in fault


def test_a_stale_read_is_told() -> None:
    order = told(2)
    place = next(n for n, call in enumerate(order) if call.method == "read" and n > 50)
    order[place] = order[place]._replace(result=[0, 0])
    (fault,) = replay(order)
    assert "gave [0, 0] where the model gives" in fault


def test_a_call_that_ran_twice_is_told() -> None:
    order = told(3)
    again = order[100]._replace(ordinal=302, method="read", result=None)
    faults = replay([*order, order[0]._replace(ordinal=301, method="read"), again])
    assert any("stands behind call" in fault for fault in faults)
    faults = replay([*order, again._replace(ordinal=301)], by_caller=False)
    assert any("was applied twice" in fault for fault in faults)


def test_a_call_that_is_missing_is_told() -> None:
    order = told(4)
    del order[100]
    faults = replay(order)
    assert "place 101 in the order is missing" in faults[0]


def test_calls_of_one_caller_out_of_their_order_are_told() -> None:
    order = told(5)
    first, second = (n for n, call in enumerate(order) if call.caller == "a" and call.number < 3)
    order[first], order[second] = (
        order[first]._replace(number=order[second].number),
        order[second]._replace(number=order[first].number),
    )
    faults = replay(order)
    assert faults == [f"{order[second]} stands behind call 2 of the same caller"]
    assert replay(order, by_caller=False) == []


def test_a_call_behind_one_that_was_made_only_after_it_had_returned_is_told() -> None:
    order = told(6)
    place = next(n for n, call in enumerate(order) if n > 50 and call.returned)
    order[place] = order[place]._replace(invoked=1, returned=2)
    faults = replay(order)
    assert len(faults) == 3
    assert all("had returned before" in fault for fault in faults)


def test_a_call_without_a_known_end_may_stand_anywhere_behind_its_begin() -> None:
    order = told(7)
    place = next(n for n, call in enumerate(order) if n > 50 and not call.returned)
    order[place] = order[place]._replace(invoked=1)
    assert replay(order) == []
    order[place] = order[place]._replace(invoked=10_000)
    assert replay(order) != []
