"""Ends of actors: which error, how soon, and what runs on the way out."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Cluster, is_alive, stopped, wait_empty, wait_until


class Mortal:
    """Ends in every way there is, and leaves a note of what ran on its way out."""

    def __init__(self, notes: str) -> None:
        self.notes = Path(notes)
        self.note("init")
        atexit.register(self.note, "atexit")

    def note(self, word: str) -> str:
        with self.notes.open("a") as file:
            file.write(f"{word}\n")
        return word

    def __ray_shutdown__(self) -> None:
        self.note("shutdown")

    def exit_actor(self) -> None:
        ca.actor.exit_actor()

    def swallow_exit(self) -> str:
        try:
            ca.actor.exit_actor()
        except BaseException as error:  # noqa: BLE001 - as careless users do
            return self.note(f"swallowed-{type(error).__name__}")
        return "never"

    def sys_exit(self) -> None:
        raise SystemExit(3)

    def os_exit(self) -> None:
        os._exit(4)

    def hold(self, gate: str) -> str:
        return pass_gate(gate)

    def pid(self) -> int:
        return os.getpid()


class AsyncMortal(Mortal):
    """The same on an event loop."""

    async def rest(self, gate: str) -> str:
        return await asyncio.to_thread(pass_gate, gate)

    async def exit_in_coroutine(self) -> None:
        ca.actor.exit_actor()


KINDS: dict[str, Any] = {
    "sync": ca.remote(Mortal),
    "async": ca.remote(AsyncMortal),
    "threaded": ca.remote(max_concurrency=2)(Mortal),
}


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def words(notes: Path) -> list[str]:
    return notes.read_text().split() if notes.exists() else []


def dies(ref: Any, match: str) -> ca.ActorDiedError:
    began = time.monotonic()
    with pytest.raises(ca.ActorDiedError, match=match) as caught:
        ca.get(ref, timeout=15)
    assert time.monotonic() - began < 10
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_exit_actor_ends_it_for_good_and_exit_handlers_run(
    cluster: Cluster, notes: Path, kind: str
):
    actor = KINDS[kind].options(max_restarts=-1, max_task_retries=-1).remote(str(notes))
    pid = ca.get(actor.pid.remote(), timeout=10)

    error = dies(actor.exit_actor.remote(), r"(Async)?Mortal\(.*exit_actor\(\)")

    assert error.actor_id
    dies(actor.pid.remote(), r"exit_actor\(\)")
    wait_until(lambda: not is_alive(pid), "its process is gone")
    assert words(notes) == ["init", "atexit"], "once, and not started again"


@pytest.mark.parametrize("kind", KINDS)
def test_an_actor_exits_even_if_its_method_swallows_the_request(
    cluster: Cluster, notes: Path, kind: str
):
    actor = KINDS[kind].remote(str(notes))
    ref = actor.swallow_exit.remote()

    assert ca.get(ref, timeout=10).startswith("swallowed-")
    dies(actor.pid.remote(), "exit_actor")


def test_exit_actor_in_a_coroutine_lets_running_calls_end_first(
    cluster: Cluster, notes: Path, gate: Gate
):
    actor = KINDS["async"].options(max_concurrency=2).remote(str(notes))
    running = actor.rest.remote(gate.path)
    gate.wait_reached()
    leaving = actor.exit_in_coroutine.remote()
    waiting = [actor.pid.remote() for _ in range(5)]

    wait_until(lambda: ca.wait([running], timeout=0.1)[0] == [], "the call runs on")
    gate.open()

    assert ca.get(running, timeout=10) == "passed"
    for ref in (leaving, *waiting):
        dies(ref, "exit_actor")


def test_exit_actor_outside_an_actor_is_a_type_error(cluster: Cluster):
    with pytest.raises(TypeError, match="non-actor"):
        ca.actor.exit_actor()

    @ca.remote
    def leave() -> None:
        ca.actor.exit_actor()

    with pytest.raises(TypeError, match="non-actor"):
        ca.get(leave.remote(), timeout=10)


@pytest.mark.parametrize("kind", KINDS)
def test_terminate_comes_after_earlier_calls_and_runs_hooks_and_handlers(
    cluster: Cluster, notes: Path, kind: str
):
    actor = KINDS[kind].options(max_restarts=-1).remote(str(notes))
    before = [actor.note.remote(f"{n}") for n in range(20)]
    last = actor.__ray_terminate__.remote()

    assert ca.get(before, timeout=10) == [str(n) for n in range(20)]
    dies(last, "__ray_terminate__")
    dies(actor.pid.remote(), "__ray_terminate__")
    wait_until(lambda: "atexit" in words(notes), "exit handlers")
    assert sorted(words(notes)[1:21]) == sorted(str(n) for n in range(20))
    assert words(notes)[21:] == ["shutdown", "atexit"]


def test_a_shutdown_hook_that_raises_does_not_keep_the_actor(cluster: Cluster, notes: Path):
    @ca.remote
    class Bad:
        def __ray_shutdown__(self) -> None:
            raise RuntimeError("cannot tidy up")

        def pid(self) -> int:
            return os.getpid()

    actor = Bad.remote()
    pid = ca.get(actor.pid.remote(), timeout=10)

    dies(actor.__ray_terminate__.remote(), "__ray_terminate__")
    wait_until(lambda: not is_alive(pid), "its process is gone")


def test_terminate_waits_for_calls_that_wait_for_their_arguments(
    cluster: Cluster, notes: Path, gate: Gate
):
    from tests.integration.actors import held

    actor = KINDS["sync"].remote(str(notes))
    late = actor.note.remote(held.remote(gate.path))
    last = actor.__ray_terminate__.remote()
    assert not ca.wait([late, last], timeout=0.1)[0]

    gate.open()

    assert ca.get(late, timeout=10) == "passed"
    dies(last, "__ray_terminate__")


@pytest.mark.parametrize("kind", KINDS)
def test_kill_runs_neither_hooks_nor_handlers(cluster: Cluster, notes: Path, gate: Gate, kind: str):
    actor = KINDS[kind].options(max_restarts=-1, max_task_retries=-1).remote(str(notes))
    refs = [actor.hold.remote(gate.path) for _ in range(3)]
    pid = gate.wait_reached()

    ca.kill(actor)
    ca.kill(actor)

    for ref in (*refs, actor.pid.remote()):
        dies(ref, r"kill\(\)")
    wait_until(lambda: not is_alive(pid), "its process is gone")
    assert words(notes) == ["init"]


@pytest.mark.parametrize("kind", KINDS)
def test_nor_where_the_process_hears_of_it_before_its_node(
    cluster: Cluster, notes: Path, gate: Gate, kind: str
):
    actor = KINDS[kind].remote(str(notes))
    running = actor.hold.remote(gate.path)
    pid = gate.wait_reached()
    with stopped(ca.nodes()[0]["pid"]):
        ca.kill(actor)
        gate.open()
        wait_until(lambda: not is_alive(pid), "its process is gone")

    dies(running, r"kill\(\)")
    assert words(notes) == ["init"]


@pytest.mark.parametrize("kind", KINDS)
def test_kill_without_the_end_restarts_and_counts(
    cluster: Cluster, notes: Path, gate: Gate, kind: str
):
    actor = KINDS[kind].options(max_restarts=1).remote(str(notes))
    running = actor.hold.remote(gate.path)
    pid = gate.wait_reached()
    waiting = [actor.note.remote(str(n)) for n in range(20)] if kind == "sync" else []

    ca.kill(actor, no_restart=False)

    with pytest.raises(ca.ActorUnavailableError, match="SIGKILL"):
        ca.get(running, timeout=10)
    assert ca.get(waiting, timeout=10) == [str(n) for n in range(len(waiting))]
    again = ca.get(actor.pid.remote(), timeout=10)
    assert again != pid

    ca.kill(actor, no_restart=False)

    wait_until(lambda: not is_alive(again), "the second process is gone")
    dies(actor.pid.remote(), "SIGKILL")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("method", "status"), [("sys_exit", 3), ("os_exit", 4)])
def test_an_exit_in_a_method_is_a_crash(
    cluster: Cluster, notes: Path, kind: str, method: str, status: int
):
    actor = KINDS[kind].options(max_restarts=1).remote(str(notes))

    with pytest.raises(ca.ActorUnavailableError, match=f"status {status}"):
        ca.get(getattr(actor, method).remote(), timeout=10)
    assert isinstance(ca.get(actor.pid.remote(), timeout=10), int)
    dies(getattr(actor, method).remote(), f"status {status}")
    dies(actor.pid.remote(), f"status {status}")
    assert words(notes).count("init") == 2


def test_an_exit_in_a_method_is_tried_again_with_retries(cluster: Cluster, tmp_path: Path):
    @ca.remote(max_restarts=-1, max_task_retries=1)
    class Once:
        def work(self, marker: str) -> str:
            if not Path(marker).exists():
                Path(marker).touch()
                raise SystemExit(5)
            return "done"

    assert ca.get(Once.remote().work.remote(str(tmp_path / "marker")), timeout=10) == "done"


@pytest.mark.parametrize("kind", ["sync", "async", "threaded"])
@pytest.mark.parametrize(
    ("end", "tries", "match"),
    [("raises", 1, "no such colour"), ("exits", 3, "status 6"), ("crashes", 3, "status 7")],
)
def test_a_constructor_that_raises_is_final_and_one_that_crashes_is_tried_again(
    cluster: Cluster, notes: Path, kind: str, end: str, tries: int, match: str
):
    class Broken:
        def __init__(self, notes: str) -> None:
            with Path(notes).open("a") as file:
                file.write("init\n")
            if end == "raises":
                raise KeyError("no such colour")
            if end == "exits":
                raise SystemExit(6)
            os._exit(7)

        def work(self) -> None:
            """Never runs."""

    if kind == "async":

        async def rest(self: Any) -> None:
            """Make it async."""

        Broken.rest = rest  # type: ignore[attr-defined]
    cls = ca.remote(max_restarts=2, max_concurrency=2 if kind == "threaded" else None)(Broken)
    actor = cls.remote(str(notes))
    refs = [actor.work.remote() for _ in range(3)]

    for ref in (*refs, actor.work.remote()):
        assert dies(ref, match).actor_init_failed is (end == "raises")
    assert words(notes) == ["init"] * tries


def test_ray_call_and_ray_ready_are_there_for_every_actor(cluster: Cluster, notes: Path):
    for cls in KINDS.values():
        actor = cls.remote(str(notes))
        assert ca.get(actor.__ray_ready__.remote(), timeout=10) is True
        found = actor.__ray_call__.remote(lambda self, more: (type(self).__name__, more), 7)
        assert ca.get(found, timeout=10)[1] == 7
        assert {"__init__", "__ray_ready__", "__ray_call__", "__ray_terminate__"} <= set(dir(actor))
        ca.kill(actor)


def test_kill_of_anything_else_is_a_value_error(cluster: Cluster):
    for wrong in (None, 7, "actor", ca.put(1)):
        with pytest.raises(ValueError, match="actor handle"):
            ca.kill(wrong)


def test_an_actor_that_ended_leaves_no_key_process_or_name(
    cluster: Cluster, notes: Path, gate: Gate
):
    for number, (cls, end) in enumerate(
        [
            (KINDS[kind], end)
            for kind in KINDS
            for end in ("exit_actor", "__ray_terminate__", "kill")
        ]
    ):
        actor = cls.options(name=f"leaver-{number}").remote(str(notes))
        pid = ca.get(actor.pid.remote(), timeout=10)
        if end == "kill":
            ca.kill(actor)
        else:
            dies(getattr(actor, end).remote(), "ended|exit")
        wait_until(lambda pid=pid: not is_alive(pid), "its process is gone")
        with pytest.raises(ValueError, match="leaver"):
            ca.get_actor(f"leaver-{number}")

        actor_id = actor._identity.actor_id
        del actor  # its record stays for those who hold a handle

        def left(actor_id: str = actor_id) -> list[bytes]:
            with cluster.client() as client:
                found = client.scan_iter(f"*{actor_id}*", count=1000)
                return [key for key in found if client.ttl(key) == -1]

        wait_empty(left, "keys without an end")


def test_a_thread_of_user_code_does_not_keep_an_actor_from_ending(cluster: Cluster):
    @ca.remote
    class Starter:
        def start(self) -> int:
            threading.Thread(target=time.sleep, args=(600,)).start()
            return os.getpid()

    actor = Starter.remote()
    pid = ca.get(actor.start.remote(), timeout=10)

    dies(actor.__ray_terminate__.remote(), "__ray_terminate__")
    wait_until(lambda: not is_alive(pid), "its process is gone")
