"""Remote functions as type checkers see them.

Each line that must be refused carries one comment for each checker: a lost error is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any, ParamSpec, TypeVar, assert_type

from celery_actors import ObjectRef, ObjectRefGenerator, get, remote

P = ParamSpec("P")
R = TypeVar("R")


@remote
def square(x: int) -> str:
    return str(x * x)


@remote(num_cpus=2, max_retries=0)
def repeat(word: str, times: int = 2, *, sep: str = "") -> bytes:
    return sep.join([word] * times).encode()


def a_parameter_takes_a_value_or_a_reference(number: ObjectRef[int], word: ObjectRef[str]) -> None:
    assert_type(square.remote(3), ObjectRef[str])
    assert_type(square.remote(number), ObjectRef[str])
    assert_type(square.remote(x=3), ObjectRef[str])
    assert_type(repeat.remote(word), ObjectRef[bytes])
    assert_type(repeat.remote(word, number), ObjectRef[bytes])
    assert_type(repeat.remote("a", number), ObjectRef[bytes])
    assert_type(repeat.remote("a", 3, sep="-"), ObjectRef[bytes])


def one_call_feeds_another() -> None:
    assert_type(repeat.remote(square.remote(3)), ObjectRef[bytes])
    repeat.remote(repeat.remote("a"))  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]


def wrong_arguments_are_refused(word: ObjectRef[str]) -> None:
    square.remote("3")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    square.remote(word)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    square.remote()  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    square.remote(1, 2)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    repeat.remote("a", sep=1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    repeat.remote("a", size=1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]


def options_keep_the_type(number: ObjectRef[int]) -> None:
    assert_type(square.options(num_cpus=0).remote(number), ObjectRef[str])
    square.options(name="s").remote("3")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


def optional_and_compound_parameters_take_references(
    number: ObjectRef[int], numbers: ObjectRef[list[int]], maybe: ObjectRef[int | None]
) -> None:
    @remote
    def pick(index: int | None, values: list[int]) -> int:
        return values[index or 0]

    assert_type(pick.remote(None, []), ObjectRef[int])
    assert_type(pick.remote(number, numbers), ObjectRef[int])
    assert_type(pick.remote(maybe, [1]), ObjectRef[int])


def variable_arguments_take_references(number: ObjectRef[int]) -> None:
    @remote
    def total(*values: int) -> int:
        return sum(values)

    assert_type(total.remote(), ObjectRef[int])
    assert_type(total.remote(1, number, 3), ObjectRef[int])


def ten_parameters_take_references(n: ObjectRef[int], w: ObjectRef[str]) -> None:
    @remote
    def ten(
        a: int, b: str, c: int, d: str, e: int, f: str, g: int, h: str, i: int, j: str
    ) -> float:
        return 1.0

    assert_type(ten.remote(n, w, n, w, n, w, n, w, n, w), ObjectRef[float])
    ten.remote(n, w, n, w, n, w, n, w, n, n)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]


def functions_of_every_making_are_understood(words: Callable[[int], str]) -> None:
    def traced(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def inner(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(*args, **kwargs)

        return inner

    @remote
    @traced
    def half(x: int) -> float:
        return x / 2

    assert_type(half.remote(3), ObjectRef[float])
    assert_type(remote(words).remote(3), ObjectRef[str])
    assert_type(remote(len).remote([1]), ObjectRef[int])
    assert_type(remote(functools.partial(pow, 2)).remote(3), ObjectRef[int])


def a_generator_gives_references_one_by_one(number: ObjectRef[int]) -> None:
    @remote
    def squares(count: int) -> Iterator[str]:
        for n in range(count):
            yield str(n * n)

    @remote(num_cpus=1)
    def halves(count: int) -> Generator[float, None, None]:
        yield count / 2

    assert_type(squares.remote(3), ObjectRefGenerator[str])
    assert_type(squares.remote(number), ObjectRefGenerator[str])
    assert_type(halves.options(name="h").remote(3), ObjectRefGenerator[float])
    for ref in squares.remote(3):
        assert_type(ref, ObjectRef[str])
        assert_type(get(ref), str)
    squares.remote("3")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


def functions_without_annotations_take_anything(anything: Any) -> None:
    sizes = remote(anything)
    sizes.remote(1, 2, three=3)


def a_function_that_returns_anything_gives_a_reference() -> None:
    @remote
    def load(path: str) -> Any:
        return path

    assert_type(load.remote("a"), ObjectRef[Any])  # type: ignore[assert-type]  # mypy: Any
