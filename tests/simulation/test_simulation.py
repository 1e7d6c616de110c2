from __future__ import annotations

import re
from collections.abc import Generator, Iterator

import pytest

from celery_actors.config import Address
from celery_actors.store import StoreUnreachableError
from tests.simulation.campaign import Campaign, campaign, listening, own_server
from tests.simulation.network import RETRIES, Line, Port, Server, Words
from tests.simulation.schedule import MODES, Mode, run

#: `make simulate` runs thousands.
SCHEDULES = 150


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with own_server() as found:
        yield found


@pytest.fixture
def server(address: Address) -> Iterator[Server]:
    with listening(address) as found:
        yield found


@pytest.mark.parametrize("mode", MODES)
def test_every_promise_holds_in_every_schedule(server: Server, mode: Mode) -> None:
    found = campaign(server, mode, range(SCHEDULES))

    assert found.failures == {}
    assert found.too_little == []


@pytest.mark.parametrize("mode", MODES)
def test_a_seed_is_always_the_same_schedule(server: Server, mode: Mode) -> None:
    def traced(seed: int) -> list[str]:
        # Epochs and dates come from the server's clock.
        lines = run(server, seed, mode, trace=True).trace
        return [re.sub(r"\d{13}|20\d\d-[\d:.T+-]+", "…", line) for line in lines]

    for seed in range(5):
        assert traced(seed) == traced(seed)


def test_a_campaign_in_which_too_little_happens_proves_nothing() -> None:
    quiet = Campaign("once", schedules=1000)
    quiet.counts["calls"] = 5000

    assert "only 0 of 5000 calls succeeded" in quiet.too_little
    assert "fenced: 0.000 a schedule, at least 0.03 wanted" in quiet.too_little
    awake = Campaign("resting", schedules=1000)
    assert "rested: 0.000 a schedule, at least 0.5 wanted" in awake.too_little


# -- one round trip at a time ------------------------------------------------------------------


class Echo:
    """A network on which every command is answered with its last word."""

    def open(self) -> Line:
        return Line(1)

    def execute(self, words: Words) -> bytes:
        return words[-1]


def answer(line: Line) -> None:
    line.answers.append(line.asked.popleft()[-1])


def ended(steps: Generator[object, None, list[bytes]]) -> list[bytes]:
    with pytest.raises(StopIteration) as end:
        next(steps)
    found: list[bytes] = end.value.value
    return found


def test_a_function_waits_at_each_round_trip_and_hears_what_it_has_heard() -> None:
    port, begun = Port(Echo()), []

    def function() -> list[bytes]:
        begun.append(True)
        return [port.store.run("GET", "one"), port.store.run("GET", "two")]

    steps = port.steps(function)
    for word in (b"one", b"two"):
        line = next(steps)
        assert isinstance(line, Line)
        assert line.asked[0] == (b"GET", word)
        answer(line)

    assert ended(steps) == [b"one", b"two"]
    assert len(begun) == 3


def test_the_pooled_client_asks_again_after_a_break_and_gives_up_in_the_end() -> None:
    port = Port(Echo())
    steps = port.steps(lambda: [port.store.run("GET", "one")])
    line = next(steps)
    assert isinstance(line, Line)

    for _ in range(RETRIES):
        line.cut()
        assert next(steps) is line
        assert line.asked[0] == (b"GET", b"one")
    line.cut()

    with pytest.raises(StoreUnreachableError):
        next(steps)
