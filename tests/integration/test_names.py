"""Named actors: found, shared, given again."""

from __future__ import annotations

import pytest

import celery_actors as ca
from tests.integration.actors import Caller, Counter
from tests.integration.support import Cluster


def test_a_named_actor_is_found_by_its_name(cluster: Cluster):
    made = Counter.options(name="found").remote(4)

    found = ca.get_actor("found")

    assert found == made
    assert ca.get(found.add.remote(), timeout=10) == 5


def test_a_named_actor_is_found_from_inside_a_task(cluster: Cluster):
    _held = Counter.options(name="inside").remote(1)

    @ca.remote
    def use() -> int:
        return ca.get(ca.get_actor("inside").add.remote(10))

    assert ca.get(use.remote(), timeout=10) == 11


def test_a_name_is_taken_once_in_a_namespace(cluster: Cluster):
    _held = Counter.options(name="taken").remote()

    with pytest.raises(ca.ActorAlreadyExistsError, match="taken"):
        Counter.options(name="taken").remote()
    other = Counter.options(name="taken", namespace="elsewhere").remote(7)

    assert ca.get(ca.get_actor("taken").add.remote(), timeout=10) == 1
    assert ca.get(ca.get_actor("taken", namespace="elsewhere").add.remote(), timeout=10) == 8
    ca.kill(other)


def test_get_if_exists_gives_everybody_the_same_actor(cluster: Cluster):
    options = Counter.options(name="shared", get_if_exists=True)
    handles = [options.remote(number) for number in (3, 5)]

    assert handles[0] == handles[1]
    assert ca.get([handle.add.remote() for handle in handles], timeout=10) == [4, 5]


def test_a_name_that_nobody_has_is_a_value_error_that_says_where_it_looked(cluster: Cluster):
    with pytest.raises(ValueError, match=f"'nobody'.*'{cluster.context.namespace}'"):
        ca.get_actor("nobody")


def test_a_handle_found_by_name_knows_its_methods(cluster: Cluster):
    _held = Counter.options(name="known").remote()
    found = ca.get_actor("known")

    assert "add" in dir(found)
    with pytest.raises(AttributeError, match=r"Counter.*burn"):
        found.burn.remote()
    with pytest.raises(TypeError, match="add"):
        found.add.remote(1, 2, 3)


def test_names_with_odd_characters_have_queues_of_their_own(cluster: Cluster):
    names = ["a.b", "a/b", "a b", "ä", "a%2Fb", "{a}", "a*"]
    actors = [Counter.options(name=name).remote(number) for number, name in enumerate(names)]

    assert ca.get([actor.add.remote() for actor in actors], timeout=20) == [1, 2, 3, 4, 5, 6, 7]
    space = cluster.context.namespace
    assert len({ca.actor_queue(space, name) for name in names}) == len(names)
    for actor in actors:
        ca.kill(actor)


def test_calls_of_other_processes_reach_the_same_actor(cluster: Cluster):
    counter, caller = Counter.remote(), Caller.remote()

    assert ca.get(caller.call.remote(counter, "add", 3), timeout=10) == 3
    assert ca.get(counter.add.remote(), timeout=10) == 4


def test_processes_that_race_for_a_name_get_one_actor(cluster: Cluster):
    @ca.remote
    class Racer:
        def join(self, name: str) -> object:
            return Counter.options(name=name, get_if_exists=True).remote()

    racers = [Racer.remote() for _ in range(4)]
    ca.get([racer.__ray_ready__.remote() for racer in racers], timeout=20)
    for number in range(5):
        handles = ca.get([racer.join.remote(f"raced-{number}") for racer in racers], timeout=20)
        assert len(set(handles)) == 1
        counts = ca.get([handle.add.remote() for handle in handles], timeout=20)
        assert sorted(counts) == [1, 2, 3, 4]


def test_get_if_exists_ignores_the_arguments_of_a_later_caller(cluster: Cluster):
    options = Counter.options(name="ignored", get_if_exists=True)
    first = options.remote(3)  # held: with its last handle the actor ends, and its name is free

    assert ca.get(options.remote(50).add.remote(), timeout=10) == 4
    assert ca.get(first.add.remote(), timeout=10) == 5
    with pytest.raises(TypeError, match="too many"):
        options.remote(1, 2)


def test_a_name_is_free_again_after_kill(cluster: Cluster):
    options = Counter.options(name="again")
    ca.kill(options.remote(10))

    with pytest.raises(ValueError, match="'again'"):
        ca.get_actor("again")
    assert ca.get(options.remote(1).add.remote(), timeout=10) == 2
