"""Options: where they are given, which wins, and what a wrong one says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, double
from tests.integration.support import Cluster, run_script


def needs(cluster: Cluster, actor: Any) -> str:
    """Return the label of what an actor's record says that it needs."""
    identity = actor._identity
    with cluster.client() as client:
        found = client.hget(f"ca:{{{identity.queue}}}:{identity.actor_id}:m", "need")
    assert found is not None
    return found.decode()


def test_options_of_a_call_win_over_those_of_the_decorator(cluster: Cluster):
    @ca.remote(num_cpus=1, resources={"nowhere": 1})
    class Stuck:
        def here(self) -> bool:
            return True

    free = Stuck.options(num_cpus=0, resources=None).remote()

    assert ca.get(free.here.remote(), timeout=10)
    assert needs(cluster, free) == needs(cluster, Counter.remote())


def test_options_do_not_change_what_they_are_taken_from(cluster: Cluster):
    named = Counter.options(name="once")
    first = named.remote()

    assert ca.get(Counter.remote().add.remote(), timeout=10) == 1
    with pytest.raises(ca.ActorAlreadyExistsError):
        named.remote()
    assert ca.get(first.add.remote(), timeout=10) == 1


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: Counter.options(max_retries=1), "Invalid option keyword max_retries for actors"),
        (lambda: double.options(max_restarts=1), "Invalid option keyword max_restarts for remote"),
        (lambda: Counter.options(name=""), "name must not be empty"),
        (lambda: Counter.options(namespace=""), "namespace must not be empty"),
        (lambda: Counter.options(get_if_exists=True), "needs a name"),
        (lambda: Counter.options(lifetime="long"), "'detached' or 'non_detached'"),
        (lambda: Counter.options(max_restarts=-2), "max_restarts must be -1"),
        (lambda: Counter.options(max_concurrency=0), "max_concurrency must be at least 1"),
        (lambda: Counter.options(num_gpus=1.5), "num_gpus above 1 must be whole"),
        (lambda: Counter.options(resources={"CPU": 1}), "use num_cpus="),
        (lambda: Counter.options(placement_group="pg"), "made by placement_group"),
        (lambda: Counter.options(tensor_transport="nccl"), "is not offered yet"),
        (lambda: Counter.options(gpu_ids=[3]), "say which"),
        (lambda: double.options(label_selector={"zone": "in()"}), "is no condition"),
        (lambda: double.options(scheduling_strategy="TIGHT"), "'DEFAULT' or 'SPREAD'"),
        (lambda: double.options(max_calls=1), "max_calls belongs to the function"),
        (lambda: double.options(num_returns=-1), "num_returns must not be negative"),
        (lambda: double.options(num_returns="streaming"), "for generator functions"),
        (lambda: double.options(memory=-1), "memory must not be negative"),
    ],
)
def test_an_impossible_option_is_a_value_error_in_the_caller(use: Callable[[], Any], words: str):
    with pytest.raises(ValueError, match=words):
        use()


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: Counter.options(name=3), "name must be a string, not int"),
        (lambda: Counter.options(num_cpus="1"), "num_cpus must be a number, not str"),
        (lambda: Counter.options(max_restarts="1"), "max_restarts must be an integer, not str"),
        (lambda: Counter.options(resources=["a"]), "resources must be a mapping, not list"),
        (lambda: double.options(retry_exceptions=3), "True, False or a list of exception types"),
        (lambda: double.options(retry_exceptions=[3]), "exception types only, and it holds 3"),
        (lambda: ca.get_actor(3), "an actor's name is a string, not int"),  # type: ignore[arg-type]
    ],
)
def test_an_option_of_the_wrong_type_is_a_type_error_in_the_caller(
    use: Callable[[], Any], words: str
):
    with pytest.raises(TypeError, match=words):
        use()


def test_a_methods_options_are_checked_where_they_are_given(cluster: Cluster):
    counter = Counter.remote()

    assert ca.get(counter.add.options(name="first").remote(2), timeout=10) == 2
    with pytest.raises(ValueError, match="Invalid option keyword num_cpus for methods"):
        counter.add.options(num_cpus=1)
    with pytest.raises(ValueError, match="no concurrency group 'io'"):
        counter.add.options(concurrency_group="io")


def test_a_decorator_of_methods_takes_its_own_options_only():
    with pytest.raises(ValueError, match="Invalid option keyword cpus for methods"):
        ca.method(cpus=1)
    with pytest.raises(ValueError, match="belong to one call"):
        ca.method(countdown=1)
    with pytest.raises(TypeError, match="without parentheses"):
        ca.method()


BEFORE_INIT = """
import celery_actors as ray

@ray.remote(num_cpus=0)
class Counter:
    def __init__(self, value):
        self.value = value

    def add(self, by):
        self.value += by
        return self.value

@ray.remote
def square(x):
    return x * x

Named = Counter.options(name="early")
{first}
counter = Named.remote(1)
print(ray.get([counter.add.remote(square.remote(3)), counter.add.remote(1)], timeout=20))
print(ray.is_initialized())
"""


@pytest.mark.parametrize("first", ["ray.init(num_cpus=1)", ""], ids=["init", "auto"])
def test_definitions_and_options_come_before_init_or_without_it(tmp_path: Any, first: str):
    run = run_script(tmp_path, BEFORE_INIT.format(first=first))

    assert (run.stdout, run.stderr, run.returncode) == ("[10, 11]\nTrue\n", "", 0)
