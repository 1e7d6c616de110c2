"""Device queues as Celery's own tools see them: a plain task on a GPU, and who serves what."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery, chain, chord, group

import celery_actors as ca
from tests.integration.devices import Holder
from tests.integration.matrix import celery_settings
from tests.integration.support import Server, join, node_on, redis_server, wait_until

pytestmark = pytest.mark.debian_redis

PROJECT = """
import os
from celery import Celery
from celery.exceptions import Ignore, Retry

app = Celery("project")  # it names no broker: what comes after its tasks goes to the cluster's
SEEN = os.environ.get("CUDA_VISIBLE_DEVICES")


@app.task(bind=True)
def where(self, factor):
    return [os.environ["CUDA_VISIBLE_DEVICES"], SEEN, factor * 2, self.request.id, os.getpid()]


@app.task
def fail():
    raise KeyError("no such thing")


@app.task(bind=True)
def retry(self):
    try:
        {}["no such thing"]
    except KeyError as error:
        self.retry(exc=error)


@app.task(autoretry_for=(KeyError,), retry_backoff=True)
def retry_by_itself():
    {}["no such thing"]


@app.task
def raise_retry():
    raise Retry("later")


@app.task(bind=True)
def replace(self):
    self.replace(fail.s())


@app.task
def ignore():
    raise Ignore
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Celery]]:
    """A node that knows a user's app, and that app as its clients have it."""
    with redis_server() as server:
        (server.folder / "project.py").write_text(PROJECT)
        with (
            node_on(server, "--num-gpus", "2", "-A", "project", name="one", cpus=4),
            closing(Celery("client", set_as_current=False)) as app,
        ):
            app.conf.update(celery_settings(server.url))
            yield server, app
            gc.collect()  # an AsyncResult that dies later would look for a store that is gone


def test_a_plain_task_runs_on_a_gpu_worker_with_the_device_set(
    deployment: tuple[Server, Celery],
):
    _, app = deployment

    sent = [
        app.send_task("project.where", args=[factor], queue=ca.gpu_queue(1)) for factor in (1, 2)
    ]
    results = [result.get(timeout=20) for result in sent]

    for result, (variable, at_import, doubled, call_id, _) in zip(sent, results, strict=True):
        assert variable in ("0", "1")
        assert at_import == variable, "the app was imported after the device was set"
        assert call_id == result.id
        assert doubled in (2, 4)
    assert len({pid for *_, pid in results}) == 2, "a process that had a device is not used again"


def test_a_task_that_fails_or_is_unknown_says_so(deployment: tuple[Server, Celery]):
    _, app = deployment

    with pytest.raises(KeyError, match="no such thing"):
        app.send_task("project.fail", queue=ca.gpu_queue(1)).get(timeout=20)
    with pytest.raises(Exception, match=r"project of this node has no task 'project.nowhere'"):
        app.send_task("project.nowhere", queue=ca.gpu_queue(1)).get(timeout=20)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("retry", r"asked for a retry, because of KeyError\('no such thing'\)"),
        ("retry_by_itself", r"asked for a retry, because of KeyError\('no such thing'\)"),
        ("raise_retry", r"asked for a retry.* not offered yet"),
        ("replace", r"asked to be replaced.* not offered yet"),
        ("ignore", r"raised Ignore, which only Celery's own workers understand"),
    ],
)
def test_a_task_that_asks_for_what_is_not_offered_yet_fails_in_words(
    deployment: tuple[Server, Celery], task: str, text: str
):
    _, app = deployment

    sent = app.send_task(f"project.{task}", queue=ca.gpu_queue(1))

    with pytest.raises(Exception, match=rf"project\.{task} {text}"):
        sent.get(timeout=20)


def test_what_is_to_come_after_a_task_is_sent(deployment: tuple[Server, Celery]):
    _, app = deployment
    first, then = (
        app.signature("project.where", args=[factor], queue=ca.gpu_queue(1), immutable=True)
        for factor in (1, 2)
    )

    assert chain(first, then).apply_async().get(timeout=30)[2] == 4
    assert chord([first.clone(), first.clone()], then).apply_async().get(timeout=30)[2] == 4


def test_the_tasks_of_a_plain_group_run(deployment: tuple[Server, Celery]):
    _, app = deployment
    task = app.signature("project.where", queue=ca.gpu_queue(1))

    found = group(task.clone([factor]) for factor in (1, 2)).apply_async().get(timeout=20)

    assert [doubled for _, _, doubled, _, _ in found] == [2, 4]


def queues(app: Celery) -> dict[str, set[str]]:
    """Return the names of the queues that each worker shows."""
    answers = app.control.inspect(timeout=1).active_queues() or {}
    return {worker: {queue["name"] for queue in shown} for worker, shown in answers.items()}


def test_a_node_shows_the_device_queues_that_it_could_serve_now(
    deployment: tuple[Server, Celery],
):
    server, app = deployment
    one, both = ca.gpu_queue(1), ca.gpu_queue(2)
    wait_until(lambda: {one, both} <= queues(app).get("node@one", set()), "both devices are free")
    with join(server):
        actor = Holder.options(name="busy", num_gpus=1, num_cpus=0.1).remote()
        ca.get(actor.pid.remote(), timeout=20)

        def shown() -> dict[str, set[str]] | None:
            found = queues(app)
            changed = both not in found.get("node@one", {both}) and "Holder-busy@one" in found
            return found if changed else None

        found = wait_until(shown, "two devices are not offered any more", 20)
        assert one in found["node@one"]
        assert found["Holder-busy@one"] == {actor._identity.queue}


def test_a_device_type_has_a_queue_of_its_own(tmp_path: Path):
    assert ca.gpu_queue(2, "H100") == "ca.tasks.cpu1-gpu2-is.H100"
    with pytest.raises(ValueError, match="at least 1"):
        ca.gpu_queue(0)


def test_shutdown_by_remote_control_drains_the_node(deployment: tuple[Server, Celery]):
    server, app = deployment
    with node_on(server, "--num-gpus", "1", name="short") as short:
        wait_until(lambda: "node@short" in queues(app), "it can be reached", 20)

        app.control.shutdown(destination=["node@short"])

        assert short.process.wait(20) == 0
