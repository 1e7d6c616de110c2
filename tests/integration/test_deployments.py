"""Actors in a Celery project that exists: its tasks, chains, beat and signals, and ours."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from kombu.exceptions import EncodeError

import celery_actors as ca
from tests.integration.deployments import (
    PROJECT,
    Deployment,
    deployment,
    stock_worker,
    wait_noted,
)
from tests.integration.matrix import celery_settings
from tests.integration.support import ROOT, redis_server, run_script
from tests.waits import wait_until

pytestmark = pytest.mark.own_store("runs over every broker as it is")


@pytest.fixture(scope="module", params=["redis", "valkey", "tls", "sentinel", "rabbitmq"])
def found(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """A deployment that the tests of this module share."""
    with deployment(request.param) as running:
        yield running


@pytest.fixture
def counter(found: Deployment) -> Iterator[Any]:
    """An actor of the project."""
    actor = found.shop.Counter.remote()
    yield actor
    found.shop.actors.kill(actor)


def test_remote_calls_run_on_the_projects_broker(found: Deployment, counter: Any):
    shop = found.shop
    assert shop.actors.get(counter.add.remote(3), timeout=20) == 3
    assert ca.get([counter.add.remote(), shop.square.remote(5)], timeout=20) == [4, 25]
    child = shop.actors.get(counter.child.remote(), timeout=20)
    assert shop.actors.get(child.add.remote(), timeout=20) == 101
    assert shop.actors.context.namespace == "default"
    assert shop.actors.context.app is shop.app


def test_celerys_verbs_call_methods_and_functions(found: Deployment, counter: Any):
    results = [counter.add.delay(2), counter.add.apply_async((3,)), found.shop.square.delay(9)]
    assert [result.get(timeout=20) for result in results] == [2, 5, 81]
    late = counter.add.apply_async(kwargs={"amount": 1}, countdown=0.2)
    assert late.get(timeout=20) == 6
    assert late.state == "SUCCESS"
    gone = counter.add.apply_async((1,), expires=-1)
    with pytest.raises(Exception, match="expired"):
        gone.get(timeout=20)


def test_delay_comes_after_the_calls_made_before_it(counter: Any):
    refs = [counter.add.remote() for _ in range(50)]
    assert counter.add.delay().get(timeout=20) == 51
    assert ca.get(refs, timeout=20) == list(range(1, 51))


def test_chains_pass_values_between_tasks_and_actors(found: Deployment, counter: Any):
    shop = found.shop
    through = chain(shop.add.s(1, 2), counter.add.s(), shop.add.s(10), counter.add.s())
    assert through.apply_async().get(timeout=20) == 16
    assert (counter.add.si(4) | shop.square.s()).apply_async().get(timeout=20) == 400


def test_groups_and_chords_have_actors_on_both_sides(found: Deployment, counter: Any):
    shop = found.shop
    squares = group(shop.square.s(number) for number in range(4))
    assert squares.apply_async().get(timeout=20) == [0, 1, 4, 9]
    assert chord(squares, shop.total.s()).apply_async().get(timeout=20) == 14
    assert shop.square.map([5, 6]).apply_async().get(timeout=20) == [25, 36]
    assert counter.add.starmap([(1,), (2,)]).apply_async().get(timeout=20) == [1, 3]
    sums = [shop.add.s(number, number) for number in range(3)]
    assert chord(sums, counter.describe.s()).apply_async().get(timeout=20) == ["list", [0, 2, 4]]


def test_links_and_errbacks_are_called(found: Deployment, counter: Any):
    shop = found.shop
    fine = counter.add.apply_async((7,), link=counter.describe.s())
    assert fine.get(timeout=20) == 7
    bad = counter.fail.apply_async(("no change",), link_error=shop.on_error.s())
    with pytest.raises(ValueError, match="no change"):
        bad.get(timeout=20)
    wait_noted(found, "errback Counter.fail ValueError('no change')")


def test_a_chain_whose_first_call_fails_fails_as_a_whole(found: Deployment, counter: Any):
    through = chain(counter.fail.s("broken"), found.shop.add.s(1)).apply_async()
    with pytest.raises(ValueError, match="broken"):
        through.get(timeout=20)


def test_celerys_json_types_go_both_ways(counter: Any):
    moment = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert counter.describe.delay(moment).get(timeout=20) == ["datetime", moment]
    name = uuid.uuid4()
    assert counter.describe.delay([name]).get(timeout=20) == ["list", [name]]


def test_what_celery_could_not_keep_is_refused_in_the_caller(counter: Any):
    with pytest.raises(TypeError, match=r"Counter\.add\(\)"):
        counter.add.delay(1, 2, 3)
    with pytest.raises(ValueError, match="one, in order"):
        counter.add.apply_async((1,), priority=9)
    with pytest.raises(ValueError, match=r"ca\.actor"):
        counter.add.apply_async((1,), queue="celery")
    with pytest.raises(ValueError, match="only JSON is read"):
        counter.add.apply_async((1,), serializer="pickle")
    with pytest.raises(EncodeError):
        counter.add.delay(object())
    assert counter.add.delay(0).get(timeout=20) == 0


def test_a_plain_task_calls_an_actor_by_name(found: Deployment):
    till = found.shop.Counter.options(name="till").remote(5)
    assert found.shop.call_till.delay(2).get(timeout=30) == 7
    assert found.shop.actors.get(till.add.remote(), timeout=20) == 8


def test_signals_fire_around_calls_as_around_tasks(found: Deployment, counter: Any):
    counter.describe.delay("seen").get(timeout=20)
    wait_noted(found, "postrun Counter.describe SUCCESS ['str', 'seen']")
    notes = found.notes()
    begun = notes.index("prerun Counter.describe ['seen'] True")
    assert begun < notes.index("postrun Counter.describe SUCCESS ['str', 'seen']")
    with pytest.raises(ValueError, match="told"):
        ca.get(counter.fail.remote("told"), timeout=20)
    wait_noted(found, "postrun Counter.fail FAILURE told")
    assert "failure Counter.fail ValueError('told')" in found.notes()
    assert not [line for line in notes if "__" in line]


def test_a_message_of_a_program_in_another_language_is_run_in_order(found: Deployment):
    actor = found.shop.Counter.options(name="raw").remote()
    found.shop.actors.get(actor.add.remote(0), timeout=20)
    queue = ca.actor_queue("default", "raw")
    ids = [str(uuid.uuid4()) for _ in range(5)]
    with found.server.client() as client:
        for call_id in ids:
            client.lpush(queue, _raw(call_id, queue, [1]))

        def answers() -> list[Any]:
            stored = client.mget([f"celery-task-meta-{call_id}" for call_id in ids])
            return [json.loads(each)["result"] for each in stored if each]

        wait_until(lambda: len(answers()) == 5, "five results", 20)
        assert answers() == [1, 2, 3, 4, 5]
    found.shop.actors.kill(actor)


def _raw(call_id: str, queue: str, args: list[Any]) -> str:
    """Return a protocol-2 message as a producer without Celery would write it."""
    return json.dumps({
        "body": json.dumps([args, {}, {}]), "content-type": "application/json",
        "content-encoding": "utf-8", "headers": {"task": "Counter.add", "id": call_id},
        "properties": {
            "correlation_id": call_id, "delivery_tag": call_id, "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    })  # fmt: skip


def test_beat_calls_a_named_actor(found: Deployment):
    actor = found.shop.Counter.options(name="beaten").remote()
    command = [sys.executable, "-m", "celery", "-A", PROJECT, "beat", "-l", "ERROR",
               "-s", str(found.server.folder / "beat"), "--pidfile="]  # fmt: skip
    variables = {**found.server.environment(), **found.variables}
    with subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.DEVNULL) as beat:
        try:
            wait_until(lambda: found.shop.actors.get(actor.add.remote(0)) >= 3, "three beats", 30)
        finally:
            beat.terminate()
            beat.wait(20)
    found.shop.actors.kill(actor)


def test_a_task_with_a_rate_limit_is_refused_in_words(found: Deployment):
    result = found.shop.limited.apply_async(queue="ca.tasks.cpu1")
    with pytest.raises(Exception, match="rate_limit='1/m'"):
        result.get(timeout=20)


def test_remote_control_on_the_projects_broker_sees_nodes_and_actors(found: Deployment):
    actor = found.shop.Counter.options(name="seen").remote()
    found.shop.actors.get(actor.add.remote(), timeout=20)
    inspect = found.shop.app.control.inspect(timeout=1)

    def names() -> set[str]:
        return {name.partition("@")[0] for name in inspect.ping() or {}}

    wait_until(lambda: {"node", "Counter-seen"} <= names(), "the node and the actor answer", 30)
    queues = inspect.active_queues()["Counter-seen@test"]
    assert [queue["name"] for queue in queues] == [ca.actor_queue("default", "seen")]
    found.shop.actors.kill(actor)


def test_two_deployments_in_one_process_do_not_meet(found: Deployment, counter: Any):
    with redis_server() as server:
        app = Celery("other")
        app.conf.update(celery_settings(server.url))
        with ca.Actors(app, keys=server.key) as other:
            assert other.context.address != found.shop.actors.context.address
            other_ref, own_ref = other.put("theirs"), found.shop.actors.put("ours")
            assert [ca.get(other_ref), ca.get(own_ref)] == ["theirs", "ours"]
            with pytest.raises(ValueError, match="several clusters"):
                ca.get([other_ref, own_ref])
            with pytest.raises(ValueError, match="'till-of-nobody'"):
                other.get_actor("till-of-nobody")
        app.close()
    assert ca.get(counter.add.remote(), timeout=20) == 1


def test_a_stray_worker_on_an_actors_queue_takes_no_other_call_along(found: Deployment):
    """What it takes fails there, as Celery does with a task that it does not know."""
    shop = found.shop
    actor = shop.Counter.options(name="haunted").remote()
    shop.actors.get(actor.add.remote(0), timeout=20)
    queue = ca.actor_queue("default", "haunted")
    settings = json.dumps(celery_settings(found.server.url))
    variables = {**found.server.environment(), "STRAY_SETTINGS": settings}
    with stock_worker("tests.integration.projects.stray", "-Q", queue, variables=variables):

        def outcomes(refs: list[Any]) -> list[Any]:
            found: list[Any] = []
            for ref in refs:
                try:
                    found.append(shop.actors.get(ref, timeout=30))
                except ca.RayError as error:
                    found.append(None if "NotRegistered" in str(error) else error)
            return found

        wait_until(lambda: None in outcomes([actor.add.remote(0) for _ in range(20)]), "a theft")
        before = shop.actors.get(actor.__ray_call__.remote(lambda counter: counter.value))
        answers = outcomes([actor.add.remote(1) for _ in range(200)])
    counted = [answer for answer in answers if answer is not None]
    assert counted == sorted(set(counted)), "in order, none of them twice"
    value = shop.actors.get(actor.__ray_call__.remote(lambda counter: counter.value), timeout=20)
    # A call may have run here and be answered there: Celery stores its failure without a look.
    assert before + len(counted) <= value <= before + 200
    assert shop.actors.get([actor.add.remote(1) for _ in range(20)], timeout=20) == list(
        range(value + 1, value + 21)
    )
    wait_until(lambda: "takes calls off" in found.node.log.read_text(), "the node's warning", 20)
    shop.actors.kill(actor)


def test_a_stock_worker_serves_functions_from_a_shared_queue(tmp_path: Path):
    """There is no node: Celery's own worker runs what callers of ours have sent."""
    with redis_server() as server:
        own = {"SHOP_SETTINGS": json.dumps(celery_settings(server.url)), "SHOP_STOCK": "1"}
        variables = {**server.environment(), **own}
        with stock_worker(PROJECT, "-Q", "ca.tasks.cpu1", variables=variables):
            done = run_script(tmp_path, CALLS_FUNCTIONS, variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [
        "[144, 9]",
        "('stock', (1, 'two'), 100000)",
        "ValueError",
        "",
    ]


CALLS_FUNCTIONS = """
import celery_actors as ca
from tests.integration.projects.shop import actors, square, tell

given = actors.put((1, "two"))
print(ca.get([square.remote(12), square.remote(3)], timeout=60))
print(ca.get(tell.remote(given, list(range(100_000))), timeout=60))
try:
    ca.get(tell.remote(None), timeout=60)
except ValueError as error:
    assert "nothing was given" in str(error)
    print("ValueError")
actors.shutdown()
"""
