"""Reminders: the cluster itself calls a method, again and again or once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import celery_actors as ca
from celery_actors import runtime
from tests.integration.actors import Counter
from tests.integration.support import Cluster, wait_until
from tests.integration.test_passive import Sleeper, put_to_rest, state_of, wait_passive


@ca.remote
class Clock:
    """Has methods of the names that handles offer."""

    def remind(self, word: str) -> str:
        return f"remind {word}"

    def forget(self) -> str:
        return "forget"

    def reminders(self) -> list[str]:
        return ["reminders"]


@ca.remote(max_restarts=-1)
class Ticker:
    """Writes down what it was reminded of."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, word: str, *, loud: bool = False) -> None:
        self.heard.append([word, loud])

    def told(self) -> list[Any]:
        return self.heard

    def remind_me(self) -> None:
        own: Any = ca.get_runtime_context().current_actor
        own.remind("own", method="hear", after=0, args=["own"])

    def fail(self) -> None:
        raise ValueError("nobody waits for this")

    def words(self) -> Any:
        yield "a"

    def pid(self) -> int:
        return os.getpid()


def calls_of(actor: Any, name: str = "tick") -> Callable[[], int]:
    return lambda: actor.reminders()[name].calls if name in actor.reminders() else 0


def test_a_reminder_comes_again_and_again_until_it_is_forgotten(cluster: Cluster) -> None:
    actor: Any = Ticker.remote()
    actor.remind("tick", method="hear", every=1, after=0, args=["tick"], kwargs={"loud": True})
    shown = actor.reminders()["tick"]
    assert (shown.name, shown.method, shown.every) == ("tick", "hear", 1.0)

    wait_until(lambda: calls_of(actor)() >= 2, "two reminders")

    assert actor.forget("tick")
    heard = ca.get(actor.told.remote(), timeout=15)
    assert heard == [["tick", True]] * len(heard)
    assert len(heard) >= 2
    assert actor.reminders() == {}
    assert not actor.forget("tick")
    ca.kill(actor)


def test_one_for_a_single_call_comes_once(cluster: Cluster) -> None:
    actor: Any = Ticker.remote()
    actor.remind("once", method="hear", after=0, args=["once"])
    wait_until(lambda: not actor.reminders(), "the reminder to be over")
    assert ca.get(actor.told.remote(), timeout=15) == [["once", False]]
    ca.kill(actor)


def test_an_actor_may_remind_itself(cluster: Cluster) -> None:
    actor: Any = Ticker.remote()
    ca.get(actor.remind_me.remote(), timeout=15)
    wait_until(lambda: not actor.reminders(), "the reminder to be over")
    assert ca.get(actor.told.remote(), timeout=15) == [["own", False]]
    ca.kill(actor)


def test_a_resting_actor_is_woken_and_rests_again(cluster: Cluster) -> None:
    actor: Any = Sleeper.remote()
    put_to_rest(actor)
    actor.remind("tick", method="add", after=0, args=[7])
    wait_until(lambda: not actor.reminders(), "the reminder to be over")
    wait_passive(actor)
    assert ca.get(actor.add.remote(0), timeout=15) == 7
    ca.kill(actor)


def test_reminders_go_on_after_a_crash_of_the_process(cluster: Cluster) -> None:
    actor: Any = Ticker.remote()
    actor.remind("tick", method="hear", every=1, args=["tick"])
    os.kill(ca.get(actor.pid.remote(), timeout=15), signal.SIGKILL)
    before = calls_of(actor)()
    wait_until(lambda: calls_of(actor)() > before, "a reminder after the crash")
    assert ca.get(actor.told.remote(), timeout=15)
    ca.kill(actor)


def test_what_a_reminder_raises_is_logged_with_its_name(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    actor: Any = Ticker.remote()
    actor.remind("sour", method="fail", after=0)
    seen: list[str] = []

    def logged() -> bool:
        seen.extend(capfd.readouterr())
        text = "".join(seen)
        return "reminder 'sour'" in text and "nobody waits for this" in text

    if cluster.kind == "valkey":
        wait_until(logged, "the failure in the driver's output")
    wait_until(lambda: not actor.reminders(), "the reminder to be over")
    assert ca.get(actor.told.remote(), timeout=15) == []
    ca.kill(actor)


def test_no_result_of_a_reminder_is_kept(cluster: Cluster) -> None:
    actor: Any = Ticker.remote()
    with cluster.client() as client:
        before = set(client.scan_iter("celery-task-meta-*"))
        actor.remind("once", method="told", after=0)
        wait_until(lambda: not actor.reminders(), "the reminder to be over")
        held = actor.told.remote()
        assert ca.get(held, timeout=15) == []
        results = set(client.scan_iter("celery-task-meta-*")) - before
    assert results <= {f"celery-task-meta-{held.id}".encode()}
    ca.kill(actor)


def test_reminders_end_with_their_actor(cluster: Cluster) -> None:
    actor: Any = Ticker.remote()
    actor.remind("tick", method="hear", every=3600, args=["tick"])
    store, keys = runtime.current().store, actor._identity.keys
    assert store.run("EXISTS", keys.reminders) == 1
    ca.kill(actor)
    wait_until(lambda: state_of(actor) == "DEAD", "the actor to be dead")
    wait_until(lambda: store.run("EXISTS", keys.reminders) == 0, "its reminders to be gone")
    assert store.run("ZSCORE", "ca:reminders", keys.reminder("tick")) is None
    with pytest.raises(ca.ActorDiedError, match="has ended, so it cannot be reminded"):
        actor.remind("tick", method="hear", every=3600, args=["tick"])


def test_a_reminder_that_cannot_work_is_refused_at_once(cluster: Cluster) -> None:
    actor: Any = Ticker.remote()
    with pytest.raises(AttributeError, match="has no attribute 'here'"):
        actor.remind("tick", method="here", every=60)
    with pytest.raises(TypeError, match="word"):
        actor.remind("tick", method="hear", every=60)
    with pytest.raises(TypeError, match="argument 0 of reminder 'tick' is of type set"):
        actor.remind("tick", method="hear", every=60, args=[{1}])
    with pytest.raises(TypeError, match="argument 0 of reminder 'tick' is of type ObjectRef"):
        actor.remind("tick", method="hear", every=60, args=[ca.put("word")])
    with pytest.raises(ValueError, match="gives its values one by one"):
        actor.remind("tick", method="words", every=60)
    assert actor.reminders() == {}
    ca.kill(actor)


def test_a_class_with_methods_of_these_names_keeps_them(cluster: Cluster) -> None:
    actor: Any = Clock.remote()
    found = ca.get(
        [actor.remind.remote("me"), actor.forget.remote(), actor.reminders.remote()], timeout=15
    )
    assert found == ["remind me", "forget", ["reminders"]]
    ca.kill(actor)


def test_any_actor_can_be_reminded_by_its_name(cluster: Cluster) -> None:
    held = Counter.options(name="reminded").remote()
    ca.get_actor("reminded").remind("tick", method="add", after=0, args=[3])
    wait_until(lambda: not held.reminders(), "the reminder to be over")
    assert ca.get(held.seen.remote(), timeout=15) == [3]
    ca.kill(held)
