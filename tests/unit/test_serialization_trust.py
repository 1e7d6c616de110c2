"""Signed values that were changed, forged, moved, or signed with another key."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_actors.config import KeyRing
from celery_actors.errors import UntrustedPayloadError
from celery_actors.serialization import BLOB_BYTES, Blob, Sealer

CONTEXT = ("argument", "0", "actor-1", "caller-1", "7", "call-1", "add")
OLD, NEW = b"\x01" * 32, b"\x02" * 32

unpickled: list[str] = []


def spring(what: str) -> str:
    unpickled.append(what)
    return what


class Tripwire:
    """A value whose unpickling is seen, and which has a buffer out of band."""

    def __reduce__(self) -> tuple[Any, ...]:
        return spring, ("sprung",)


@pytest.fixture(autouse=True)
def nothing_unpickled_yet() -> None:
    unpickled.clear()


def no_blob(blob_id: str, _size: int) -> memoryview:
    raise AssertionError(f"asked for the blob {blob_id}")


def fetch_from(blobs: list[Blob]) -> Callable[[str, int], memoryview]:
    held = dict(blobs)
    return lambda blob_id, size: held[blob_id][:size]


def bits(data: bytes) -> Iterator[bytes]:
    """Yield the data with each bit changed in turn."""
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            yield bytes(changed)


def refused(sealer: Sealer, raw: Any, context: tuple[str, ...] = CONTEXT) -> bool:
    """Tell whether a value is refused without a step of its pickle being run."""
    with pytest.raises(UntrustedPayloadError):
        sealer.open(raw, context, no_blob)
    return not unpickled


@pytest.fixture
def trap(sealer: Sealer) -> dict[str, Any]:
    """A signed tripwire with two inline buffers, as decoded JSON."""
    value = (Tripwire(), np.arange(3, dtype=np.int8), np.arange(2, dtype=np.int8))
    raw, blobs = sealer.seal(value, CONTEXT, "call-1.0")
    assert not blobs
    found: dict[str, Any] = json.loads(raw)
    assert len(found["__value__"]["b"]) == 2
    return found


def with_field(trap: dict[str, Any], name: str, data: bytes) -> dict[str, Any]:
    value = {**trap["__value__"], name: base64.b64encode(data).decode()}
    return {**trap, "__value__": value}


def test_the_trap_springs_when_nothing_was_changed(sealer: Sealer, trap: dict[str, Any]) -> None:
    sealer.open(trap, CONTEXT, no_blob)
    assert unpickled == ["sprung"]


# -- changed, forged, moved ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m", "k", "p"])
def test_every_changed_bit_is_refused(sealer: Sealer, trap: dict[str, Any], name: str) -> None:
    data = base64.b64decode(trap["__value__"][name])
    assert all(refused(sealer, with_field(trap, name, changed)) for changed in bits(data))


@pytest.mark.parametrize("number", [0, 1])
def test_every_changed_bit_of_a_buffer_is_refused(
    sealer: Sealer, trap: dict[str, Any], number: int
) -> None:
    buffers = trap["__value__"]["b"]
    for changed in bits(base64.b64decode(buffers[number])):
        other = [*buffers]
        other[number] = base64.b64encode(changed).decode()
        assert refused(sealer, {**trap, "__value__": {**trap["__value__"], "b": other}})


@pytest.mark.parametrize("position", range(len(CONTEXT)))
def test_every_changed_bit_of_the_context_is_refused(
    sealer: Sealer, trap: dict[str, Any], position: int
) -> None:
    for changed in bits(CONTEXT[position].encode()):
        if changed.isascii():
            place = (*CONTEXT[:position], changed.decode(), *CONTEXT[position + 1 :])
            assert refused(sealer, trap, place)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(CONTEXT[:-1], id="one part less"),
        pytest.param((*CONTEXT, ""), id="one part more"),
        pytest.param((*CONTEXT[:-2], "call-1a", "dd"), id="another border between two parts"),
        pytest.param((*CONTEXT[:-2], CONTEXT[-1], CONTEXT[-2]), id="two parts exchanged"),
        pytest.param((), id="nothing"),
    ],
)
def test_a_value_moved_to_another_place_is_refused(
    sealer: Sealer, trap: dict[str, Any], place: tuple[str, ...]
) -> None:
    assert refused(sealer, trap, place)


@pytest.mark.parametrize(
    "rearrange",
    [
        pytest.param(lambda buffers: buffers[::-1], id="exchanged"),
        pytest.param(lambda buffers: buffers[:1], id="one lost"),
        pytest.param(lambda buffers: [*buffers, buffers[0]], id="one more"),
        pytest.param(lambda buffers: [*buffers, ""], id="an empty one more"),
        pytest.param(lambda _: [], id="none"),
    ],
)
def test_rearranged_buffers_are_refused(
    sealer: Sealer, trap: dict[str, Any], rearrange: Callable[[list[str]], list[str]]
) -> None:
    value = {**trap["__value__"], "b": rearrange(trap["__value__"]["b"])}
    assert refused(sealer, {**trap, "__value__": value})


def test_a_buffer_moved_into_the_pickle_is_refused(sealer: Sealer, trap: dict[str, Any]) -> None:
    # The signature must say where the pickle ends and the buffers begin.
    value = trap["__value__"]
    data = base64.b64decode(value["p"])
    for buffer in map(base64.b64decode, value["b"]):
        data += len(buffer).to_bytes(8, "big") + buffer
    forged = with_field(trap, "p", data)
    forged["__value__"]["b"] = []
    assert refused(sealer, forged)


def test_a_changed_blob_is_refused(sealer: Sealer) -> None:
    value = (Tripwire(), np.zeros(BLOB_BYTES, dtype=np.uint8))
    raw, [(blob_id, data)] = sealer.seal(value, CONTEXT, "call-1.0")
    for position in (0, BLOB_BYTES // 2, BLOB_BYTES - 1):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(UntrustedPayloadError):
            sealer.open(raw, CONTEXT, fetch_from([(blob_id, memoryview(changed))]))
    with pytest.raises(UntrustedPayloadError):
        sealer.open(raw, CONTEXT, fetch_from([(blob_id, data[:-1])]))
    assert not unpickled


def test_an_unsigned_pickle_is_refused(sealer: Sealer, trap: dict[str, Any]) -> None:
    forged = with_field(trap, "p", pickle.dumps(Tripwire()))
    forged["__value__"]["b"] = []
    assert refused(sealer, forged)
    assert refused(sealer, with_field(forged, "m", b""))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"not json", id="not json"),
        pytest.param(b"{}", id="empty"),
        pytest.param(b'{"__type__":"ca","__value__":null}', id="null"),
        pytest.param(b'{"__type__":"ca","__value__":{"m":1}}', id="wrong types"),
        pytest.param(b'{"__type__":"ca","__value__":{"m":"*","k":"","p":""}}', id="not base64"),
        pytest.param(b'{"x":' + b"[" * 100_000, id="very deep"),
        pytest.param({}, id="empty object"),
        pytest.param({"__type__": "ca", "__value__": {"m": "", "k": ""}}, id="no pickle"),
        pytest.param({"__type__": "ca", "__value__": {"m": "", "k": "", "p": "", "b": [1]}},
                     id="number for a buffer"),
    ],
)  # fmt: skip
def test_a_shape_that_was_never_sent_is_refused(sealer: Sealer, raw: Any) -> None:
    assert refused(sealer, raw)


@given(st.data())
def test_a_changed_character_never_springs_the_trap(data: st.DataObject) -> None:
    sealer = Sealer(KeyRing((OLD,)))
    raw, _ = sealer.seal(Tripwire(), CONTEXT, "call-1.0")
    position = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[position] = data.draw(st.integers(0, 255))
    unpickled.clear()
    try:
        sealer.open(bytes(changed), CONTEXT, no_blob)
    except UntrustedPayloadError:
        assert not unpickled
    else:  # base64 padding and the value's own type name are not part of what is signed
        assert sealer._parse(bytes(changed)) == sealer._parse(raw)


# -- keys ------------------------------------------------------------------------------------


def test_a_ring_signs_with_its_first_key_and_accepts_all() -> None:
    old, both, new = (Sealer(KeyRing(keys)) for keys in ((OLD,), (NEW, OLD), (NEW,)))
    assert both.open(old.seal({1}, CONTEXT, "c")[0], CONTEXT, no_blob) == {1}
    assert new.open(both.seal({1}, CONTEXT, "c")[0], CONTEXT, no_blob) == {1}


def test_a_key_that_left_the_ring_is_refused_with_the_cure() -> None:
    raw, _ = Sealer(KeyRing((OLD,))).seal(Tripwire(), CONTEXT, "c")
    with pytest.raises(UntrustedPayloadError, match="CELERY_ACTORS_KEYS"):
        Sealer(KeyRing((NEW,))).open(raw, CONTEXT, no_blob)
    assert not unpickled


def test_the_error_names_the_place_that_the_value_was_read_at(
    sealer: Sealer, trap: dict[str, Any]
) -> None:
    with pytest.raises(UntrustedPayloadError, match=r"actor-2 .*not unpickled"):
        sealer.open(trap, (*CONTEXT[:2], "actor-2", *CONTEXT[3:]), no_blob)
