"""Async actors: one event loop, many calls at once, started in order."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Caller, double, held
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until


@ca.remote
class Meeting:
    """Its calls wait for each other."""

    def __init__(self) -> None:
        self.present = self.most = 0
        self.started: list[Any] = []
        self.doors: dict[str, asyncio.Event] = {}

    async def attend(self, door: str = "", who: Any = None) -> int:
        self.started.append(who)
        self.present += 1
        self.most = max(self.most, self.present)
        try:
            await self.doors.setdefault(door, asyncio.Event()).wait()
        finally:
            self.present -= 1
        return threading.get_ident()

    async def enter(self, door: str, who: int) -> int:
        with Path(door).open("a") as file:  # noqa: ASYNC230 - a few bytes, and order is the point
            file.write(f"{who}\n")
        return await self.attend(door, who)

    async def note(self, who: Any) -> Any:
        self.started.append(who)
        await asyncio.sleep(0)
        return who

    def open(self, door: str = "") -> int:
        self.doors.setdefault(door, asyncio.Event()).set()
        return threading.get_ident()

    def count(self) -> tuple[int, int]:
        return self.present, self.most

    def seen(self) -> list[Any]:
        return self.started


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def wait_present(meeting: Any, number: int) -> None:
    wait_until(lambda: ca.get(meeting.count.remote())[0] == number, f"{number} calls under way")


def test_calls_overlap_on_one_event_loop_that_plain_methods_share(cluster: Cluster):
    meeting = Meeting.remote()
    waiting = [meeting.attend.remote() for _ in range(20)]
    wait_present(meeting, 20)

    threads = {ca.get(meeting.open.remote(), timeout=10), *ca.get(waiting, timeout=10)}

    assert len(threads) == 1


@pytest.mark.parametrize(("options", "limit"), [({}, 1000), ({"max_concurrency": 7}, 7)])
def test_exactly_as_many_calls_run_at_once_as_max_concurrency_says(
    cluster: Cluster, options: dict[str, Any], limit: int, tmp_path: Path
):
    door = tmp_path / "door"
    meeting = Meeting.options(**options).remote()
    waiting = [meeting.enter.remote(str(door), who) for who in range(limit + 30)]
    opener = meeting.open.remote(str(door))  # behind them: it needs a place, too
    wait_until(lambda: len(lines(door)) >= limit, "as many calls as there may be")
    assert not ca.wait([opener], timeout=0.05)[0]

    for ref in waiting[limit:]:
        ca.cancel(ref)  # these have never run, and leave the opener the next in line
    ca.cancel(waiting[0])

    assert ca.get(opener, timeout=10)
    ca.get(waiting[1:limit], timeout=10)
    assert ca.get(meeting.count.remote(), timeout=10)[1] == limit
    assert lines(door) == [str(who) for who in range(limit)]


def test_one_coroutine_method_or_constructor_makes_an_actor_async(cluster: Cluster):
    @ca.remote
    class OnlyConstructor:
        async def __init__(self, value: int) -> None:
            await asyncio.sleep(0)
            self.value = value

        def read(self) -> tuple[int, bool]:
            return self.value, asyncio.get_running_loop().is_running()

    @ca.remote
    class Base:
        value = 3

        async def wait(self) -> None:
            """Never called."""

        def read(self) -> tuple[int, bool]:
            return self.value, asyncio.get_running_loop().is_running()

    assert ca.get(OnlyConstructor.remote(2).read.remote(), timeout=10) == (2, True)
    assert ca.get(Base.remote().read.remote(), timeout=10) == (3, True)


def test_an_async_constructor_that_raises_ends_the_actor_with_its_words(cluster: Cluster):
    @ca.remote
    class Broken:
        async def __init__(self) -> None:
            await asyncio.sleep(0)
            raise KeyError("no such tide")

        async def flow(self) -> None:
            """Never runs."""

    actor = Broken.options(max_restarts=3).remote()

    with pytest.raises(ca.ActorDiedError, match="no such tide") as caught:
        ca.get(actor.flow.remote(), timeout=10)
    assert caught.value.actor_init_failed


def test_ten_thousand_calls_all_answer_and_start_in_order(cluster: Cluster):
    meeting = Meeting.remote()

    refs = [meeting.note.remote(number) for number in range(10_000)]

    assert ca.get(refs, timeout=60) == list(range(10_000))
    assert ca.get(meeting.seen.remote(), timeout=10) == list(range(10_000))


def test_methods_await_references_and_gather_them(cluster: Cluster):
    @ca.remote
    class Asker:
        async def one(self) -> int:
            return await double.remote(4)

        async def many(self, meeting: Any, count: int) -> list[int]:
            return await asyncio.gather(*(meeting.note.remote(n) for n in range(count)))

        async def given(self, refs: list[Any]) -> int:
            return sum(await asyncio.gather(*refs))

        async def failing(self) -> str:
            try:
                await double.remote(None)
            except TypeError as error:
                return type(error).__name__
            return "nothing"

    asker = Asker.remote()

    assert ca.get(asker.one.remote(), timeout=10) == 8
    assert ca.get(asker.many.remote(Meeting.remote(), 2_000), timeout=30) == list(range(2_000))
    assert ca.get(asker.given.remote([double.remote(n) for n in range(5)]), timeout=10) == 20
    assert "TypeError" in ca.get(asker.failing.remote(), timeout=10)


def test_an_async_actor_that_awaits_its_own_calls_does_not_deadlock(cluster: Cluster):
    @ca.remote
    class Self:
        async def meet(self, me: list[Any]) -> None:
            self.me = me[0]

        async def descend(self, depth: int) -> int:
            return 0 if depth == 0 else 1 + await self.me.descend.remote(depth - 1)

    actor = Self.remote()
    ca.get(actor.meet.remote([actor]), timeout=10)

    assert ca.get(actor.descend.remote(50), timeout=20) == 50
    ca.kill(actor)


def test_a_driver_awaits_thousands_of_references_at_once(cluster: Cluster):
    meeting = Meeting.remote()

    async def drive() -> list[int]:
        assert await meeting.note.remote("one") == "one"
        return await asyncio.gather(*(meeting.note.remote(n) for n in range(3_000)))

    assert asyncio.run(drive()) == list(range(3_000))


def test_cancelling_an_awaiting_task_leaves_the_call_alone(cluster: Cluster):
    meeting = Meeting.remote()
    ref = meeting.attend.remote()

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ref, 0.05)

    asyncio.run(impatient())
    ca.get(meeting.open.remote(), timeout=10)
    assert isinstance(ca.get(ref, timeout=10), int)


def test_a_blocking_get_in_an_async_actor_works_and_warns_once(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
):
    @ca.remote
    class Blocker:
        async def ask(self, value: int) -> int:
            return ca.get(double.remote(value))

    blocker = Blocker.remote()

    assert ca.get([blocker.ask.remote(n) for n in range(3)], timeout=10) == [0, 2, 4]
    said = ""

    def heard() -> bool:
        nonlocal said
        said += "".join(capfd.readouterr())
        return "Blocker: using blocking get() inside an async actor" in said

    wait_until(heard, "the warning on the driver's terminal")
    assert ca.get(blocker.ask.remote(7), timeout=10) == 14
    said += "".join(capfd.readouterr())
    assert said.count("using blocking get()") == 1


def test_an_unready_argument_holds_nobody_back(cluster: Cluster, gate: Gate):
    meeting = Meeting.remote()
    late = held.remote(gate.path)
    waiting = meeting.note.remote(late)

    assert ca.get(meeting.note.remote("after"), timeout=10) == "after"
    assert not ca.wait([waiting], timeout=0)[0]
    gate.open()
    assert ca.get(waiting, timeout=10) == "passed"


def test_a_call_whose_argument_comes_late_is_not_starved_by_a_busy_caller(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    meeting, busy = Meeting.remote(), Caller.remote()
    late = held.remote(gate.path)
    waiting = meeting.note.remote(late)
    gate.wait_reached()
    flood = [busy.call.remote(meeting, "note", n) for n in range(2_000)]
    gate.open()

    assert ca.get(waiting, timeout=20) == "passed"
    ca.get(flood, timeout=60)


def test_a_failed_argument_fails_the_call_with_its_own_error(cluster: Cluster):
    meeting = Meeting.remote()

    with pytest.raises(TypeError):
        ca.get(meeting.note.remote(double.remote(None)), timeout=10)
    assert ca.get(meeting.seen.remote(), timeout=10) == []


def test_a_killed_async_actor_runs_what_had_not_started_in_order(cluster: Cluster, tmp_path: Path):
    journal = tmp_path / "journal"

    @ca.remote(max_restarts=1, max_concurrency=2)
    class Scribe:
        async def write(self, word: Any, *, wait: bool = False) -> Any:
            with journal.open("a") as file:
                file.write(f"{word}\n")
            if wait:
                await asyncio.Event().wait()
            return word

        def pid(self) -> int:
            return os.getpid()

    actor = Scribe.remote()
    pid = ca.get(actor.pid.remote(), timeout=10)
    stuck = [actor.write.remote(f"stuck{n}", wait=True) for n in range(2)]
    wait_until(lambda: journal.exists() and len(journal.read_text().split()) == 2, "both run")
    waiting = [actor.write.remote(number) for number in range(300)]

    os.kill(pid, signal.SIGKILL)

    for ref in stuck:
        with pytest.raises(ca.ActorUnavailableError, match="may or may not have"):
            ca.get(ref, timeout=10)
    assert ca.get(waiting, timeout=20) == list(range(300))
    words = journal.read_text().split()
    assert words == ["stuck0", "stuck1", *(str(number) for number in range(300))]


def test_what_had_started_in_a_killed_async_actor_runs_again_as_often_as_it_may(
    cluster: Cluster, gate: Gate
):
    @ca.remote(max_restarts=-1, max_task_retries=1)
    class Fragile:
        def __init__(self) -> None:
            self.pid = os.getpid()

        async def hold(self, gate: str) -> str:
            with Path(f"{gate}.at").open("a") as file:  # noqa: ASYNC230 - a few bytes
                file.write(f"{os.getpid()}\n")
            await asyncio.Event().wait()
            return "never"

        async def ping(self) -> int:
            return self.pid

    actor = Fragile.remote()
    ref = actor.hold.remote(gate.path)

    os.kill(gate.wait_reached(), signal.SIGKILL)
    second = gate.wait_reached(times=2)
    os.kill(second, signal.SIGKILL)

    with pytest.raises(ca.ActorUnavailableError):
        ca.get(ref, timeout=10)
    assert ca.get(actor.ping.remote(), timeout=10) not in gate.pids()
    assert len(gate.pids()) == 2


def test_running_and_waiting_calls_of_a_killed_async_actor_without_restarts_fail(cluster: Cluster):
    meeting = Meeting.options(max_concurrency=1).remote()
    refs = [meeting.attend.remote("", n) for n in range(5)]
    ca.wait(refs, timeout=0.05)

    ca.kill(meeting)

    for ref in refs:
        with pytest.raises(ca.ActorDiedError, match="Meeting"):
            ca.get(ref, timeout=10)
