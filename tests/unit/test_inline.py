"""``task_always_eager``: calls run at once, in the process of the test."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from celery import Celery, chain, chord, group

import celery_actors as ca

app = Celery("eager", set_as_current=False, broker="redis://nowhere/0")
app.conf.update(task_always_eager=True, task_store_eager_result=False)
actors = ca.Actors(app)


class _Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    async def later(self) -> int:
        return self.value

    def fail(self) -> None:
        raise ValueError("no change")

    def process(self) -> int:
        return os.getpid()

    def pair(self) -> tuple[int, int]:
        return 1, 2


Counter: Any = actors.remote(num_gpus=8)(_Counter)


def _plus(x: int, y: int) -> int:
    return x + y


plus: Any = app.task(_plus, shared=False)


def _total(numbers: list[int]) -> int:
    return sum(numbers)


total: Any = app.task(_total, shared=False)


def _square(number: int) -> int:
    return number * number


square: Any = actors.remote(_square)


def test_methods_and_functions_run_at_once_in_this_process() -> None:
    counter = Counter.remote(5)
    ref = counter.add.remote(2)
    assert actors.get([ref, counter.add.remote(), square.remote(3)]) == [7, 8, 9]
    assert ca.get(counter.process.remote()) == os.getpid()
    assert ca.get(counter.later.remote()) == 8
    assert ca.get(counter.pair.options(num_returns=2).remote()) == [1, 2]
    assert ca.wait([ref]) == ([ref], [])
    assert counter.call(_Counter.add, 1).id


def test_references_are_replaced_by_their_values() -> None:
    counter = Counter.remote(actors.put(10))
    assert ca.get(counter.add.remote(square.remote(4))) == 26
    assert square.remote(2).future().result(timeout=5) == 4


def test_an_exception_is_raised_by_get_as_its_own_type() -> None:
    ref = Counter.remote().fail.remote()
    with pytest.raises(ValueError, match="no change") as raised:
        ca.get(ref)
    assert isinstance(raised.value, ca.RayTaskError)


def test_celerys_verbs_run_inline_in_every_canvas() -> None:
    counter = Counter.remote()
    assert counter.add.delay(2).get() == 2
    assert square.delay(3).get() == 9
    assert chain(plus.s(1, 2), counter.add.s(), plus.s(10)).apply().get() == 15
    squares = group(square.s(number) for number in range(4))
    assert squares.apply().get() == [0, 1, 4, 9]
    assert chord(squares, total.s()).apply().get() == 14
    assert square.map([2, 3]).apply().get() == [4, 9]
    assert counter.add.map([1, 1]).apply().get() == [6, 7]
    failed = counter.fail.apply_async()
    assert failed.state == "FAILURE"


def test_names_find_actors_and_kill_ends_them() -> None:
    till = Counter.options(name="till").remote(1)
    same = Counter.options(name="till", get_if_exists=True).remote()
    assert ca.get(same.add.remote()) == 2
    assert ca.get(actors.get_actor("till").add.remote()) == 3
    with pytest.raises(ca.ActorAlreadyExistsError, match="till"):
        Counter.options(name="till").remote()
    actors.kill(till)
    with pytest.raises(ca.ActorDiedError):
        ca.get(till.add.remote())


def test_what_only_processes_have_is_refused_in_words() -> None:
    def numbers() -> Any:
        yield 1

    counter = Counter.remote()
    with pytest.raises(ValueError, match="generator"):
        actors.remote(numbers).remote()
    with pytest.raises(AttributeError, match="nothing"):
        _ = counter.nothing


def test_what_every_handle_has_is_there_inline() -> None:
    counter = Counter.remote(3)
    assert ca.get(counter.__ray_ready__.remote()) is True
    assert ca.get(counter.__ray_call__.remote(lambda self, more: self.value + more, 4)) == 7
    assert repr(counter) == "Actor(_Counter, inline)"
    with pytest.raises(AttributeError, match="__no_such_thing__"):
        _ = counter.__no_such_thing__
    with pytest.raises(AttributeError, match="has no attribute 'missing'"):
        _ = counter.missing


def test_a_coroutine_ends_inside_a_running_event_loop_too() -> None:
    counter = Counter.remote(5)

    async def program() -> Any:
        return ca.get(counter.later.remote())

    assert asyncio.run(program()) == 5


def test_as_many_values_as_were_promised_must_come() -> None:
    counter = Counter.remote()
    one, two = counter.pair.options(num_returns=2).remote()
    assert ca.get([one, two]) == [1, 2]
    with pytest.raises(ValueError, match="gave 2 values instead of 3"):
        ca.get(counter.pair.options(num_returns=3).remote()[0])
