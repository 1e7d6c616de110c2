"""Retries: which exceptions, how often, in place and in order, together with crashes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Scribe, double
from tests.integration.gates import Gate
from tests.integration.support import Cluster


class FaultError(Exception):
    """A user's own."""


class GraverError(FaultError):
    """A special case of it."""


class Flaky:
    """Fails so many times, then works."""

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}

    def work(self, key: str, failures: int, error: type[BaseException] = FaultError) -> int:
        self.tries[key] = self.tries.get(key, 0) + 1
        if self.tries[key] <= failures:
            raise error(f"{key} failed {self.tries[key]} times")
        return self.tries[key]

    @ca.method(max_task_retries=2, retry_exceptions=[FaultError])
    def marked(self, key: str, failures: int, error: type[BaseException] = FaultError) -> int:
        return self.work(key, failures, error)

    def tried(self, key: str) -> int:
        return self.tries.get(key, 0)


class AsyncFlaky(Flaky):
    """The same on an event loop."""

    async def rest(self) -> None:
        await asyncio.sleep(0)


KINDS = {
    "sync": ca.remote(Flaky),
    "async": ca.remote(AsyncFlaky),
    "threaded": ca.remote(max_concurrency=2)(Flaky),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "failures", "tries"),
    [
        ({"max_task_retries": 2, "retry_exceptions": True}, 2, 3),
        ({"max_task_retries": 2, "retry_exceptions": True}, 9, None),
        ({"max_task_retries": 2, "retry_exceptions": [FaultError]}, 2, 3),
        ({"max_task_retries": -1, "retry_exceptions": [FaultError]}, 20, 21),
        ({"max_task_retries": 5, "retry_exceptions": [KeyError]}, 1, None),
        ({"max_task_retries": 5}, 1, None),
        ({"retry_exceptions": True}, 1, None),
        ({"max_task_retries": 5, "retry_exceptions": False}, 1, None),
        ({}, 0, 1),
    ],
    ids=[
        "any",
        "too many",
        "listed",
        "endless",
        "another",
        "crashes only",
        "none left",
        "off",
        "0",
    ],
)
def test_a_call_is_tried_again_as_its_options_say(
    cluster: Cluster, kind: str, options: dict[str, Any], failures: int, tries: int | None
):
    flaky = KINDS[kind].remote()
    ref = flaky.work.options(**options).remote("key", failures)

    if tries is not None:
        assert ca.get(ref, timeout=10) == tries
        return
    limit = options.get("max_task_retries", 0) if failures > 1 else 0
    with pytest.raises(FaultError, match=f"key failed {limit + 1} times") as caught:
        ca.get(ref, timeout=10)
    assert isinstance(caught.value, ca.RayTaskError)
    assert ca.get(flaky.tried.remote("key"), timeout=10) == limit + 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_call_says_more_than_the_method_and_the_method_more_than_the_actor(
    cluster: Cluster, kind: str
):
    cls = KINDS[kind]
    flaky = cls.options(max_task_retries=4).remote()
    always = {"retry_exceptions": True}

    assert ca.get(flaky.marked.remote("method", 2), timeout=10) == 3
    with pytest.raises(FaultError, match="failed 3 times"):
        ca.get(flaky.marked.remote("method+", 3), timeout=10)
    more = flaky.marked.options(max_task_retries=3)
    assert ca.get(more.remote("call", 3), timeout=10) == 4
    never = flaky.marked.options(retry_exceptions=False)
    with pytest.raises(FaultError, match="failed 1 times"):
        ca.get(never.remote("call off", 1), timeout=10)
    assert ca.get(flaky.work.options(**always).remote("actor", 4), timeout=10) == 5
    with pytest.raises(FaultError, match="failed 5 times"):
        ca.get(flaky.work.options(**always).remote("actor+", 5), timeout=10)


def test_options_of_an_actor_go_before_those_of_its_class(cluster: Cluster):
    cls = ca.remote(max_task_retries=1)(Flaky)
    wanted = {"retry_exceptions": True}

    assert ca.get(cls.remote().work.options(**wanted).remote("a", 1), timeout=10) == 2
    with pytest.raises(FaultError):
        ca.get(cls.remote().work.options(**wanted).remote("a", 2), timeout=10)
    more = cls.options(max_task_retries=2).remote()
    assert ca.get(more.work.options(**wanted).remote("a", 2), timeout=10) == 3


