"""Remote generators of every kind, and what holds them in the middle."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import celery_actors as ca
from tests.integration.actors import pass_gate


def note(path: str, word: Any) -> None:
    with Path(path).open("a") as file:
        file.write(f"{word}\n")


def notes(path: Path) -> list[str]:
    """Return what was noted so far."""
    return path.read_text().split() if path.exists() else []


def is_open(gate: str) -> bool:
    return Path(f"{gate}.open").exists()


@ca.remote
def count(limit: int, gate: str = "", after: int = 0) -> Iterator[int]:
    """Yield the first numbers; stand at a gate after some of them."""
    for number in range(limit):
        if gate and number == after:
            pass_gate(gate)
        yield number


@ca.remote
def noted(limit: int, path: str) -> Iterator[int]:
    """Note each number before it is yielded, and the end."""
    try:
        for number in range(limit):
            note(path, number)
            yield number
    finally:
        note(path, "closed")


@ca.remote
def dying(path: str, values: int, deaths: int) -> Iterator[int]:
    """Yield some values, die, and do so again."""
    note(path, "run")
    yield from range(values)
    if len(notes(Path(path))) <= deaths:
        pass_gate(f"{path}.gate")
        os._exit(7)
    yield values


@ca.remote
class Source:
    """Generators as methods."""

    def __init__(self) -> None:
        self.tries = 0

    def count(self, limit: int, gate: str = "", after: int = 0) -> Iterator[int]:
        for number in range(limit):
            if gate and number == after:
                pass_gate(gate)
            yield number

    def noted(self, limit: int, path: str) -> Iterator[int]:
        try:
            for number in range(limit):
                note(path, number)
                yield number
        finally:
            note(path, "closed")

    def fail(self, after: int) -> Iterator[int]:
        yield from range(after)
        raise ValueError("no more")

    def give(self, *values: Any) -> Iterator[Any]:
        yield from values

    def unpicklable(self) -> Iterator[Any]:
        yield 1
        yield threading.Lock()

    def die(self, path: str, values: int, deaths: int) -> Iterator[int]:
        note(path, "run")
        yield from range(values)
        if len(notes(Path(path))) <= deaths:
            pass_gate(f"{path}.gate")
            os._exit(7)
        yield values

    def second_time(self) -> Iterator[int]:
        self.tries += 1
        yield 1
        if self.tries == 1:
            raise KeyError("once")
        yield 2

    @ca.method(num_returns=2)
    def pair(self, first: Any, second: Any) -> tuple[Any, Any]:
        return first, second

    def plain(self, value: Any = None) -> Any:
        return value

    def wait_and_return(self, gate: str, value: Any) -> Any:
        pass_gate(gate)
        return value


@ca.remote
class AsyncSource:
    """The same in an async actor."""

    async def count(self, limit: int, gate: str = "", after: int = 0) -> AsyncIterator[int]:
        for number in range(limit):
            if gate and number == after:
                note(f"{gate}.at", os.getpid())
                while not is_open(gate):  # noqa: ASYNC110 - the test opens it from outside
                    await asyncio.sleep(0.005)
            yield number

    async def noted(self, limit: int, path: str) -> AsyncIterator[int]:
        try:
            for number in range(limit):
                note(path, number)
                yield number
        finally:
            note(path, "closed")

    async def fail(self, after: int) -> AsyncIterator[int]:
        for number in range(after):
            yield number
        raise ValueError("no more")

    async def give(self, *values: Any) -> AsyncIterator[Any]:
        for value in values:
            yield value

    def count_in_steps(self, limit: int) -> Iterator[int]:
        yield from range(limit)

    async def pair(self, first: Any, second: Any) -> tuple[Any, Any]:
        return first, second

    async def plain(self, value: Any = None) -> Any:
        return value


@ca.remote
class Reader:
    """Takes references and values in a process of its own."""

    def value(self, value: Any) -> Any:
        return value

    def nested(self, refs: list[Any]) -> Any:
        return ca.get(refs)

    def read(self, limit: int) -> list[int]:
        return [ca.get(ref) for ref in count.remote(limit)]
