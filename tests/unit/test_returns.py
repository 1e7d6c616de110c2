"""How a fixed number of values is taken from what a function returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from celery_actors.messages import CallOptions, CallTag, Message
from celery_actors.returns import Fixed, each


def fixed(count: int) -> Fixed:
    tag = CallTag(options=CallOptions(returns=count))
    message = Message(b"", "id", "work", tag, 0, [], {})
    return Fixed(None, message, "work")  # type: ignore[arg-type] # nothing is stored here


def numbers(limit: int) -> Iterator[int]:
    yield from range(limit)


async def later(limit: int) -> AsyncIterator[int]:
    for number in range(limit):
        yield number


async def listed(limit: int) -> list[int]:
    return list(range(limit))


def run(sink: Fixed, function: Callable[..., Any], *args: Any) -> list[Any]:
    assert sink.run(function, args, {}) is sink
    return sink._values


def run_async(sink: Fixed, function: Callable[..., Any], *args: Any) -> list[Any]:
    assert asyncio.run(sink.run_async(function, args, {})) is sink
    return sink._values


@pytest.mark.parametrize(
    "value", [(1, 2), [1, 2], {1: 0, 2: 0}, iter([1, 2])], ids=lambda value: type(value).__name__
)
def test_any_iterable_gives_its_values(value: Any) -> None:
    assert run(fixed(2), lambda: value) == [1, 2]


def test_coroutines_and_generators_of_both_kinds_give_their_values() -> None:
    assert run(fixed(3), numbers, 3) == [0, 1, 2]
    for function in (numbers, later, listed):
        assert run_async(fixed(3), function, 3) == [0, 1, 2]


@pytest.mark.parametrize(("limit", "found"), [(1, "1"), (3, "more"), (10**12, "more")])
def test_another_number_is_refused_without_reading_to_the_end(limit: int, found: str) -> None:
    error = f"work was called with num_returns=2 and returned {found} values"
    with pytest.raises(ValueError, match=error):
        run(fixed(2), numbers, limit)
    with pytest.raises(ValueError, match=error):
        run_async(fixed(2), later, limit)


def test_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match="returned one int: return a tuple"):
        run(fixed(2), lambda: 7)
    with pytest.raises(ValueError, match="returned one int: return a tuple"):
        run_async(fixed(2), lambda: 7)


def test_without_returns_a_generator_runs_and_nothing_is_kept() -> None:
    seen: list[int] = []

    def noting() -> Iterator[int]:
        for number in range(3):
            seen.append(number)
            yield number

    assert run(fixed(0), noting) == []
    assert run(fixed(0), lambda: 7) == []
    assert run_async(fixed(0), noting) == []
    assert run_async(fixed(0), lambda: 7) == []
    assert seen == [0, 1, 2] * 2


def test_another_run_begins_anew() -> None:
    sink = fixed(2)
    with pytest.raises(ValueError, match="more"):
        run_async(sink, later, 3)
    assert run_async(sink, later, 2) == [0, 1]


def test_an_async_generator_that_is_left_early_is_closed() -> None:
    ended: list[str] = []

    async def closing() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append("closed")

    async def take_one() -> None:
        given = each(closing())
        assert await anext(given) == 1
        await given.aclose()

    asyncio.run(take_one())
    assert ended == ["closed"]
