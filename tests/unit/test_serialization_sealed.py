"""Signed values there and back, and what cannot be signed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_actors.config import KeyRing
from celery_actors.errors import RayError, SerializationError
from celery_actors.serialization import BLOB_BYTES, Sealer, is_sealed
from tests.unit.conftest import RING
from tests.unit.held import Held

CONTEXT = ("argument", "0", "actor-1", "caller-1", "7", "call-1", "add")


def there_and_back(value: Any, sealer: Sealer) -> Any:
    sealer.buffers = Held()
    return sealer.open(sealer.seal(value, CONTEXT, "call-1.0"), CONTEXT)


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.dictionaries(st.integers() | st.text(), inner)
        ),
        max_leaves=10,
    )
)
def test_any_value_comes_back(value: Any) -> None:
    assert repr(there_and_back(value, Sealer(KeyRing((b"\x01" * 32,))))) == repr(value)


@pytest.mark.parametrize("as_bytes", [True, False], ids=["json", "decoded json"])
def test_a_signed_value_is_json_that_says_what_it_is(sealer: Sealer, as_bytes: bool) -> None:
    raw = sealer.seal({1, 2}, CONTEXT, "call-1.0")
    decoded = json.loads(raw)
    assert is_sealed(decoded)
    assert sealer.open(raw if as_bytes else decoded, CONTEXT) == {1, 2}


def test_a_function_of_this_file_comes_back(sealer: Sealer) -> None:
    assert there_and_back(lambda x: x + 1, sealer)(1) == 2


def test_an_array_comes_back_through_a_buffer_out_of_band(sealer: Sealer) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    raw = sealer.seal(array, CONTEXT, "call-1.0")
    assert len(json.loads(raw)["__value__"]["b"]) == 1
    found = sealer.open(raw, CONTEXT)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_an_array_that_is_not_contiguous_comes_back(sealer: Sealer) -> None:
    array = np.arange(12).reshape(3, 4)[:, ::2]
    assert np.array_equal(there_and_back(array, sealer), array)


def test_an_empty_array_comes_back(sealer: Sealer) -> None:
    assert there_and_back(np.zeros((0, 3)), sealer).shape == (0, 3)


@pytest.mark.parametrize("size", [BLOB_BYTES // 2, BLOB_BYTES])
def test_a_large_value_travels_beside_the_message(sealer: Sealer, size: int) -> None:
    held = sealer.buffers = Held()
    raw = sealer.seal(np.zeros(size, dtype=np.uint8), CONTEXT, "call-1.0")
    blobs = sealer.blobs(raw)
    assert [blob.id for blob in blobs] == list(held.blobs) == ["call-1.0"] * (size // BLOB_BYTES)
    assert all(blob.size == size for blob in blobs)
    sealer.buffers.free(blobs)
    assert not held.blobs


def test_many_small_buffers_travel_beside_the_message_together(sealer: Sealer) -> None:
    held = sealer.buffers = Held()
    value = [np.full(1000, number, dtype=np.uint8) for number in range(200)]
    raw = sealer.seal(value, CONTEXT, "call-1.0")
    assert len(held.blobs) == 1
    assert np.array_equal(sealer.open(raw, CONTEXT), value)


def test_code_stays_inline_however_large(sealer: Sealer) -> None:
    held = sealer.buffers = Held()
    value = b"x" * BLOB_BYTES
    raw = sealer.seal(value, CONTEXT, "code", inline=True)
    assert not held.blobs
    assert Sealer(RING).open(raw, CONTEXT) == value


def test_arrays_from_beside_the_message_are_read_only_and_aligned(sealer: Sealer) -> None:
    value = [np.ones(7, dtype=np.uint8), np.ones(BLOB_BYTES), "x" * BLOB_BYTES]
    sealer.buffers = Held("node-1")
    raw = sealer.seal(value, CONTEXT, "call-1.0")
    found = sealer.open(raw, CONTEXT)
    [whole] = map(np.frombuffer, sealer.buffers.blobs.values())
    for array in found[:2]:
        assert not array.flags.writeable
        assert (array.ctypes.data - whole.ctypes.data) % 64 == 0


LARGE_OCTETS = [b"\x00\xff" * BLOB_BYTES, bytearray(b"ab" * BLOB_BYTES)]


@pytest.mark.parametrize("value", [
    *LARGE_OCTETS, LARGE_OCTETS, tuple(LARGE_OCTETS), {"a": LARGE_OCTETS[0], "b": b"small"},
    [[LARGE_OCTETS]], [LARGE_OCTETS[0], np.ones(BLOB_BYTES).tolist()], "x" * BLOB_BYTES,
    {"a": ["y" * 100] * BLOB_BYTES},
], ids=["bytes", "bytearray", "list", "tuple", "dict", "deep", "and floats", "str", "words",
])  # fmt: skip
@pytest.mark.parametrize("node", ["", "node-1"])
def test_large_values_that_are_no_arrays_travel_beside_the_message(
    sealer: Sealer, value: Any, node: str
) -> None:
    sealer.buffers = Held(node)
    raw = sealer.seal(value, CONTEXT, "call-1.0")
    assert len(raw) < BLOB_BYTES
    found = sealer.open(raw, CONTEXT)
    assert type(found) is type(value)
    assert found == value


def test_a_large_bytes_object_that_comes_twice_is_one_object_again(sealer: Sealer) -> None:
    held = sealer.buffers = Held()
    data = bytes(BLOB_BYTES)
    raw = sealer.seal([data, bytearray(BLOB_BYTES), data], CONTEXT, "call-1.0")
    assert len(held.blobs["call-1.0"]) == 2 * BLOB_BYTES
    first, other, second = sealer.open(raw, CONTEXT)
    assert first is second
    assert other == data


def test_small_and_large_buffers_come_back_in_their_places(sealer: Sealer) -> None:
    value = [np.full(size, size % 251, dtype=np.uint8) for size in (3, BLOB_BYTES, 5, 2**20, 0)]
    found = there_and_back(value, sealer)
    assert all(np.array_equal(one, other) for one, other in zip(found, value, strict=True))


# -- what cannot be pickled ------------------------------------------------------------------


class Model:
    def __init__(self) -> None:
        self.name = "m"
        self.lock = threading.Lock()


class Grumpy:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("not today")


def closure() -> Callable[[], object]:
    lock = threading.Lock()
    return lambda: lock


def closure_with_an_empty_cell() -> Callable[[], object]:
    lock = threading.Lock()

    def use() -> object:
        return lock, later

    if lock.locked():
        later = 1
    return use


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), r"argument 0 \(lock\)"),
        ([1, threading.Lock()], r"argument 0\[1\] \(lock\)"),
        ({"a": {"b": (threading.Lock(),)}}, r"argument 0\['a'\]\['b'\]\[0\] \(lock\)"),
        (Model(), r"argument 0\.lock \(lock\)"),
        ([Model()], r"argument 0\[0\]\.lock \(lock\)"),
        (closure(), r"argument 0 closure variable 'lock' \(lock\)"),
        (closure_with_an_empty_cell(), r"argument 0"),
        ({"x": Grumpy()}, r"argument 0\['x'\] \(Grumpy\) cannot be pickled: not today"),
        ((number for number in range(3)), r"argument 0 \(generator\)"),
    ],
    ids=["alone", "list", "nested", "attribute", "attribute in a list", "closure", "empty cell",
         "own reduce", "generator"],
)  # fmt: skip
def test_the_error_names_the_path_to_what_cannot_be_pickled(
    sealer: Sealer, value: Any, path: str
) -> None:
    with pytest.raises(SerializationError, match=f"^{path}"):
        sealer.seal(value, CONTEXT, "c", "argument 0")


def test_a_value_that_holds_itself_is_not_searched_for_ever(sealer: Sealer) -> None:
    value: list[Any] = [threading.Lock()]
    value.insert(0, value)
    with pytest.raises(SerializationError, match="cannot be pickled") as caught:
        sealer.seal(value, CONTEXT, "c", "argument 0")
    assert isinstance(caught.value, RayError)
