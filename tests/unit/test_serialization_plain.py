"""What travels as plain JSON, and what does not."""

from __future__ import annotations

import json
from collections import OrderedDict
from enum import IntEnum
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.utils.json import loads as kombu_loads

from celery_actors.serialization import encode_plain, is_sealed


class Word(str):
    __slots__ = ()


class Colour(IntEnum):
    RED = 1


def cycle() -> list[Any]:
    held: list[Any] = []
    held.append(held)
    return held


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text().filter(lambda key: key != "__type__"), inner, max_size=5)
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal, of the same types, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)  # -0.0 is not 0.0


@given(PLAIN)
@example(-0.0)
@example(1e22)
@example(5e-324)
@example([2**63 - 1, -(2**63)])
def test_json_gives_a_plain_value_back_to_every_reader(value: Any) -> None:
    encoded = encode_plain(value)
    assert encoded is not None
    assert same(json.loads(encoded), value)
    assert same(msgspec.json.decode(encoded), value)
    assert same(kombu_loads(encoded), value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="NaN"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(float("-inf"), id="minus infinity"),
        pytest.param(2**63, id="more than 64 bits"),
        pytest.param(-(2**63) - 1, id="less than 64 bits"),
        pytest.param((1, 2), id="tuple"),
        pytest.param({1, 2}, id="set"),
        pytest.param(b"x", id="bytes"),
        pytest.param(1j, id="complex"),
        pytest.param(Word("x"), id="subclass of str"),
        pytest.param(Colour.RED, id="subclass of int"),
        pytest.param(OrderedDict(a=1), id="subclass of dict"),
        pytest.param({1: 2}, id="key that is no string"),
        pytest.param({Word("x"): 2}, id="key that is a subclass of str"),
        pytest.param({"__type__": "ca", "__value__": 1}, id="looks like a signed value"),
        pytest.param({"__type__": 1}, id="holds __type__"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param({"\ud800": 1}, id="lone surrogate in a key"),
        pytest.param(cycle(), id="list that holds itself"),
        pytest.param(object(), id="object"),
    ],
)
def test_what_json_would_not_give_back_is_not_plain(value: Any) -> None:
    assert encode_plain(value) is None
    assert encode_plain([value]) is None
    assert encode_plain({"a": {"b": value}}) is None


def test_a_list_nested_too_deep_for_a_reader_is_not_plain() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert encode_plain(value) is None


@pytest.mark.parametrize(
    ("decoded", "sealed"),
    [
        ({"__type__": "ca", "__value__": {}}, True),
        ({"__type__": "ca-ref", "__value__": "x"}, False),
        ({"a": 1}, False),
        (["__type__"], False),
        (None, False),
    ],
)
def test_a_signed_value_is_known_by_its_type(decoded: Any, sealed: bool) -> None:
    assert is_sealed(decoded) is sealed
