"""Actors as type checkers see them: the typed form ``remote(Counter)``, then the decorator."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, NamedTuple, TypeVar, assert_type

import celery_actors as ca
from celery_actors import ActorClass, ActorHandle, ObjectRef, ObjectRefGenerator, remote
from celery_actors.reminders import Reminder

T = TypeVar("T")


class Counter:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def add(self, by: int = 1, *, twice: bool = False) -> int:
        self.value += by * (1 + twice)
        return self.value

    async def later(self, by: int) -> str:
        return str(self.add(by))

    @ca.method(num_returns=1)
    def marked(self, word: str) -> list[str]:
        return [word]

    def count(self, up_to: int) -> Iterator[int]:
        yield from range(up_to)

    async def count_slowly(self, up_to: int) -> AsyncIterator[str]:
        yield str(up_to)

    @staticmethod
    def about(topic: str) -> str:
        return topic


CounterActor = remote(Counter)


def the_constructor_takes_values_and_references(number: ObjectRef[int]) -> None:
    assert_type(CounterActor.remote(), ActorHandle[Counter])
    assert_type(CounterActor.remote(3), ActorHandle[Counter])
    assert_type(CounterActor.remote(value=3), ActorHandle[Counter])
    assert_type(CounterActor.remote(number), ActorHandle[Counter])
    assert_type(CounterActor.options(name="c").remote(number), ActorHandle[Counter])
    assert_type(remote(num_cpus=1)(Counter).remote(3), ActorHandle[Counter])


def a_wrong_constructor_call_is_refused(word: ObjectRef[str]) -> None:
    CounterActor.remote("3")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    CounterActor.remote(word)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    CounterActor.remote(1, 2)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    CounterActor.remote(start=1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]


def a_call_names_the_method_of_the_class(
    counter: ActorHandle[Counter], number: ObjectRef[int]
) -> None:
    assert_type(counter.call(Counter.add), ObjectRef[int])
    assert_type(counter.call(Counter.add, 2), ObjectRef[int])
    assert_type(counter.call(Counter.add, number), ObjectRef[int])
    assert_type(counter.call(Counter.add, 2, twice=True), ObjectRef[int])
    assert_type(counter.call(Counter.marked, "a"), ObjectRef[list[str]])


def a_call_of_an_async_method_gives_its_value(
    counter: ActorHandle[Counter], number: ObjectRef[int]
) -> None:
    assert_type(counter.call(Counter.later, 2), ObjectRef[str])
    assert_type(counter.call(Counter.later, number), ObjectRef[str])
    assert_type(counter.call(Counter.later, by=2), ObjectRef[str])


def a_call_of_a_generator_gives_references_one_by_one(counter: ActorHandle[Counter]) -> None:
    assert_type(counter.call(Counter.count, 3), ObjectRefGenerator[int])
    assert_type(counter.call(Counter.count_slowly, 3), ObjectRefGenerator[str])
    counter.call(Counter.count, "3")  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]


def reminders_are_set_and_read(counter: ActorHandle[Counter]) -> None:
    counter.remind("tick", method="add", every=60, args=[2], kwargs={"twice": True})
    counter.remind("once", method="add", after=1.5)
    assert_type(counter.forget("tick"), bool)
    assert_type(counter.reminders(), dict[str, Reminder])
    assert_type(counter.reminders()["tick"].every, float | None)
    counter.remind("tick", "add")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    counter.remind("tick", method="add", every="60")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def a_wrong_call_is_refused(counter: ActorHandle[Counter], word: ObjectRef[str]) -> None:
    counter.call(Counter.add, "2")  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    counter.call(Counter.add, word)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    counter.call(Counter.add, 1, 2)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue]
    counter.call(Counter.later)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    counter.call(str.upper)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


def methods_by_attribute_are_not_checked(counter: ActorHandle[Counter]) -> None:
    """Neither checker can map a class's methods to others, so this form is untyped."""
    assert_type(counter.add.remote(2), Any)
    assert_type(counter.add.options(name="first").remote(2), Any)


def handles_and_classes_can_be_named_in_annotations() -> None:
    def make(cls: ActorClass[Counter], start: int) -> ActorHandle[Counter]:
        return cls.remote(start)

    make(CounterActor, 3)
    make(remote(Plain), 3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert_type(ca.get_actor("c"), ActorHandle[Any])
    typed: ActorHandle[Counter] = ca.get_actor("c")
    assert_type(typed.call(Counter.add), ObjectRef[int])
    ca.kill(typed)


class Plain: ...


@dataclasses.dataclass
class Point:
    x: int
    y: str = ""


class Pair(NamedTuple):
    left: int
    right: str


class Table(dict[str, int]): ...


class Box(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content

    def open(self) -> T:
        return self.content


def classes_of_every_making_are_understood(number: ObjectRef[int]) -> None:
    assert_type(remote(Plain).remote(), ActorHandle[Plain])
    assert_type(remote(Point).remote(number, "a"), ActorHandle[Point])
    assert_type(remote(Pair).remote(1, "a"), ActorHandle[Pair])
    assert_type(remote(Table).remote(), ActorHandle[Table])
    box = remote(Box[int]).remote(number)
    assert_type(box, ActorHandle[Box[int]])
    assert_type(box.call(Box[int].open), ObjectRef[int])


def a_class_that_is_known_at_run_time_only_keeps_its_type(cls: type[T]) -> ActorHandle[T]:
    return remote(cls).remote(1, 2, three=3)


@remote
class Decorated:
    """The decorator form: mypy ignores what a class decorator returns, pyright does not."""

    def __init__(self, value: int) -> None:
        self.value = value

    def get(self) -> int:
        return self.value


def the_decorator_form_is_typed_by_pyright_only(number: ObjectRef[int]) -> None:
    Decorated.remote(number)  # type: ignore[attr-defined]
    Decorated.remote("3")  # type: ignore[attr-defined] # pyright: ignore[reportCallIssue, reportArgumentType]
