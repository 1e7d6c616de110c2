"""What `@remote` makes of classes and functions; nothing here needs a cluster."""

# mypy does not see what a class decorator returns; tests/typing shows what it does see.
# mypy: disable-error-code="attr-defined, no-untyped-call, untyped-decorator"

from __future__ import annotations

import abc
import copy
import functools
import pickle
from typing import Any, Generic, TypeVar

import cloudpickle
import pytest

import celery_actors as ca
from celery_actors.actor import ActorClassInheritanceException
from celery_actors.function import RemoteFunction

T = TypeVar("T")
made: Any = ca.remote


@made
class Counter:
    """Counts."""

    unit = "sheep"

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def add(self, by: int) -> int:
        return self.value + by

    @classmethod
    def of_ten(cls) -> Any:
        return cls(10)

    @staticmethod
    def twice(number: int) -> int:
        return 2 * number


@made
def square(x: int, power: int = 2) -> int:
    """Return a power."""
    return int(x**power)


# -- the decorator ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", [3, "f", None, object(), [square]], ids=lambda target: type(target).__name__
)
def test_only_classes_and_functions_become_remote(target: Any) -> None:
    with pytest.raises(TypeError, match="either a function or a class, not to"):
        made(target)
    with pytest.raises(TypeError, match="either a function or a class, not to"):
        made(num_cpus=1)(target)


def test_empty_parentheses_are_refused() -> None:
    with pytest.raises(TypeError, match=r"without parentheses .* or with named options"):
        made()


def test_a_target_beside_options_is_refused() -> None:
    with pytest.raises(TypeError, match="without parentheses"):
        made(square, num_cpus=1)


@pytest.mark.parametrize("target", [Counter, square], ids=str)
def test_what_is_remote_is_not_made_remote_again(target: Any) -> None:
    with pytest.raises(TypeError, match=r"is remote already: use its \.options\(\)"):
        made(target)


def test_an_unknown_option_is_refused_where_it_is_given() -> None:
    for use in (lambda: made(cpus=1)(object), lambda: Counter.options(cpus=1)):
        with pytest.raises(ValueError, match="Invalid option keyword cpus for actors"):
            use()
    for use in (lambda: made(cpus=1)(len), lambda: square.options(cpus=1)):
        with pytest.raises(ValueError, match="Invalid option keyword cpus for remote functions"):
            use()


def test_options_of_definitions_do_not_belong_to_calls() -> None:
    with pytest.raises(ValueError, match="concurrency_groups belong to the class"):
        Counter.options(concurrency_groups={"io": 1})
    with pytest.raises(ValueError, match="max_calls belongs to the function"):
        square.options(max_calls=1)


def test_options_make_a_copy_and_can_be_chained() -> None:
    narrow = Counter.options(num_cpus=1, name="a").options(num_cpus=2)
    assert (narrow._options.num_cpus, narrow._options.name) == (2, "a")
    assert Counter._options.num_cpus is None
    assert narrow.options(resources={"ssd": 1}).options(resources=None)._options.resources is None


@pytest.mark.parametrize("function", [len, lambda x: x, "".join, functools.partial(pow, 2)])
def test_any_function_becomes_remote(function: Any) -> None:
    assert isinstance(made(function), RemoteFunction)


def test_a_parametrised_class_stands_for_its_class() -> None:
    class Box(Generic[T]): ...

    assert made(Box[int]).__name__ == "Box"


# -- what comes out --------------------------------------------------------------------------


def test_an_actor_class_cannot_be_called() -> None:
    with pytest.raises(TypeError, match=r"Instead of 'Counter\(\)', use 'Counter\.remote\(\)'"):
        Counter()


def test_a_remote_function_cannot_be_called() -> None:
    with pytest.raises(TypeError, match=r"Instead of 'square\(\)', use 'square\.remote\(\)'"):
        square(2)


def test_inheriting_from_an_actor_class_is_refused_in_words() -> None:
    with pytest.raises(
        ActorClassInheritanceException,
        match=r"^Inheriting from actor classes is not currently supported\..*Counter",
    ):

        class Sub(Counter): ...

    assert issubclass(ActorClassInheritanceException, TypeError)


