from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from celery_actors.need import Need
from celery_actors.options import (
    ActorOptions,
    FunctionOptions,
    MethodOptions,
    actor_options,
    function_options,
    method_options,
)


def of_actor(**given: Any) -> ActorOptions:
    return actor_options(ActorOptions(), given)


def of_function(**given: Any) -> FunctionOptions:
    return function_options(FunctionOptions(), given)


def of_method(**given: Any) -> MethodOptions:
    return method_options(MethodOptions(), given)


def test_defaults_are_rays() -> None:
    assert of_function().max_retries == 3
    assert of_actor().restarts == of_actor().task_retries == 0
    assert of_actor().lifetime is None


def test_an_unknown_option_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Invalid option keyword num_cpu .*'num_cpus'"):
        of_actor(num_cpu=1)


def test_an_actors_option_is_not_a_functions_option() -> None:
    with pytest.raises(ValueError, match="max_restarts"):
        of_function(max_restarts=1)


def test_later_options_win_and_the_base_stays() -> None:
    base = of_actor(num_cpus=1, name="a")
    changed = actor_options(base, {"num_cpus": 2})
    assert (changed.num_cpus, changed.name) == (2, "a")
    assert base.num_cpus == 1


def test_none_gives_the_default_back() -> None:
    base = of_actor(num_gpus=1, resources={"ssd": 1}, lifetime="detached")
    cleared = actor_options(base, {"num_gpus": None, "resources": None, "lifetime": None})
    assert cleared == of_actor()


def test_options_are_frozen() -> None:
    options: Any = of_actor(name="a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.name = "b"


@pytest.mark.parametrize("name", ["num_cpus", "num_gpus"])
@pytest.mark.parametrize("value", ["1", True, [1], 1j])
def test_an_amount_must_be_a_number(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a number"):
        of_actor(**{name: value})


@pytest.mark.parametrize("name", ["num_cpus", "num_gpus"])
def test_an_amount_must_not_be_negative(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must not be negative, got -1"):
        of_actor(**{name: -1})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["num_cpus", "num_gpus"])
def test_an_amount_must_be_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        of_actor(**{name: value})


def test_more_than_one_gpu_must_be_whole() -> None:
    with pytest.raises(ValueError, match=r"num_gpus above 1 must be whole, got 1\.5"):
        of_actor(num_gpus=1.5)


@pytest.mark.parametrize("value", [0, 0.25, 1, 1.0, 2, 2.0])
def test_a_share_of_one_gpu_or_whole_ones_are_fine(value: float) -> None:
    assert of_actor(num_gpus=value).num_gpus == value


@pytest.mark.parametrize(("key", "instead"), [("CPU", "num_cpus="), ("GPU", "num_gpus=")])
def test_cpus_and_gpus_are_not_custom_resources(key: str, instead: str) -> None:
    with pytest.raises(ValueError, match=f"use {instead}"):
        of_actor(resources={key: 1})


def test_resources_must_be_a_mapping() -> None:
    with pytest.raises(TypeError, match="resources must be a mapping, not list"):
        of_actor(resources=[("ssd", 1)])


def test_a_resource_name_must_be_a_string() -> None:
    with pytest.raises(TypeError, match="a key of resources must be a string, not int"):
        of_actor(resources={1: 1})


def test_a_resource_amount_must_be_a_number() -> None:
    with pytest.raises(TypeError, match=r"resources\['ssd'\] must be a number"):
        of_actor(resources={"ssd": "2"})


@pytest.mark.parametrize("name", ["max_restarts", "max_task_retries"])
@pytest.mark.parametrize("value", [1.0, "1", True, None])
def test_a_count_must_be_an_integer(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an integer"):
        of_actor(**{name: value})


def test_a_count_of_minus_one_has_no_limit() -> None:
    assert of_actor(max_restarts=-1).max_restarts == -1
    assert of_function(max_retries=-1).max_retries == -1


def test_a_count_below_minus_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_retries must be -1"):
        of_function(max_retries=-2)


@pytest.mark.parametrize("name", ["name", "namespace"])
def test_a_name_must_be_a_string_with_something_in_it(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a string, not int"):
        of_actor(**{name: 7})
    with pytest.raises(ValueError, match=f"{name} must not be empty"):
        of_actor(**{name: ""})


def test_get_if_exists_needs_a_name() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        of_actor(get_if_exists=True)
    assert of_actor(get_if_exists=True, name="a").get_if_exists


def test_get_if_exists_must_be_a_flag() -> None:
    with pytest.raises(TypeError, match="get_if_exists must be True or False, not int"):
        of_actor(get_if_exists=1, name="a")


def test_a_lifetime_is_one_of_two_words() -> None:
    with pytest.raises(ValueError, match="'detached' or 'non_detached', got 'forever'"):
        of_actor(lifetime="forever")


def test_a_function_needs_one_cpu_unless_told_otherwise() -> None:
    assert of_function().need == Need.of(cpus=1, custom={})
    assert of_function(num_cpus=0).need == Need()
    assert of_function(num_cpus=0.5, resources={"ssd": 2}).need == Need.of(
        cpus=0.5, custom={"ssd": 2}
    )


def test_an_actor_needs_a_cpu_only_beside_another_resource() -> None:
    assert of_actor().need == Need()
    assert of_actor(num_gpus=1).need == Need.of(cpus=1, gpus=1, custom={})
    assert of_actor(num_gpus=1, num_cpus=0).need == Need.of(gpus=1, custom={})


@pytest.mark.parametrize(
    ("options", "given", "error", "words"),
    [
        (of_actor, {"max_concurrency": "4"}, TypeError, "max_concurrency must be an integer"),
        (of_actor, {"max_concurrency": 0}, ValueError, "max_concurrency must be at least 1"),
        (of_actor, {"concurrency_groups": ["io"]}, TypeError, "must be a mapping, not list"),
        (of_actor, {"concurrency_groups": {"io": 0}}, ValueError, r"\['io'\] must be at least 1"),
        (of_actor, {"on_full": "wait"}, ValueError, "must be 'raise' or 'block', got 'wait'"),
        (of_actor, {"lifetime": "forever"}, ValueError, "must be 'detached' or 'non_detached'"),
        (of_actor, {"durable": "all"}, ValueError, "must be True, False, 'state' or 'journal'"),
        (of_function, {"max_calls": -1}, ValueError, "must not be negative, got -1; 0 means"),
        (of_function, {"num_returns": "many"}, ValueError, "a number or 'streaming', got 'many'"),
        (of_function, {"num_returns": 1.5}, TypeError, "num_returns must be an integer"),
        (of_function, {"num_returns": -1}, ValueError, "num_returns must not be negative"),
        (of_function, {"retry_exceptions": "all"}, TypeError, "True, False or a list of exception"),
        (of_function, {"retry_exceptions": [1]}, TypeError, "hold exception types only"),
        (of_function, {"_labels": ["a"]}, TypeError, "_labels must be a mapping, not list"),
        (of_method, {"eta": 12.5}, TypeError, "eta must be a datetime, not float"),
        (of_method, {"timeout": 0}, ValueError, "timeout must be more than 0 seconds"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(
    options: Any, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        options(**given)
