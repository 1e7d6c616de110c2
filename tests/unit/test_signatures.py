from __future__ import annotations

import enum
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from celery_actors.methods import class_methods
from celery_actors.signatures import Signature


def of(function: Callable[..., Any]) -> Signature:
    return Signature.of(function, skip_first=False)


def none() -> None: ...
def two(a: int, b: int) -> None: ...
def default(a: int, b: int = 2) -> None: ...
def variable(a: int, *rest: int) -> None: ...
def keywords(a: int, **named: int) -> None: ...
def keyword_only(a: int, *, b: int) -> None: ...
def keyword_default(a: int, *, b: int = 2) -> None: ...
def positional_only(a: int, /, b: int) -> None: ...


MANY = 1_000_000


@pytest.mark.parametrize(
    ("function", "bounds"),
    [
        (none, (0, 0)),
        (two, (2, 2)),
        (default, (1, 2)),
        (variable, (1, MANY)),
        (keywords, (1, 1)),
        (keyword_default, (1, 1)),
        (positional_only, (2, 2)),
    ],
)
def test_bounds_are_the_fewest_and_the_most_positional_arguments(
    function: Callable[..., Any], bounds: tuple[int, int]
) -> None:
    least, most = of(function).positional_bounds()
    assert (least, min(most, MANY)) == bounds


def test_no_number_of_positional_arguments_stands_for_a_required_keyword() -> None:
    least, most = of(keyword_only).positional_bounds()
    assert least > most


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (none, (1,), {}),
        (none, (), {"a": 1}),
        (two, (1,), {}),
        (two, (1, 2, 3), {}),
        (two, (1,), {"a": 2}),
        (default, (), {}),
        (default, (1,), {"c": 2}),
        (variable, (), {}),
        (keywords, (), {"b": 1}),
        (keyword_only, (1,), {}),
        (keyword_only, (1, 2), {}),
        (positional_only, (), {"a": 1, "b": 2}),
        (two, (1, 2), {}),
        (default, (1,), {}),
        (default, (1,), {"b": 3}),
        (variable, (1, 2, 3), {}),
        (keywords, (1,), {"x": 2, "y": 3}),
        (keyword_only, (1,), {"b": 2}),
        (keyword_default, (1,), {}),
        (positional_only, (1,), {"b": 2}),
    ],
)
def test_arguments_are_checked_as_python_checks_them(
    function: Callable[..., Any], args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    try:
        function(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError, match=r"^Counter\.add\(\): .*Its signature is \("):
            of(function).check("Counter.add()", args, kwargs)
    else:
        of(function).check("Counter.add()", args, kwargs)


def test_the_error_names_what_is_missing() -> None:
    with pytest.raises(TypeError, match=r"add: missing a required argument: 'b'.*\(a, b\)"):
        of(two).check("add", (1,), {})


def test_a_signature_pickles_whatever_the_defaults_and_annotations_are() -> None:
    def awkward(a: threading.Lock, b: Any = threading.Lock()) -> None: ...  # noqa: B008 - the point

    signature = of(awkward)
    assert pickle.loads(pickle.dumps(signature)) == signature


def test_a_function_built_in_without_a_signature_takes_anything() -> None:
    signature = of(iter)
    assert signature.parameters is None
    signature.check("iter", (1, 2, 3), {"a": 1})
    assert signature.positional_bounds()[0] == 0


class Counter:
    limit = 3

    def __init__(self, start: int) -> None: ...

    def add(self, by: int, *, twice: bool = False) -> None: ...

    async def later(self, by: int) -> None: ...

    def anything(*args: int, **kwargs: int) -> None: ...

    @classmethod
    def build(cls, start: int) -> None: ...

    @staticmethod
    def help_text(word: str) -> None: ...

    @property
    def value(self) -> int:
        raise AssertionError("a handle does not read properties")

    def _inner(self) -> None: ...

    def __len__(self) -> int:
        return 0

    class Part: ...


class Child(Counter):
    def add(self, by: int) -> None: ...  # type: ignore[override] # a child may narrow

    def more(self) -> None: ...


def test_a_handle_can_call_the_functions_of_a_class() -> None:
    assert set(class_methods(Counter)) == {
        "add", "later", "anything", "build", "help_text", "_inner", "__len__",
    }  # fmt: skip


def test_a_child_class_inherits_and_overrides() -> None:
    methods = class_methods(Child)
    assert set(methods) == {*class_methods(Counter), "more"}
    assert methods["add"].signature.parameters == (("by", 1, False),)


@pytest.mark.parametrize("name", ["add", "later", "build", "help_text"])
def test_the_first_parameter_is_left_out_where_python_fills_it(name: str) -> None:
    assert class_methods(Counter)[name].signature.positional_bounds() == (1, 1)


def test_a_method_that_takes_self_among_all_arguments_takes_any_number() -> None:
    class_methods(Counter)["anything"].signature.check("anything", (1, 2), {"a": 1})


def test_a_metaclass_cannot_hide_methods() -> None:
    class Colour(enum.Enum):
        RED = 1

        def shout(self) -> str:
            return self.name

    assert "shout" in class_methods(Colour)


def test_a_default_stays_at_home_and_shows_as_dots() -> None:
    with pytest.raises(TypeError, match=r"signature is \(a, b=…\)$"):
        of(default).check("f()", (), {})


def test_methods_of_a_builtin_base_can_be_called() -> None:
    class Table(dict[str, int]): ...

    class_methods(Table)["get"].signature.check("Table.get", ("a", 1), {})