def test_class_attributes_and_functions_stay_reachable_and_local() -> None:
    assert Counter.unit == "sheep"
    assert Counter.twice(4) == 8
    local = Counter.of_ten()
    assert local.add(1) == 11
    assert type(local).__name__ == "Counter"


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        Counter.nothing  # noqa: B018 - looking is the test


def test_names_and_documentation_are_those_of_the_original() -> None:
    assert (Counter.__name__, Counter.__doc__, Counter.__module__) == (
        "Counter", "Counts.", __name__,
    )  # fmt: skip
    assert (square.__name__, square.__doc__) == ("square", "Return a power.")


def test_representations_name_what_they_stand_for() -> None:
    assert (repr(Counter), repr(square)) == ("ActorClass(Counter)", "RemoteFunction(square)")


def test_dir_of_an_actor_class_shows_the_class_and_what_remote_adds() -> None:
    shown = {name for name in dir(Counter) if not name.startswith("_")}
    assert shown == {"unit", "add", "of_ten", "twice", "options", "remote"}


def test_the_modules_are_reachable_as_in_ray() -> None:
    assert isinstance(Counter, ca.actor.ActorClass)
    assert isinstance(square, ca.remote_function.RemoteFunction)
    assert ca.actor.ActorHandle is ca.ActorHandle
    assert ca.actor.exit_actor is ca.exit_actor
    assert ca.exceptions.RayActorError is ca.RayActorError


def test_type_parameters_can_be_written_at_run_time() -> None:
    for generic in (ca.ActorClass, ca.ActorHandle, ca.ObjectRef):
        assert generic[int].__origin__ is generic


def test_typing_costs_a_call_nothing() -> None:
    for owner, name in [(RemoteFunction, "remote"), (ca.ActorClass, "remote"),
                        (ca.ActorHandle, "call")]:  # fmt: skip
        assert vars(owner)[name].__code__.co_name == name


# -- calls that do not fit -------------------------------------------------------------------


def test_wrong_arguments_of_a_constructor_are_refused_before_a_cluster_is_needed() -> None:
    with pytest.raises(TypeError, match=r"^Counter\(\): too many .* signature is \(value=…\)"):
        Counter.remote(1, 2)
    with pytest.raises(TypeError, match=r"^Counter\(\): got an unexpected keyword argument 'by'"):
        Counter._remote(kwargs={"by": 1})


def test_an_abstract_class_is_refused_in_the_caller() -> None:
    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self) -> float: ...

    with pytest.raises(TypeError, match=r"abstract class Shape .*area"):
        made(Shape).remote()


# -- pickling --------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [Counter, square], ids=str)
def test_what_a_module_holds_travels_by_name(thing: Any) -> None:
    data = pickle.dumps(thing)
    assert len(data) < 200
    assert pickle.loads(data) is thing


@pytest.mark.parametrize("thing", [Counter, square], ids=str)
def test_what_has_other_options_travels_whole(thing: Any) -> None:
    changed = thing.options(num_cpus=3)
    again = pickle.loads(cloudpickle.dumps(changed))
    assert again is not thing
    assert again._options == changed._options
    assert repr(again) == repr(thing)


def test_a_class_that_names_itself_arrives_with_its_methods() -> None:
    def make() -> Any:
        @made
        class Node:
            def __init__(self, depth: int = 3) -> None:
                self.depth = depth

            def child(self) -> Any:
                return Node

        return Node

    again = pickle.loads(cloudpickle.dumps(make()))
    inner = again.__celery_actors_wrapped__().child()
    assert inner is again
    assert "child" in inner._traits.methods
    inner._init.check("Node()", (), {})


def test_a_function_that_names_itself_arrives_with_its_defaults() -> None:
    def make() -> Any:
        @made
        def count(down: int, step: int = 1) -> Any:
            return count

        return count

    function = make().__celery_actors_wrapped__
    inner = pickle.loads(cloudpickle.dumps(function))(1)
    assert inner._bounds == (1, 2)


def test_a_copy_is_another_object_with_the_same_options() -> None:
    changed = Counter.options(num_cpus=3)
    assert copy.copy(changed)._options == changed._options
