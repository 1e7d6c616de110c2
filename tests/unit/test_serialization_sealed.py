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
from celery_actors.serialization import BLOB_BYTES, Blob, Sealer, is_sealed

CONTEXT = ("argument", "0", "actor-1", "caller-1", "7", "call-1", "add")


def no_blob(blob_id: str, _size: int) -> memoryview:
    raise AssertionError(f"asked for the blob {blob_id}")


def fetch_from(blobs: list[Blob]) -> Callable[[str, int], memoryview]:
    held = dict(blobs)
    return lambda blob_id, size: held[blob_id][:size]


def there_and_back(value: Any, sealer: Sealer) -> Any:
    raw, blobs = sealer.seal(value, CONTEXT, "call-1.0")
    return sealer.open(raw, CONTEXT, fetch_from(blobs))


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
    raw, _ = sealer.seal({1, 2}, CONTEXT, "call-1.0")
    decoded = json.loads(raw)
    assert is_sealed(decoded)
    assert sealer.open(raw if as_bytes else decoded, CONTEXT, no_blob) == {1, 2}


def test_a_function_of_this_file_comes_back(sealer: Sealer) -> None:
    assert there_and_back(lambda x: x + 1, sealer)(1) == 2


def test_an_array_comes_back_through_a_buffer_out_of_band(sealer: Sealer) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    raw, blobs = sealer.seal(array, CONTEXT, "call-1.0")
    assert len(json.loads(raw)["__value__"]["b"]) == 1
    assert not blobs
    found = sealer.open(raw, CONTEXT, no_blob)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_an_array_that_is_not_contiguous_comes_back(sealer: Sealer) -> None:
    array = np.arange(12).reshape(3, 4)[:, ::2]
    assert np.array_equal(there_and_back(array, sealer), array)


def test_an_empty_array_comes_back(sealer: Sealer) -> None:
    assert there_and_back(np.zeros((0, 3)), sealer).shape == (0, 3)


@pytest.mark.parametrize(("size", "count"), [(BLOB_BYTES - 1, 0), (BLOB_BYTES, 1)])
def test_a_large_buffer_travels_beside_the_message(sealer: Sealer, size: int, count: int) -> None:
    raw, blobs = sealer.seal(np.zeros(size, dtype=np.uint8), CONTEXT, "call-1.0")
    assert len(blobs) == count
    assert sealer.blob_ids(raw) == [("call-1.0.0", size)][:count]
    assert [blob_id for blob_id, _ in blobs] == ["call-1.0.0"][:count]


def test_a_large_buffer_is_not_copied_to_be_signed(sealer: Sealer) -> None:
    array = np.zeros(BLOB_BYTES, dtype=np.uint8)
    raw, blobs = sealer.seal(array, CONTEXT, "call-1.0")
    assert len(raw) < 1000
    assert np.shares_memory(np.frombuffer(blobs[0][1], dtype=np.uint8), array)


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
