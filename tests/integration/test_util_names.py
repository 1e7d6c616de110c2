"""list_named_actors: the names that are taken."""

from __future__ import annotations

import os
import signal
import uuid

import celery_actors as ca
from celery_actors.util import get_node_ip_address, list_named_actors
from tests.integration.actors import Counter
from tests.integration.support import Cluster, wait_until


def unique(word: str) -> str:
    return f"{word}-{uuid.uuid4()}"


def test_names_of_this_namespace_are_listed_from_creation_to_death(cluster: Cluster):
    first, second = sorted([unique("a"), unique("b")])
    one, _two = Counter.options(name=second).remote(), Counter.options(name=first).remote()
    Counter.remote()

    assert [name for name in list_named_actors() if name in (first, second)] == [first, second]
    ca.kill(one)
    assert second not in list_named_actors()
    assert first in list_named_actors()


def test_other_namespaces_are_listed_on_request(cluster: Cluster):
    name, space = unique("named"), unique("a space/with %signs")
    other = Counter.options(name=name, namespace=space).remote()
    mine = Counter.options(name=name).remote()

    assert list_named_actors().count(name) == 1
    found = [entry for entry in list_named_actors(all_namespaces=True) if entry["name"] == name]
    assert sorted(found, key=str) == sorted(
        [{"name": name, "namespace": space},
         {"name": name, "namespace": cluster.context.namespace}],
        key=str,
    )  # fmt: skip
    ca.kill(other)
    ca.kill(mine)


def test_an_actor_that_restarts_keeps_its_name(cluster: Cluster):
    name = unique("restarting")
    actor = Counter.options(name=name, max_restarts=-1).remote()
    pid = ca.get(actor.pid.remote(), timeout=10)

    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        assert name in list_named_actors()
        try:
            return ca.get(actor.pid.remote(), timeout=10) != pid
        except ca.ActorUnavailableError:
            return False

    wait_until(is_back, "the actor has restarted")
    ca.kill(actor)
    assert name not in list_named_actors()


def test_a_task_lists_the_names_of_its_driver(cluster: Cluster):
    @ca.remote
    def names() -> list[str]:
        return ca.util.list_named_actors()

    name = unique("seen")
    actor = Counter.options(name=name).remote()

    assert name in ca.get(names.remote(), timeout=10)
    ca.kill(actor)


def test_a_program_learns_the_address_of_its_machine(cluster: Cluster):
    assert get_node_ip_address() == cluster.context.address_info["node_ip_address"]
