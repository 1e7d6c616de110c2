"""Flower on a cluster: workers, calls, metrics, queue lengths, and who may see them."""

from __future__ import annotations

import html
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, Recorder
from tests.integration.flower import LOGIN, Flower, command, needs_broker_page, serving
from tests.integration.gates import Gate
from tests.integration.support import Cluster, Server, running, wait_until

pytestmark = pytest.mark.not_over(
    "rabbitmq", "these start Flower at the store, and events are at the broker"
)

#: Long enough to be seen, short enough to be waited for.
PURGE_SECONDS = 4


@pytest.fixture(scope="module")
def shown() -> Iterator[Cluster]:
    """A cluster with two logical GPUs that tells of every call."""
    with running("valkey", gpus=2, task_events=True) as found:
        yield found


@pytest.fixture(scope="module")
def flower(shown: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """Flower as our command starts it."""
    words = command(shown.address, f"--purge_offline_workers={PURGE_SECONDS}")
    with serving(tmp_path_factory.mktemp("flower"), words) as found:
        yield found


def known(flower: Flower, handle: Any, name: str) -> dict[str, Any]:
    """Wait until Flower has heard of an actor; return its row on the Actors page."""
    ca.get(handle.__ray_ready__.remote(), timeout=10)
    wait_until(lambda: flower.worker(name), "a heartbeat of the actor's worker", 20)
    return wait_until(lambda: flower.actor(name.partition("-")[2]), "the actor on its page")


def task(flower: Flower, ref: Any) -> str:
    """Return Flower's page of a call, once it has heard of its end."""
    path = f"/task/{ref.id}"
    wait_until(lambda: flower.ask(path).status == 200, "the call in Flower")
    wait_until(lambda: re.search("SUCCESS|FAILURE", flower.page(path)), "its end")
    return flower.page(path)


def test_a_call_shows_its_method_short_arguments_and_its_result(flower: Flower) -> None:
    counter = Counter.options(name="short").remote()
    recorder = Recorder.options(name="sealed").remote()
    known(flower, counter, "Counter-short")
    known(flower, recorder, "Recorder-sealed")

    added = counter.add.remote(2)
    named = counter.add.remote(amount=3)
    long = recorder.note.remote("long" * 100, [1, {"a": None}])
    sealed = recorder.note.remote((1, 2), 5)
    answer = recorder.notes_taken.remote()
    ca.get([added, named, long, sealed, answer], timeout=10)

    first = task(flower, added)
    assert "Counter.add" in first
    assert "(2,)" in first
    assert "Counter-short@" in first
    assert "SUCCESS" in first
    assert "{'amount': 3}" in task(flower, named)
    shortened = task(flower, long)
    assert "('longlong" in shortened
    assert "long" * 25 not in shortened
    closed = task(flower, sealed)
    assert "(…, 5)" in closed
    assert "__type__" not in closed
    assert "__type__" not in task(flower, answer)


def test_a_failed_call_shows_its_exception_and_its_traceback(flower: Flower) -> None:
    counter = Counter.options(name="failing").remote()
    known(flower, counter, "Counter-failing")

    bad = counter.fail.remote("no change\nin the till")
    with pytest.raises(ValueError, match="no change"):
        ca.get(bad, timeout=10)

    page = task(flower, bad)
    assert "FAILURE" in page
    assert r"ValueError('no change\nin the till')" in page
    assert "actors.py" in page  # the traceback names the file of the user's code
    assert "in fail" in page
    row = wait_until(
        lambda: (found := flower.actor("failing")) and found["error"] and found, "its last error"
    )
    assert row["error"] == "ValueError: no change"


def test_metrics_count_the_calls_of_each_method(flower: Flower) -> None:
    counter = Counter.options(name="metered").remote()
    worker = known(flower, counter, "Counter-metered")["worker"]
    ca.get([counter.add.remote(1) for _ in range(7)], timeout=10)
    ca.get([counter.seen.remote() for _ in range(3)], timeout=10)

    def counted(method: str) -> float:
        labels = f'task="Counter.{method}",type="task-succeeded",worker="{worker}"'
        return flower.metric(f"flower_events_total{{{labels}}}")

    wait_until(lambda: counted("seen") == 3, "the calls of the method that came last")
    assert counted("add") == 7
    runtimes = f'flower_task_runtime_seconds_count{{task="Counter.add",worker="{worker}"}}'
    assert flower.metric(runtimes) == 7


def test_the_broker_page_shows_how_many_calls_wait_in_an_actors_queue(
    flower: Flower, gate: Gate
) -> None:
    counter = Counter.options(name="crowded").remote()
    row = known(flower, counter, "Counter-crowded")
    refs = [counter.hold.remote(gate.path), *(counter.add.remote(1) for _ in range(4))]
    gate.wait_reached()

    def length() -> int:
        cells = flower.page("/broker").split()
        return int(cells[cells.index(row["queue"]) + 1])

    wait_until(lambda: length() == 5, "four calls beside the one that runs")
    wait_until(
        lambda: (found := flower.actor("crowded")) and found["queued"] == 5, "the same there"
    )
    gate.open()
    ca.get(refs, timeout=10)


def test_a_restarted_actor_keeps_its_row(flower: Flower) -> None:
    counter = Counter.options(name="again", max_restarts=-1).remote()
    before = known(flower, counter, "Counter-again")
    pid = ca.get(counter.pid.remote(), timeout=10)

    os.kill(pid, signal.SIGKILL)
    after = ca.get(counter.pid.remote(), timeout=10)

    def shows(pid: int) -> bool:
        row = flower.worker("Counter-again")  # one row at most, whatever has happened
        return row is not None and row["pid"] == pid and row["status"]

    wait_until(lambda: shows(after), "the same row with the new process", 20)
    row = wait_until(
        lambda: (found := flower.actor("again")) and found["restarts"] == 1 and found,
        "the restart on the Actors page",
    )
    assert (row["id"], row["pid"], row["state"]) == (before["id"], after, "ALIVE")


def test_an_actor_that_ended_goes_offline_and_is_purged(flower: Flower) -> None:
    ended, killed = (Counter.options(name=name).remote() for name in ("ended", "killed"))
    known(flower, ended, "Counter-ended")
    row = known(flower, killed, "Counter-killed")

    def is_offline(name: str) -> bool:
        return (found := flower.worker(name)) is not None and not found["status"]

    ca.kill(killed)
    dead = wait_until(
        lambda: (found := flower.actor("killed")) and found["state"] == "DEAD" and found, "its end"
    )
    assert "kill()" in dead["cause"]
    del ended
    wait_until(lambda: is_offline("Counter-ended"), "one that said good-bye is offline")
    wait_until(lambda: flower.worker("Counter-ended") is None, "its row is gone")
    # The killed one could not say good-bye: its heartbeats, five seconds apart, are missed.
    wait_until(lambda: flower.worker("Counter-killed") is None, "the row of the killed one is gone")
    wait_until(lambda: flower.actor("killed") is None, "it has left the Actors page, too")
    assert flower.ask(f"/actor/{row['id']}/data").json["actor"]["cause"] == dead["cause"]


def test_names_are_text_on_every_page(flower: Flower) -> None:
    name = "<script>alert('x')</script>"
    evil = type("<b>Evil", (), {"go": lambda _self: "<i>gone"})
    actor = ca.remote(evil).options(name=name).remote()
    assert ca.get(actor.go.remote(), timeout=10) == "<i>gone"
    row = wait_until(lambda: flower.actor(name), "the actor on its page")

    pages = [flower.ask(path).text for path in (f"/actor/{row['id']}", "/broker", "/actors")]

    assert not any("<script>alert" in page or "<b>Evil" in page for page in pages)
    assert row["class"] == "<b>Evil"
    assert f"Evil({name})" in html.unescape(pages[0])


def test_devices_and_what_holds_them_are_shown(flower: Flower) -> None:
    model = Counter.options(name="model", num_gpus=1).remote()
    known(flower, model, "Counter-model")

    def on_device() -> Any:
        row = flower.actor("model")
        return row if row is not None and row["devices"] and row["memory"] else None

    row = wait_until(on_device, "its device and its memory")
    assert row["devices"][0].startswith("GPU ")
    assert row["memory"] > 5_000_000
    (node,) = flower.ask("/actors/data").json["nodes"]
    assert node["state"] == "ALIVE"
    assert ["Counter-model"] in [device["holders"] for device in node["devices"]]


def test_without_a_password_other_names_of_this_machine_are_refused(flower: Flower) -> None:
    """A stranger's page could have its name mean 127.0.0.1."""
    assert flower.ask("/actors/data", host="stranger.example").status == 403
    assert flower.ask("/actors/data", host="localhost").status == 200


def test_with_a_password_nothing_is_shown_without_it_and_nothing_can_be_changed(
    shown: Cluster, tmp_path: Path
) -> None:
    counter = Counter.options(name="guarded").remote()
    paths = ("/", "/actors", "/actors/data", "/actor/x", "/actor/x/data", "/broker", "/tasks",
             "/metrics", "/workers?json=1", "/api/workers", "/api/queues/length")  # fmt: skip
    with serving(tmp_path, command(shown.address), login=LOGIN) as flower:
        worker = known(flower, counter, "Counter-guarded")["worker"]
        for login in (None, "eve:guess"):
            assert {path: flower.ask(path, login=login).status for path in paths} == dict.fromkeys(
                paths, 401
            )

        for path in (f"/api/worker/shutdown/{worker}", "/api/task/send-task/Counter.add"):
            assert flower.ask(path, body={}).status == 403, path
        assert flower.ask("/metrics").status == 200
        unknown = flower.ask("/actor/x/data")
        assert (unknown.status, unknown.json) == (
            404,
            {"error": "no actor x is known here any more"},
        )
        assert flower.ask("/actor/x").status == 404
        assert LOGIN.partition(":")[2] not in flower.log.read_text()
    assert ca.get(counter.add.remote(1), timeout=10) == 1


@needs_broker_page
def test_with_control_flower_can_call_an_actor(shown: Cluster, tmp_path: Path) -> None:
    counter = Counter.options(name="called").remote()
    queue = ca.actor_queue(shown.context.namespace, "called")
    with serving(tmp_path, command(shown.address, "--control"), login=LOGIN) as flower:
        sent = flower.ask("/api/task/send-task/Counter.add", body={"args": [5], "queue": queue})

        assert sent.status == 200, sent
        wait_until(lambda: ca.get(counter.seen.remote(), timeout=10) == [5], "the call")
        lengths = flower.ask("/api/queues/length").json["active_queues"]
        assert queue in {each["name"] for each in lengths}


def test_a_flowerconfig_of_ones_own_adds_the_page_below_a_prefix(
    shown: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "flowerconfig.py").write_text(
        "from celery_actors.dashboard import add_actors_page\n"
        f"add_actors_page({shown.address!r})\n"
        "url_prefix = 'watch'\n"
        "address = '127.0.0.1'\n"
        "port = 0\n"
    )
    words = ["celery", "--broker", shown.address, "flower"]
    with serving(tmp_path, words, prefix="/watch") as flower:
        page = flower.ask("/actors").text
        assert '"/watch/actors/data"' in page
        assert '"/watch/actors/static/actors.js"' in page
        assert "arrange" in flower.ask("/actors/static/actors.js").text
        assert flower.ask("/actors/data").json["nodes"]
        assert ">Actors</a>" in flower.ask("/tasks").text


@pytest.mark.debian_redis
def test_a_store_that_is_away_is_said_and_its_return_is_seen(
    server: Server, tmp_path: Path
) -> None:
    with serving(tmp_path, command(server.url)) as flower:
        assert flower.ask("/actors/data").json == {"actors": [], "nodes": []}
        server.kill()

        def away() -> Any:
            answer = flower.ask("/actors/data")
            return answer if answer.status == 503 else None

        answer = wait_until(away, "an answer that the store is away")
        assert "does not answer" in answer.json["error"]
        assert flower.ask("/actors").status == 200  # the page itself needs no store
        server.start_again()
        wait_until(lambda: flower.ask("/actors/data").status == 200, "the store again")
