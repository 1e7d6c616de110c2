from __future__ import annotations

import random
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.linearizability import Operation, UndecidedError, is_linearizable
from tests.chaos.model import FRESH, METHODS, State, step


def history(seed: int, count: int = 100, clients: int = 5, lost: float = 0.05) -> list[Operation]:
    """Return what clients see of calls that truly happened one after the other.

    Of some, nobody knows the outcome: half of those did happen.
    """
    draw = random.Random(seed)
    free = [0] * clients
    calls = []
    for _ in range(count):
        client = draw.randrange(clients)
        invoked = free[client] + draw.randint(1, 5)
        happened = invoked + draw.randint(1, 20)
        returned = free[client] = happened + draw.randint(1, 20)
        calls.append((happened, invoked, returned, draw.choice(METHODS), draw.randint(1, 9)))
    state, seen = FRESH, []
    for _, invoked, returned, method, operand in sorted(calls):
        unknown = draw.random() < lost
        if unknown and draw.random() < 0.5:
            seen.append(Operation(invoked, None, method, operand))
            continue
        state, result = step(state, method, operand)
        seen.append(
            Operation(invoked, None, method, operand)
            if unknown
            else Operation(invoked, returned, method, operand, result)
        )
    draw.shuffle(seen)
    return seen


@pytest.mark.parametrize("seed", range(20))
def test_a_history_of_calls_that_happened_one_after_the_other_is_accepted(seed: int) -> None:
    assert is_linearizable(history(seed))


@pytest.mark.parametrize("seed", range(20))
def test_a_history_with_one_wrong_result_is_rejected(seed: int) -> None:
    calls = history(seed)
    known = [
        n for n, call in enumerate(calls) if call.returned is not None and call.method == "add"
    ]
    victim = random.Random(seed).choice(known)

    calls[victim] = calls[victim]._replace(result=calls[victim].result + 1_000)

    assert not is_linearizable(calls)


def test_a_lost_update_is_rejected() -> None:
    both_saw_zero = [Operation(0, 10, "add", 1, 1), Operation(1, 11, "add", 1, 1)]
    assert not is_linearizable(both_saw_zero)
    assert is_linearizable([both_saw_zero[0], both_saw_zero[1]._replace(result=2)])


def test_a_stale_read_is_rejected_and_a_concurrent_one_accepted() -> None:
    written = Operation(0, 10, "swap", 7, 0)
    assert not is_linearizable([written, Operation(11, 12, "read", 0, [0, 0])])
    assert is_linearizable([written, Operation(9, 12, "read", 0, [0, 0])])
    assert is_linearizable([written, Operation(9, 12, "read", 0, [0, 7])])


def test_a_call_that_was_applied_twice_is_rejected() -> None:
    assert not is_linearizable([Operation(0, 1, "add", 5, 5), Operation(2, 3, "read", 0, [10, 0])])


def test_calls_that_were_reordered_are_rejected() -> None:
    first, second = Operation(0, 1, "swap", 1, 0), Operation(2, 3, "swap", 2, 1)
    assert is_linearizable([first, second, Operation(4, 5, "read", 0, [0, 2])])
    assert not is_linearizable([first, second, Operation(4, 5, "read", 0, [0, 1])])
    assert not is_linearizable([first._replace(result=2), second._replace(result=0)])


def test_a_call_of_unknown_outcome_may_have_happened_or_not_and_late_but_not_early() -> None:
    unknown = Operation(5, None, "add", 3)
    before, after = Operation(0, 1, "read", 0, [0, 0]), Operation(90, 91, "read", 0, [3, 0])
    assert is_linearizable([before, unknown, after])
    assert is_linearizable([before, unknown, after._replace(result=[0, 0])])
    assert not is_linearizable([before._replace(result=[3, 0]), unknown, after])


def test_the_state_that_a_slice_begins_with_counts() -> None:
    assert is_linearizable([Operation(0, 1, "read", 0, [4, 2])], State(4, 2))
    assert not is_linearizable([Operation(0, 1, "read", 0, [4, 2])])


def test_a_search_that_would_take_too_long_is_given_up() -> None:
    unknown = [Operation(0, None, "add", 2**number) for number in range(30)]
    with pytest.raises(UndecidedError, match="31 calls"):
        is_linearizable([*unknown, Operation(1, 2, "read", 0, [-1, 0])])


def by_trying_every_order(calls: list[Operation]) -> bool:
    """Return the same by the definition."""
    unknown = [call for call in calls if call.returned is None]
    known = [call for call in calls if call.returned is not None]
    chosen = [rest for size in range(len(unknown) + 1) for rest in combinations(unknown, size)]
    return any(explains(order) for rest in chosen for order in permutations([*known, *rest]))


def explains(order: tuple[Operation, ...]) -> bool:
    state = FRESH
    for place, call in enumerate(order):
        if any(x.returned is not None and x.returned < call.invoked for x in order[place + 1 :]):
            return False
        state, result = step(state, call.method, call.operand)
        if call.returned is not None and result != call.result:
            return False
    return True


RESULTS = st.one_of(
    st.integers(0, 3), st.builds(lambda a, b: [a, b], st.integers(0, 2), st.integers(0, 2))
)


@st.composite
def small_operation(draw: st.DrawFn) -> Operation:
    invoked = draw(st.integers(0, 8))
    lasted = draw(st.one_of(st.none(), st.integers(1, 5)))
    returned = None if lasted is None else invoked + lasted
    method, operand = draw(st.sampled_from(METHODS)), draw(st.integers(1, 2))
    return Operation(invoked, returned, method, operand, draw(RESULTS))


@given(st.lists(small_operation(), max_size=5))
def test_it_finds_an_order_exactly_where_there_is_one(calls: list[Operation]) -> None:
    assert is_linearizable(calls) == by_trying_every_order(calls)
