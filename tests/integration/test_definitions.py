"""Classes and functions of every making become actors and tasks."""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, double
from tests.integration.support import Cluster

T = TypeVar("T")


def result(ref: Any) -> Any:
    """Return the value of a reference, or of each in a list."""
    return ca.get(ref, timeout=15)


def actor(cls: type) -> Any:
    """Make an actor class, as the decorator does."""
    made: Any = ca.remote(cls)
    return made


# -- classes ---------------------------------------------------------------------------------


class Animal:
    legs = 4

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    def rename(self, name: str) -> str:
        self.name = name
        return self.name

    def speak(self) -> str:
        return f"{self.name} is silent"

    @classmethod
    def kind(cls) -> tuple[str, int]:
        return cls.__name__, cls.legs

    @staticmethod
    def twice(number: int) -> int:
        return 2 * number


class Dog(Animal):
    def __init__(self, name: str, trick: str = "sit") -> None:
        super().__init__(name)
        self.trick = trick

    def speak(self) -> str:
        return f"{super().speak()}, then barks"


def test_methods_are_inherited_overridden_and_reach_their_bases(cluster: Cluster):
    dog = actor(Dog).remote("Rex")

    assert result(dog.speak.remote()) == "Rex is silent, then barks"
    assert result(dog.kind.remote()) == ("Dog", 4)
    assert result(dog.twice.remote(4)) == 8


def test_a_property_works_inside_and_is_no_method_outside(cluster: Cluster):
    dog = actor(Dog).remote("Rex")

    assert result(dog.rename.remote("Max")) == "Max"
    with pytest.raises(AttributeError, match="'Dog' object has no attribute 'name'"):
        dog.name  # noqa: B018 - looking is the test
    with pytest.raises(AttributeError, match="'Dog' object has no attribute 'legs'"):
        dog.legs  # noqa: B018


def test_a_class_method_of_the_actor_class_gives_a_local_object(cluster: Cluster):
    class Farm:
        def __init__(self, size: int) -> None:
            self.size = size

        @classmethod
        def small(cls) -> Farm:
            return cls(1)

    assert actor(Farm).small().size == 1


class Call:
    def __call__(self, number: int) -> int:
        return number + 1

    def __len__(self) -> int:
        return 3

    def _hidden(self) -> str:
        return "found"


def test_special_and_private_methods_are_called_by_name(cluster: Cluster):
    handle = actor(Call).remote()

    assert result([handle.__call__.remote(1), handle.__len__.remote()]) == [2, 3]
    assert result(handle._hidden.remote()) == "found"
    with pytest.raises(TypeError, match="not callable"):
        handle(1)


def test_dir_of_a_handle_is_its_methods_and_those_of_every_actor(cluster: Cluster):
    assert dir(actor(Dog).remote("Rex")) == [
        "__init__", "__ray_call__", "__ray_ready__", "__ray_terminate__",
        "kind", "rename", "speak", "twice",
    ]  # fmt: skip


class Dynamic:
    def __getattr__(self, name: str) -> Callable[[], str]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda: name

    def ask(self) -> str:
        return self.anything()


def test_a_class_may_make_up_its_attributes_inside(cluster: Cluster):
    handle = actor(Dynamic).remote()

    assert result(handle.ask.remote()) == "anything"
    with pytest.raises(AttributeError, match="anything"):
        handle.anything.remote()


class Table(dict[str, int]):
    def total(self) -> int:
        return sum(self.values())


class Shelf(list[int]):
    pass


class Failure(Exception):  # noqa: N818 - what kind of class it is, is the point
    def words(self) -> tuple[Any, ...]:
        return self.args


def test_built_in_classes_can_be_bases(cluster: Cluster):
    table, shelf = actor(Table).remote(a=1, b=2), actor(Shelf).remote([4])

    assert result([table.total.remote(), table.get.remote("b")]) == [3, 2]
    result(shelf.append.remote(5))
    assert result([shelf.pop.remote(), shelf.count.remote(4)]) == [5, 1]
    assert result(actor(Failure).remote("no", 1).words.remote()) == ("no", 1)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2

    def sum(self) -> int:
        return self.x + self.y


class Pair(NamedTuple):
    left: int
    right: int = 5

    def both(self) -> tuple[int, int]:
        return self.left, self.right


