"""Resting actors and reminders outlive nodes and drivers."""

from __future__ import annotations

import time
from pathlib import Path

import celery_actors as ca
from celery_actors import directory, runtime
from tests.integration.support import Server, join, node_on, run_script, wait_until
from tests.integration.test_passive import put_to_rest, wait_forgotten

DRIVER = """
import celery_actors as ca
from celery_actors import directory, runtime
from tests.integration.test_passive import Sleeper, wait_passive

ca.init({url!r})
kept = Sleeper.options(name="kept", lifetime="detached", namespace="all").remote(start=1)
own = Sleeper.options(name="own", namespace="all").remote()
print(ca.get([kept.add.remote(), own.add.remote()]))
wait_passive(kept)
wait_passive(own)
"""


def test_one_outlives_its_node_and_another_ends_with_its_driver(
    server: Server, tmp_path: Path
) -> None:
    with node_on(server, name="first") as node:
        run = run_script(tmp_path, DRIVER.format(url=server.url), server.environment())
        assert run.stdout == "[2, 1]\n", run.stderr
        node.kill()
    with node_on(server, name="second"), join(server, namespace="all"):
        kept = ca.get_actor("kept")
        assert ca.get(kept.add.remote(), timeout=15) == 3
        store = runtime.current().store
        wait_until(lambda: directory.find_named(store, "all", "own") is None, "the other to end")
        put_to_rest(kept)
        ca.kill(kept)
        wait_forgotten(kept._identity)


REMINDING = """
import celery_actors as ca
from tests.integration.test_passive import Sleeper, wait_passive

ca.init({url!r})
kept = Sleeper.options(name="kept", lifetime="detached", namespace="all").remote()
kept.remind("tick", method="add", every=1)
wait_passive(kept)
"""


def test_reminders_go_on_with_the_next_node_and_what_was_missed_counts_as_one(
    server: Server, tmp_path: Path
) -> None:
    with node_on(server, name="first") as node:
        run = run_script(tmp_path, REMINDING.format(url=server.url), server.environment())
        assert run.returncode == 0, run.stderr
        node.kill()
    with join(server, namespace="all"):
        kept = ca.get_actor("kept")
        before = kept.reminders()["tick"]
        # By the clock of this machine, which is the server's: four times and more are missed.
        wait_until(lambda: time.time() > before.due.timestamp() + 4, "four missed times")
        assert kept.reminders()["tick"] == before
        with node_on(server, name="second"):
            after = wait_until(
                lambda: (found := kept.reminders()["tick"]).calls > before.calls and found,
                "the first call of the second node",
            )
            assert kept.forget("tick")
            assert after.due > before.due
            calls = after.calls
            assert calls - before.calls == 1
            assert ca.get(kept.add.remote(0), timeout=15) == calls
            ca.kill(kept)
            wait_forgotten(kept._identity)
