"""References, ``get``, ``put`` and ``wait`` as type checkers see them."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import assert_type

import celery_actors as ca
from celery_actors import ObjectRef


def get_gives_what_references_promise(number: ObjectRef[int]) -> None:
    assert_type(ca.get(number), int)
    assert_type(ca.get([number, number], timeout=1), list[int])
    ca.get(3)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    ca.get([3])  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]


def put_keeps_the_type_of_the_value() -> None:
    assert_type(ca.put([1]), ObjectRef[list[int]])
    assert_type(ca.get(ca.put("a")), str)


def wait_gives_back_the_references(number: ObjectRef[int]) -> None:
    ready, rest = ca.wait([number], num_returns=1, timeout=0)
    assert_type(ready, list[ObjectRef[int]])
    assert_type(rest, list[ObjectRef[int]])
    ca.wait(number)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ca.wait([3])  # type: ignore[type-var] # pyright: ignore[reportArgumentType]


def a_reference_of_a_subtype_serves(flag: ObjectRef[bool]) -> None:
    def double(number: ObjectRef[int]) -> int:
        return 2 * ca.get(number)

    assert_type(double(flag), int)


async def references_can_be_awaited(number: ObjectRef[int], word: ObjectRef[str]) -> None:
    assert_type(await number, int)
    assert_type(await asyncio.gather(number, word), tuple[int, str])
    assert_type(await number.as_future(), int)


def references_become_futures(number: ObjectRef[int]) -> None:
    assert_type(number.future(), concurrent.futures.Future[int])