def test_a_listed_type_covers_its_subclasses_and_nothing_else(cluster: Cluster):
    flaky = KINDS["sync"].remote()

    assert ca.get(flaky.marked.remote("sub", 2, GraverError), timeout=10) == 3
    with pytest.raises(KeyError, match="failed 1 times"):
        ca.get(flaky.marked.remote("other", 1, KeyError), timeout=10)
    builtin = flaky.work.options(max_task_retries=1, retry_exceptions=[OSError, ValueError])
    assert ca.get(builtin.remote("os", 1, TimeoutError), timeout=10) == 2


def test_a_retried_call_keeps_its_place_before_those_behind_it(cluster: Cluster):
    @ca.remote
    class Log:
        def __init__(self) -> None:
            self.words: list[Any] = []

        def add(self, word: Any, failures: int = 0) -> None:
            self.words.append(word)
            if self.words.count(word) <= failures:
                raise FaultError(word)

        def read(self) -> list[Any]:
            return self.words

    log = Log.remote()
    again = log.add.options(max_task_retries=3, retry_exceptions=True)
    refs = [log.add.remote(1), again.remote(2, 3), log.add.remote(3), again.remote(4, 1)]

    ca.get(refs, timeout=10)
    assert ca.get(log.read.remote(), timeout=10) == [1, 2, 2, 2, 2, 3, 4, 4]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_crashes_and_exceptions_are_counted_together(cluster: Cluster, gate: Gate, limit: int):
    @ca.remote(max_restarts=-1)
    class Both:
        def work(self, gate: str) -> None:
            with Path(f"{gate}.at").open("a") as file:
                file.write(f"{os.getpid()}\n")
            if len(Path(f"{gate}.at").read_text().split()) % 2:
                raise FaultError("by exception")
            os.kill(os.getpid(), signal.SIGKILL)

        def ping(self) -> str:
            return "pong"

    both = Both.remote()
    ref = both.work.options(max_task_retries=limit, retry_exceptions=True).remote(gate.path)

    with pytest.raises((FaultError, ca.ActorUnavailableError)):
        ca.get(ref, timeout=20)
    assert len(gate.pids()) == limit + 1
    assert ca.get(both.ping.remote(), timeout=10) == "pong"


def test_an_exception_that_a_call_got_from_another_call_counts_as_its_own_type(cluster: Cluster):
    @ca.remote
    class Asker:
        def __init__(self) -> None:
            self.asked = 0

        def ask(self) -> int:
            self.asked += 1
            if self.asked == 1:
                ca.get(double.remote(None))  # raises TypeError there
            return self.asked

    wanted = {"max_task_retries": 1, "retry_exceptions": [TypeError]}
    assert ca.get(Asker.remote().ask.options(**wanted).remote(), timeout=10) == 2


def test_functions_are_tried_again_for_their_exceptions_if_asked(cluster: Cluster, gate: Gate):
    @ca.remote(max_retries=2)
    def work(gate: str, failures: int) -> int:
        with Path(gate).open("a") as file:
            file.write("x")
        tries = len(Path(gate).read_text())
        if tries <= failures:
            raise FaultError(f"failed {tries} times")
        return tries

    with pytest.raises(FaultError, match="failed 1 times"):
        ca.get(work.remote(f"{gate.path}1", 1), timeout=10)
    assert (
        ca.get(work.options(retry_exceptions=[FaultError]).remote(f"{gate.path}2", 2), timeout=10)
        == 3
    )
    with pytest.raises(FaultError, match="failed 3 times"):
        ca.get(work.options(retry_exceptions=True).remote(f"{gate.path}3", 3), timeout=10)


def test_what_had_begun_runs_before_what_had_not_after_a_crash(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    journal = tmp_path / "journal"
    actor = Scribe.options(max_restarts=-1).remote(str(journal))
    first = actor.hold.options(max_task_retries=1).remote(gate.path)
    rest = [actor.write.remote(str(n)) for n in range(50)]

    os.kill(gate.wait_reached(), signal.SIGKILL)
    gate.wait_reached(times=2)
    gate.open()

    assert ca.get([first, *rest], timeout=20) == ["passed", *(str(n) for n in range(50))]
    assert journal.read_text().split() == ["hold-gate", "hold-gate", *(str(n) for n in range(50))]