class Slots:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1

    def bump(self) -> int:
        self.value += 1
        return self.value


class Colour(enum.Enum):
    RED = 1

    def shout(self) -> str:
        return f"{self.name}!"


class Fresh:
    def __new__(cls, value: int) -> Fresh:
        made = super().__new__(cls)
        made.value = value
        return made

    value: int

    def get(self) -> int:
        return self.value


class Box(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content

    def open(self) -> T:
        return self.content


class IntBox(Box[int]):
    def open(self) -> int:
        return super().open() + 1


class Adding(type):
    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
        return super().__new__(mcs, name, bases, {**body, "added": lambda _self: name})


class Added(metaclass=Adding):
    pass


@pytest.mark.parametrize(
    ("cls", "args", "method", "expected"),
    [
        (Point, (1,), "sum", 3),
        (Pair, (1,), "both", (1, 5)),
        (Slots, (), "bump", 2),
        (Colour, (1,), "shout", "RED!"),
        (Fresh, (7,), "get", 7),
        (Box, ("a",), "open", "a"),
        (Box[str], ("a",), "open", "a"),
        (IntBox, (1,), "open", 2),
        (Added, (), "added", "Added"),
    ],
)
def test_classes_of_every_making_become_actors(
    cluster: Cluster, cls: Any, args: tuple[Any, ...], method: str, expected: Any
):
    assert result(getattr(actor(cls).remote(*args), method).remote()) == expected


def test_a_dataclass_is_checked_in_the_caller(cluster: Cluster):
    with pytest.raises(TypeError, match=r"Point\(\): missing a required argument: 'x'"):
        actor(Point).remote()


def test_an_abstract_class_is_refused_and_its_child_works(cluster: Cluster):
    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self) -> int: ...

        def double_area(self) -> int:
            return 2 * self.area()

    class Square(Shape):
        def area(self) -> int:
            return 4

    with pytest.raises(TypeError, match="abstract"):
        actor(Shape).remote()
    assert result(actor(Square).remote().double_area.remote()) == 8


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return "logged", function(*args, **kwargs)

    return inner


class Decorated:
    @logged
    def one(self, x: int) -> int:
        return x

    two = lambda _self, x: x + 1  # noqa: E731 - people do write this
    three = functools.partialmethod(one, 3)


def test_decorated_methods_keep_their_signature_and_their_decoration(cluster: Cluster):
    handle = actor(Decorated).remote()

    assert result(handle.one.remote(1)) == ("logged", 1)
    assert result([handle.two.remote(1), handle.three.remote()]) == [2, ("logged", 3)]
    with pytest.raises(TypeError, match=r"Decorated\.one\(\): missing a required argument: 'x'"):
        handle.one.remote()


class Parameters:
    def positional(self, a: int, /, b: int) -> tuple[int, int]:
        return a, b

    def keyword(self, *, a: int, b: int = 2) -> tuple[int, int]:
        return a, b

    def anything(self, *args: int, **kwargs: int) -> tuple[Any, Any]:
        return args, kwargs

    def grows(self, item: int, found: list[int] = []) -> list[int]:  # noqa: B006 - the point
        found.append(item)
        return found


def test_parameters_of_every_kind_bind_as_in_python(cluster: Cluster):
    handle = actor(Parameters).remote()

    assert result(handle.positional.remote(1, b=2)) == (1, 2)
    assert result(handle.keyword.remote(a=1)) == (1, 2)
    assert result(handle.anything.remote(1, 2, x=3)) == ((1, 2), {"x": 3})
    assert result([handle.grows.remote(1), handle.grows.remote(2)])[1] == [1, 2]
    for bad in (
        lambda: handle.positional.remote(a=1, b=2),
        lambda: handle.keyword.remote(1),
        lambda: handle.keyword.remote(b=1),
        lambda: handle.anything.remote(self=1),
    ):
        with pytest.raises(TypeError, match=r"positional|keyword|required|self"):
            bad()


def test_a_class_that_names_itself_makes_more_of_itself(cluster: Cluster):
    @ca.remote
    class Node:
        def __init__(self, depth: int, width: int = 1) -> None:
            self.depth = depth
            self.children = [Node.remote(depth - 1) for _ in range(width if depth else 0)]

        def height(self) -> int:
            return 1 + max(result([child.height.remote() for child in self.children]), default=0)

    assert result(Node.remote(2).height.remote()) == 3


