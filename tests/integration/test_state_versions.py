"""A durable actor whose class has changed: its state is migrated, or refused and kept."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from celery_actors import routing, runtime
from celery_actors.testing import kill_worker
from tests.integration.actors import Counter
from tests.integration.records import record_of, wait_dead
from tests.integration.support import Cluster, wait_until

FIRST = """
    class Account:
        def __init__(self):
            self.pence = 250

        def balance(self):
            return self.pence

        def take(self, held):
            self.held = held
"""
MIGRATED = """
    class Account:
        __state_version__ = 1

        def __migrate__(state, from_version):
            return {"pounds": state["pence"] / 100, "was": from_version}

        def balance(self):
            return [self.pounds, self.was]
"""
WITHOUT_MIGRATION = """
    class Account:
        __state_version__ = 1

        def balance(self):
            return self.pence
"""
BROKEN = """
    class Account:
        def __setstate__(self, state):
            self.pounds = state["pounds"]

        def balance(self):
            return self.pounds
"""

Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Write]:
    """Write the module that workers import the class from; each has a name of its own."""
    name = f"accounts_{abs(hash(request.node.nodeid))}"
    request.node.module_name = name
    sys.path.insert(0, str(tmp_path))

    def change(source: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))

    yield change
    sys.path.remove(str(tmp_path))
    sys.modules.pop(name, None)


@pytest.fixture
def joined(write: Write, cluster: Cluster) -> Iterator[None]:
    """Put the folder of the module on the path that workers get."""
    del write, cluster
    context = runtime.current()
    key = routing.session_key(context.session)
    before = context.store.get(key)
    assert before is not None
    context.store.run("SET", key, json.dumps({**json.loads(before), "path": sys.path}))
    yield
    context.store.run("SET", key, before)


def account(request: pytest.FixtureRequest, write: Write, **options: Any) -> Any:
    write(FIRST)
    importlib.invalidate_caches()
    module = importlib.import_module(request.node.module_name)
    actor = ca.remote(**{"durable": True, **options})(module.Account).remote()
    assert ca.get(actor.balance.remote(), timeout=20) == 250
    return actor


def test_a_state_of_an_older_class_is_migrated_once(
    joined: None, write: Write, request: pytest.FixtureRequest
):
    actor = account(request, write)
    write(MIGRATED)
    kill_worker(actor)
    assert ca.get(actor.balance.remote(), timeout=20) == [2.5, 0]
    kill_worker(actor)
    assert ca.get(actor.balance.remote(), timeout=20) == [2.5, 0]


def test_what_a_migration_leaves_out_is_let_go(
    joined: None, write: Write, request: pytest.FixtureRequest
):
    counter = Counter.remote()
    actor = account(request, write)
    ca.get(actor.take.remote(counter), timeout=20)
    of_counter = record_of(counter)
    del counter
    write(MIGRATED)

    kill_worker(actor)

    assert ca.get(actor.balance.remote(), timeout=20) == [2.5, 0]
    wait_dead(of_counter)


@pytest.mark.parametrize(
    ("source", "why"),
    [(WITHOUT_MIGRATION, "of version 0, its class of 1"), (BROKEN, "cannot be loaded")],
)
def test_a_state_that_cannot_be_taken_is_kept_until_the_class_is_mended(
    joined: None, write: Write, request: pytest.FixtureRequest, source: str, why: str
):
    actor = account(request, write)
    keys, store = record_of(actor).keys, runtime.current().store
    state = store.get(keys.state)
    write(source)
    kill_worker(actor)
    wait_until(lambda: record_of(actor).state == "FROZEN", "the standstill")

    with pytest.raises(ca.exceptions.StateRefusedError, match=f"stands still.*{why}.*untouched"):
        ca.get(actor.balance.remote(), timeout=20)
    assert store.get(keys.state) == state

    write(MIGRATED)
    ca.kill(actor, no_restart=False)
    wait_until(lambda: record_of(actor).state == "ALIVE", "the actor to live again")
    assert ca.get(actor.balance.remote(), timeout=20) == [2.5, 0]


def test_a_journal_of_an_older_class_is_refused(
    joined: None, write: Write, request: pytest.FixtureRequest
):
    actor = account(request, write, durable="journal")
    write(MIGRATED)
    kill_worker(actor)
    wait_until(lambda: record_of(actor).state == "FROZEN", "the standstill")
    with pytest.raises(ca.exceptions.StateRefusedError, match="1 calls in its journal"):
        ca.get(actor.balance.remote(), timeout=20)

    write(FIRST)
    ca.kill(actor, no_restart=False)
    wait_until(lambda: record_of(actor).state == "ALIVE", "the actor to live again")
    assert ca.get(actor.balance.remote(), timeout=20) == 250


def test_a_state_that_somebody_else_wrote_is_not_unpickled(
    joined: None, write: Write, request: pytest.FixtureRequest
):
    actor = account(request, write)
    other = account(request, write)
    store = runtime.current().store
    foreign = store.get(record_of(other).keys.state)
    assert foreign is not None
    store.run("SET", record_of(actor).keys.state, foreign)
    kill_worker(actor)
    wait_until(lambda: record_of(actor).state == "FROZEN", "the standstill")
    with pytest.raises(ca.exceptions.StateRefusedError, match="does not carry a signature"):
        ca.get(actor.balance.remote(), timeout=20)
