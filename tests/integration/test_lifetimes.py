"""How long actors live: as long as somebody holds a handle, and no longer."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import celery_actors as ca
from celery_actors import runtime
from tests.integration.actors import pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Cluster, is_alive, wait_empty, wait_until


@ca.remote
class Mortal:
    """Writes its last words; holds what it is given."""

    def __init__(self, path: str = "", held: Any = None) -> None:
        self.path = path
        self.held = held

    def pid(self) -> int:
        return os.getpid()

    def keep(self, held: Any) -> None:
        self.held = held

    def give(self) -> Any:
        return self.held

    def forget(self) -> None:
        self.held = None

    def write(self, word: str) -> str:
        with Path(self.path).open("a") as file:
            file.write(f"{word}\n")
        return word

    def wait_at(self, gate: str) -> str:
        return pass_gate(gate)

    def make(self) -> Any:
        self.held = Mortal.remote()
        return self.held

    def me(self) -> Any:
        return self.held

    def crash(self) -> None:
        os._exit(3)

    def __ray_shutdown__(self) -> None:
        if self.path:
            self.write("shutdown")


def words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def living(cluster: Cluster) -> set[str]:
    with cluster.client() as client:
        return {key.decode() for key in client.hkeys("ca:actors")}


@pytest.fixture(autouse=True)
def nobody_else(cluster: Cluster) -> None:
    """Each test begins and ends without actors: what it drops must end."""
    wait_empty(lambda: sorted(living(cluster)), "actors of other tests have ended")


def wait_ended(cluster: Cluster, *actors: str) -> None:
    wait_empty(lambda: sorted(living(cluster) & set(actors)), "the actors have ended")


def id_of(actor: Any) -> str:
    return str(actor._identity.actor_id)


def settled() -> None:
    """Let everything be sent that this process has dropped."""
    runtime.current().calls.flush()
    runtime.current().calls.settle()


# -- the last handle -------------------------------------------------------------------------


def test_queued_calls_of_a_dropped_handle_run_then_the_actor_ends_well(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    journal = tmp_path / "journal"
    actor = Mortal.remote(str(journal))
    held = actor.wait_at.remote(gate.path)
    refs = [actor.write.remote(str(number)) for number in range(50)]
    name = id_of(actor)

    del actor
    settled()

    assert living(cluster) == {name}
    gate.open()
    assert ca.get([held, *refs], timeout=20) == ["passed", *map(str, range(50))]
    wait_ended(cluster, name)
    assert words(journal) == [*map(str, range(50)), "shutdown"]


def test_a_call_on_a_handle_that_is_dropped_at_once_gets_its_result(cluster: Cluster):
    pid = ca.get(Mortal.remote().pid.remote(), timeout=20)

    wait_until(lambda: not is_alive(pid), "its process has ended")


def test_a_bound_method_keeps_its_actor_alive(cluster: Cluster):
    ask = Mortal.remote().pid
    pid = ca.get(ask.remote(), timeout=20)
    settled()

    assert ca.get(ask.options(name="again").remote(), timeout=10) == pid
    del ask
    wait_until(lambda: not is_alive(pid), "its process has ended")


def test_the_last_of_several_handles_counts(cluster: Cluster):
    first = Mortal.remote()
    second = pickle.loads(pickle.dumps(first))
    pid = ca.get(first.pid.remote(), timeout=20)
    del first
    settled()

    assert ca.get(second.pid.remote(), timeout=10) == pid


def test_atexit_runs_when_the_last_handle_is_gone(cluster: Cluster, tmp_path: Path):
    journal = tmp_path / "journal"

    @ca.remote
    class Careful:
        def __init__(self, path: str) -> None:
            import atexit

            atexit.register(lambda: Path(path).write_text("exit"))

        def pid(self) -> int:
            return os.getpid()

    pid = ca.get(Careful.remote(str(journal)).pid.remote(), timeout=20)
    wait_until(lambda: not is_alive(pid), "its process has ended")
    assert words(journal) == ["exit"]


@pytest.mark.parametrize("restarts", [0, -1])
def test_a_dropped_actor_is_not_restarted(cluster: Cluster, restarts: int, tmp_path: Path):
    journal = tmp_path / "journal"
    actor = Mortal.options(max_restarts=restarts, max_task_retries=-1).remote(str(journal))
    name, pid = id_of(actor), ca.get(actor.pid.remote(), timeout=20)

    del actor

    wait_ended(cluster, name)
    wait_until(lambda: not is_alive(pid), "its process has ended")
    assert words(journal) == ["shutdown"]


def test_a_dropped_actor_whose_process_is_killed_ends_after_its_restart(
    cluster: Cluster, gate: Gate
):
    actor = Mortal.options(max_restarts=1).remote()
    name, pid = id_of(actor), ca.get(actor.pid.remote(), timeout=20)
    waiting = actor.wait_at.remote(gate.path)
    after = actor.pid.remote()
    gate.wait_reached()
    del actor
    settled()

    os.kill(pid, signal.SIGKILL)

    with pytest.raises(ca.RayActorError):
        ca.get(waiting, timeout=10)
    assert ca.get(after, timeout=20) != pid
    wait_ended(cluster, name)


def test_an_actor_that_is_dropped_before_it_lives_ends(cluster: Cluster):
    name = id_of(Mortal.remote())

    wait_ended(cluster, name)


def test_an_async_actor_finishes_what_overlaps_before_it_ends(cluster: Cluster, gate: Gate):
    @ca.remote
    class Slow:
        async def wait_at(self, gate: str) -> str:
            return await asyncio.to_thread(pass_gate, gate)

    actor = Slow.remote()
    name = id_of(actor)
    refs = [actor.wait_at.remote(gate.path) for _ in range(5)]
    del actor
    settled()
    assert living(cluster) == {name}

    gate.open()

    assert ca.get(refs, timeout=20) == ["passed"] * 5
    wait_ended(cluster, name)


def test_a_threaded_actor_ends_with_its_last_handle(cluster: Cluster):
    actor = Mortal.options(max_concurrency=4).remote()
    name = id_of(actor)
    refs = [actor.pid.remote() for _ in range(20)]

    del actor

    assert len(set(ca.get(refs, timeout=20))) == 1
    wait_ended(cluster, name)


def test_calls_that_wait_for_an_argument_run_before_the_actor_ends(cluster: Cluster, gate: Gate):
    helper, actor = Mortal.remote(), Mortal.remote()
    late = helper.wait_at.remote(gate.path)
    name = id_of(actor)
    kept = actor.keep.remote(late)
    after = actor.give.remote()
    del actor, late
    settled()

    gate.open()

    assert ca.get([kept, after], timeout=20) == [None, "passed"]
    wait_ended(cluster, name)


# -- where handles are -----------------------------------------------------------------------


def test_a_handle_in_a_waiting_call_keeps_its_actor_alive(cluster: Cluster, gate: Gate):
    busy, actor = Mortal.remote(), Mortal.remote()
    waiting = busy.wait_at.remote(gate.path)
    kept = busy.keep.remote([actor])
    name = id_of(actor)
    del actor
    settled()
    assert name in living(cluster)

    gate.open()

    ca.get([waiting, kept], timeout=20)
    (actor,) = ca.get(busy.give.remote(), timeout=10)
    assert ca.get(actor.pid.remote(), timeout=10)
    ca.get(busy.forget.remote(), timeout=10)
    assert name in living(cluster)
    del actor
    wait_ended(cluster, name)


def test_a_handle_in_another_actors_state_keeps_its_actor_alive(cluster: Cluster):
    holder, actor = Mortal.remote(), Mortal.remote()
    name = id_of(actor)
    ca.get(holder.keep.remote(actor), timeout=20)
    del actor
    settled()
    assert ca.get(ca.get(holder.give.remote(), timeout=10).pid.remote(), timeout=10)

    ca.get(holder.forget.remote(), timeout=10)

    wait_ended(cluster, name)


def test_a_handle_among_constructor_arguments_lives_as_long_as_the_actor(cluster: Cluster):
    actor = Mortal.remote()
    holder = Mortal.remote("", actor)
    name = id_of(actor)
    del actor
    settled()
    assert ca.get(ca.get(holder.give.remote(), timeout=20).pid.remote(), timeout=10)
    ca.get(holder.forget.remote(), timeout=10)
    settled()
    assert name in living(cluster), "a restart of its holder would need it"

    del holder

    wait_ended(cluster, name)


def test_a_handle_in_a_result_keeps_its_actor_alive(cluster: Cluster):
    @ca.remote
    def make() -> dict[str, Any]:
        return {"made": Mortal.remote()}

    ref = make.remote()
    ca.wait([ref], timeout=20)
    (name,) = living(cluster)
    settled()
    actor = ca.get(ref, timeout=10)["made"]
    del ref
    settled()
    assert ca.get(actor.pid.remote(), timeout=10)

    del actor

    wait_ended(cluster, name)


def test_an_unread_result_that_is_dropped_lets_go_of_its_handles(cluster: Cluster):
    @ca.remote
    def make() -> Any:
        return Mortal.remote()

    ref = make.remote()
    ca.wait([ref], timeout=20)
    (name,) = living(cluster)

    del ref

    wait_ended(cluster, name)


def test_a_large_result_lets_go_of_its_handles_too(cluster: Cluster):
    @ca.remote
    def make() -> Any:
        return Mortal.remote(), os.urandom(100_000)

    ref = make.remote()
    wait_until(lambda: living(cluster), "the actor is made")
    settled()

    del ref

    wait_empty(lambda: sorted(living(cluster)), "it has ended")


def test_a_put_handle_keeps_its_actor_alive(cluster: Cluster):
    actor = Mortal.remote()
    name, ref = id_of(actor), ca.put({"actor": actor})
    del actor
    settled()
    assert ca.get(ca.get(ref)["actor"].pid.remote(), timeout=20)

    del ref

    wait_ended(cluster, name)


def test_a_handle_in_a_closure_lives_as_long_as_the_driver(cluster: Cluster):
    def asking(actor: Any) -> Any:
        return ca.remote(lambda: ca.get(actor.pid.remote()))

    actor = Mortal.options(name="captured").remote()

    name, ask = id_of(actor), asking(actor)
    pid = ca.get(ask.remote(), timeout=20)
    del actor, ask
    settled()

    assert ca.get(ca.get_actor("captured").pid.remote(), timeout=10) == pid
    assert name in living(cluster)
    ca.kill(ca.get_actor("captured"))


def test_a_pickle_of_ones_own_is_not_counted_but_its_copy_is(cluster: Cluster):
    actor = Mortal.remote()
    name, data = id_of(actor), cloudpickle.dumps(actor)
    copy = cloudpickle.loads(data)
    del actor
    settled()
    assert ca.get(copy.pid.remote(), timeout=20)

    del copy

    wait_ended(cluster, name)


def test_an_actor_with_a_handle_to_itself_does_not_live_for_ever(cluster: Cluster):
    actor = Mortal.remote()
    name = id_of(actor)
    ca.get(actor.keep.remote([actor]), timeout=20)
    (same,) = ca.get(actor.give.remote(), timeout=10)
    assert same == actor

    del actor, same

    wait_ended(cluster, name)


def test_a_handle_in_a_refused_call_is_let_go(cluster: Cluster):
    dead, actor = Mortal.remote(), Mortal.remote()
    name = id_of(actor)
    ca.get(dead.pid.remote(), timeout=20)
    ca.kill(dead)
    with pytest.raises(ca.ActorDiedError):
        ca.get(dead.keep.remote(actor), timeout=10)

    del actor

    wait_ended(cluster, name)


@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_handle_in_a_call_that_never_runs_is_let_go(cluster: Cluster, gate: Gate, end: str):
    busy, actor = Mortal.remote(), Mortal.remote()
    name = id_of(actor)
    waiting = busy.wait_at.remote(gate.path)
    refs = [busy.keep.remote([actor]) for _ in range(3)]
    del actor
    settled()

    if end == "kill":
        ca.kill(busy)
    else:
        for ref in refs:
            ca.cancel(ref)
    gate.open()

    for ref in refs:
        with pytest.raises((ca.TaskCancelledError, ca.ActorDiedError)):
            ca.get(ref, timeout=10)
    del waiting
    wait_ended(cluster, name)


def test_a_handle_in_a_function_whose_worker_is_killed_is_let_go(cluster: Cluster, gate: Gate):
    @ca.remote(max_retries=0)
    def hold(actor: Any, gate: str) -> None:
        pass_gate(gate)

    actor = Mortal.remote()
    name, ref = id_of(actor), hold.remote([actor], gate.path)
    pid = gate.wait_reached()
    del actor
    settled()
    assert name in living(cluster)

    os.kill(pid, signal.SIGKILL)

    with pytest.raises(ca.WorkerCrashedError):
        ca.get(ref, timeout=10)
    wait_ended(cluster, name)


def test_a_handle_in_the_state_of_a_killed_actor_is_let_go(cluster: Cluster):
    holder, actor = Mortal.remote(), Mortal.remote()
    name = id_of(actor)
    ca.get(holder.keep.remote([actor]), timeout=20)
    del actor

    ca.kill(holder)

    wait_ended(cluster, name)


# -- weak, detached, owned -------------------------------------------------------------------


def test_a_handle_found_by_name_does_not_keep_an_actor_alive(cluster: Cluster):
    actor = Mortal.options(name="weak").remote()
    found, same = ca.get_actor("weak"), Mortal.options(name="weak", get_if_exists=True).remote()
    holder = Mortal.remote()
    ca.get(holder.keep.remote([found, same]), timeout=20)
    name = id_of(actor)

    del actor

    wait_ended(cluster, name)
    with pytest.raises(ca.ActorDiedError):
        ca.get(found.pid.remote(), timeout=10)
    with pytest.raises(ValueError, match="weak"):
        ca.get_actor("weak")


def test_a_detached_actor_needs_no_handle(cluster: Cluster):
    actor = Mortal.options(name="kept", lifetime="detached").remote()
    pid = ca.get(actor.pid.remote(), timeout=20)
    ca.get(Mortal.remote().keep.remote([actor]), timeout=20)
    del actor
    settled()

    found = ca.get_actor("kept")
    assert ca.get(found.pid.remote(), timeout=10) == pid
    ca.kill(found)


@pytest.mark.parametrize("how", ["kill", "crash", "drop"])
def test_an_actor_made_by_an_actor_ends_with_it(cluster: Cluster, how: str):
    parent = Mortal.remote()
    child = ca.get(parent.make.remote(), timeout=20)
    pid = ca.get(child.pid.remote(), timeout=10)

    if how == "kill":
        ca.kill(parent)
    elif how == "crash":
        parent.crash.remote()
    else:
        del parent

    with pytest.raises(ca.ActorDiedError, match="actor that created it"):
        wait_until(lambda: ca.get(child.pid.remote(), timeout=10) != pid, "the child is dead")
    wait_until(lambda: not is_alive(pid), "its process has ended")


def test_an_actor_made_by_a_function_lives_as_long_as_its_handle(cluster: Cluster):
    @ca.remote(max_calls=1)
    def make() -> Any:
        return Mortal.remote()

    actor = ca.get(make.remote(), timeout=20)

    assert ca.get(actor.pid.remote(), timeout=10)


# -- names -----------------------------------------------------------------------------------


def test_the_name_of_a_crashed_actor_is_taken_until_its_last_handle_is_gone(cluster: Cluster):
    actor = Mortal.options(name="late").remote()
    with pytest.raises(ca.ActorDiedError):
        ca.get(actor.crash.remote(), timeout=20)
    wait_ended(cluster, id_of(actor))

    with pytest.raises(ValueError, match="late"):
        ca.get_actor("late")
    with pytest.raises(ca.ActorAlreadyExistsError):
        Mortal.options(name="late").remote()

    del actor
    again = wait_until(lambda: _try(Mortal.options(name="late").remote), "the name is free")
    assert ca.get(again.pid.remote(), timeout=20)


def test_kill_frees_the_name_of_an_actor_that_had_crashed(cluster: Cluster):
    actor = Mortal.options(name="fallen").remote()
    with pytest.raises(ca.ActorDiedError):
        ca.get(actor.crash.remote(), timeout=20)
    wait_ended(cluster, id_of(actor))

    ca.kill(actor)

    again = Mortal.options(name="fallen").remote()
    del actor
    settled()
    assert ca.get_actor("fallen") == again


def test_a_crashed_detached_actor_frees_its_name_at_once(cluster: Cluster):
    actor = Mortal.options(name="lone", lifetime="detached").remote()
    with pytest.raises(ca.ActorDiedError):
        ca.get(actor.crash.remote(), timeout=20)
    wait_ended(cluster, id_of(actor))

    again = Mortal.options(name="lone").remote()
    assert ca.get(again.pid.remote(), timeout=20)


def _try(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ca.ActorAlreadyExistsError:
        return None


# -- under load ------------------------------------------------------------------------------


@ca.remote
class Juggler:
    """Passes handles and references on, or drops them."""

    def __init__(self) -> None:
        self.held: list[Any] = []

    def toss(self, things: list[Any], onward: list[Any]) -> list[Any]:
        for thing in things:
            if isinstance(thing, ca.ObjectRef):
                assert ca.get(thing) == [{"kept"}]
            else:
                assert ca.get(thing.number.remote()) >= 0
        self.held = [*self.held, *things][-6:]
        if onward:
            onward[0].toss.remote(self.held[:2], onward[1:])
        return things[:2]

    def forget(self) -> None:
        self.held = []


@ca.remote(num_cpus=0)
class Ball:
    """Is passed around."""

    def __init__(self, number: int) -> None:
        self.value = number

    def number(self) -> int:
        return self.value


@pytest.mark.slow
def test_handles_that_are_passed_around_and_dropped_end_neither_early_nor_never(cluster: Cluster):
    @ca.remote
    def through(things: list[Any], jugglers: list[Any]) -> list[Any]:
        return ca.get(jugglers[0].toss.remote(things, jugglers[1:])) + things

    jugglers = [Juggler.remote() for _ in range(3)]
    balls: list[Any] = [Ball.remote(number) for number in range(6)]
    for turn in range(150):
        things = [balls[turn % 6], ca.put([{"kept"}]), balls[(turn + 1) % 6]]
        order = jugglers[turn % 3 :] + jugglers[: turn % 3]
        refs = [order[0].toss.remote(things, order[1:]), through.remote(things, order)]
        refs += [juggler.toss.remote(things[1:], []) for juggler in jugglers]
        # From here on only what is under way keeps these two alive.
        balls[turn % 6] = things[0] = None
        answers = ca.get(refs, timeout=60)
        ball = answers[0][0]
        assert ball == answers[1][0]
        del answers, refs
        assert ca.get(ball.number.remote(), timeout=30) == turn % 6
        balls[turn % 6] = ball
        del ball, things

    assert ca.get([ball.number.remote() for ball in balls], timeout=30) == list(range(6))
    ca.get([juggler.forget.remote() for juggler in jugglers], timeout=60)
    names = {id_of(actor) for actor in (*balls, *jugglers)}
    del balls, jugglers, order
    wait_ended(cluster, *names)
    with cluster.client() as client:
        wait_empty(lambda: list(client.scan_iter("ca:tok:*", count=1000)), "no value is held", 30)
        ties = [tie for key in client.scan_iter("ca:held:*") for tie in client.smembers(key)]
        assert not [tie for tie in ties if any(name.encode() in tie for name in names)]