# -- functions -------------------------------------------------------------------------------


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    def add(self, number: int) -> int:
        return self.by + number


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (lambda x: x + 1, (1,), 2),
        (functools.partial(pow, 2), (3,), 8),
        (len, ([1, 2],), 2),
        (", ".join, (["a", "b"],), "a, b"),
        (Adder(3).add, (4,), 7),
    ],
)
def test_functions_of_every_making_become_tasks(
    cluster: Cluster, function: Any, args: tuple[Any, ...], expected: Any
):
    assert result(ca.remote(function).remote(*args)) == expected


def test_remote_functions_and_classes_travel_in_arguments_and_containers(cluster: Cluster):
    @ca.remote
    def offset(number: int) -> int:
        return number + 100

    @ca.remote
    def use(function: Any, kit: dict[str, Any]) -> list[Any]:
        made = kit["class"].remote(4)
        return result([function.remote(1), kit["local"].remote(1), made.add.remote()])

    assert result(use.remote(double, {"local": offset, "class": Counter})) == [2, 101, 5]


def test_a_method_of_a_handle_travels_alone(cluster: Cluster):
    @ca.remote
    def use(method: Any) -> Any:
        return result(method.remote(2))

    counter = Counter.remote(1)
    assert result(use.remote(counter.add)) == 3
    assert result(use.remote(counter.add.options(name="later"))) == 5


def test_functions_call_each_other_and_themselves_with_defaults(cluster: Cluster):
    @ca.remote
    def even(number: int, step: int = 1) -> bool:
        return number == 0 or result(odd.remote(number - step))

    @ca.remote
    def odd(number: int, step: int = 1) -> bool:
        return number != 0 and result(even.remote(number - step))

    assert result([even.remote(2), even.remote(1)]) == [True, False]


def test_what_a_function_closes_over_is_taken_when_it_is_first_called(cluster: Cluster):
    settings = {"speed": 1}

    @ca.remote
    def speed() -> int:
        return settings["speed"]

    settings["speed"] = 2
    assert result(speed.remote()) == 2
    settings["speed"] = 3
    assert result(speed.remote()) == 2


def test_a_definition_may_be_replaced_under_the_same_name(cluster: Cluster):
    found = []
    for number in range(3):

        @ca.remote
        def give(value: int = number) -> int:
            return value

        @ca.remote
        class Giver:
            value = number

            def give(self) -> int:
                return self.value

        found.append(result([give.remote(), Giver.remote().give.remote()]))
    assert found == [[0, 0], [1, 1], [2, 2]]


def test_an_actor_defines_and_makes_actors(cluster: Cluster):
    @ca.remote
    class Maker:
        def make(self) -> Any:
            @ca.remote
            class Inner:
                def value(self) -> int:
                    return 3

            self.inner = Inner.remote()
            return self.inner

    maker = Maker.remote()
    assert result(result(maker.make.remote()).value.remote()) == 3


# -- handles ---------------------------------------------------------------------------------


def test_handles_are_equal_by_actor_also_after_a_journey(cluster: Cluster):
    one, other = Counter.remote(), Counter.remote()
    [[again]] = result([ca.put([one])])

    assert again == one
    assert one != other
    assert len({one, again, other}) == 2
    assert {one: "one"}[again] == "one"
    assert one != "one"


def test_a_handle_a_method_and_a_reference_show_what_they_are(cluster: Cluster):
    counter = Counter.remote()
    ref = counter.add.remote()

    assert repr(counter).startswith("Actor(Counter, ")
    assert repr(counter.add) == "ActorMethod(Counter.add)"
    assert repr(ref) == f"ObjectRef({ref.hex()})"


def test_remote_with_lists_of_arguments_works_everywhere(cluster: Cluster):
    counter = Counter._remote(args=[4], kwargs={}, num_cpus=0)

    assert result(counter.add._remote(args=[], kwargs={"amount": 2}, name="named")) == 6
    assert result(double._remote([5])) == 10
    assert result(double._remote(args=(5,), num_cpus=0)) == 10
