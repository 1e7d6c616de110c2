"""Remote classes and functions that workers import by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import celery_actors as ca


@ca.remote
class Counter:
    """Counts, and remembers every amount."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self.amounts: list[int] = []

    def add(self, amount: int = 1) -> int:
        self.value += amount
        self.amounts.append(amount)
        return self.value

    def seen(self) -> list[int]:
        return self.amounts

    def pid(self) -> int:
        return os.getpid()

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def hold(self, gate: str) -> str:
        return pass_gate(gate)


@ca.remote
class Recorder:
    """Writes down who called with what, in the order in which calls ran."""

    def __init__(self) -> None:
        self.notes: list[list[Any]] = []

    def note(self, who: Any, number: Any) -> None:
        self.notes.append([who, number])

    def notes_taken(self) -> list[list[Any]]:
        return self.notes


@ca.remote
class Caller:
    """Calls others: a second process with a stream of calls of its own."""

    def send(self, recorder: Any, who: int, count: int) -> int:
        refs = [recorder.note.remote(who, number) for number in range(count)]
        ca.get(refs)
        return count

    def call(self, handle: Any, method: str, *args: Any) -> Any:
        return ca.get(getattr(handle, method).remote(*args))


@ca.remote
class Scribe:
    """Appends to a file, so that what ran is known even after a crash."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def write(self, word: str) -> str:
        with self.path.open("a") as file:
            file.write(f"{word}\n")
        return word

    def hold(self, gate: str) -> str:
        self.write(f"hold-{Path(gate).name}")
        return pass_gate(gate)

    def pid(self) -> int:
        return os.getpid()


def pass_gate(gate: str) -> str:
    """Say that we are here (``<gate>.at``, with our pid); go on once ``<gate>.open`` exists."""
    here = Path(f"{gate}.at")
    with here.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(f"{gate}.open").exists():
        time.sleep(0.005)
    return "passed"


@ca.remote
def held(gate: str) -> str:
    """Wait at a gate."""
    return pass_gate(gate)


@ca.remote
def double(value: Any) -> Any:
    """Return twice the value."""
    return value * 2


@ca.remote
def echo(*values: Any) -> Any:
    """Return what came."""
    return list(values)


@ca.remote
def fail(text: str) -> None:
    """Raise."""
    raise ValueError(text)


@ca.remote
def descend(depth: int) -> int:
    """Call oneself to a depth."""
    return 0 if depth == 0 else 1 + ca.get(descend.remote(depth - 1))


@ca.remote
def fan_out(depth: int) -> int:
    """Call oneself three times at each level."""
    if depth == 0:
        return 1
    return sum(ca.get([fan_out.remote(depth - 1) for _ in range(3)]))


@ca.remote
class Ring:
    """Calls the next one, which calls the next one."""

    def __init__(self) -> None:
        self.next: Any = None

    def join(self, following: Any) -> None:
        self.next = following

    def travel(self, hops: int) -> int:
        return 0 if hops == 0 else 1 + ca.get(self.next.travel.remote(hops - 1))
