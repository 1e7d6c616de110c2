"""Device queues as Celery's own tools see them: a plain task on a GPU, and who serves what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery

import celery_actors as ca
from tests.integration.devices import Holder
from tests.integration.support import Server, node_on, redis_server, wait_until

pytestmark = pytest.mark.debian_redis

PROJECT = """
import os
from celery import Celery

app = Celery("project")
SEEN = os.environ.get("CUDA_VISIBLE_DEVICES")


@app.task(bind=True)
def where(self, factor):
    return [os.environ["CUDA_VISIBLE_DEVICES"], SEEN, factor * 2, self.request.id, os.getpid()]


@app.task
def fail():
    raise KeyError("no such thing")
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Celery]]:
    """A node that knows a user's app, and that app as its clients have it."""
    with redis_server() as server:
        (server.folder / "project.py").write_text(PROJECT)
        url = server.url.replace("unix://", "redis+socket://")
        with (
            node_on(server, "--num-gpus", "2", "-A", "project", name="one", cpus=4),
            closing(Celery("client", broker=url, backend=url, set_as_current=False)) as app,
        ):
            yield server, app


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
    with ca.init(server.url, keys=server.key):
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
