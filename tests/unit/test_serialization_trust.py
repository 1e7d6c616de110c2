"""Signed values that were changed, forged, moved, or signed with another key."""

from __future__ import annotations

import base64
import hashlib
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
from celery_actors.serialization import BLOB_BYTES, Sealer
from tests.unit.conftest import RING
from tests.unit.held import Held

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
        sealer.open(raw, context)
    return not unpickled


@pytest.fixture
def trap(sealer: Sealer) -> dict[str, Any]:
    """A signed tripwire with two inline buffers, as decoded JSON."""
    value = (Tripwire(), np.arange(3, dtype=np.int8), np.arange(2, dtype=np.int8))
    raw = sealer.seal(value, CONTEXT, "call-1.0")
    found: dict[str, Any] = json.loads(raw)
    assert len(found["__value__"]["b"]) == 2
    return found


def with_field(trap: dict[str, Any], name: str, data: bytes) -> dict[str, Any]:
    value = {**trap["__value__"], name: base64.b64encode(data).decode()}
    return {**trap, "__value__": value}


def test_the_trap_springs_when_nothing_was_changed(sealer: Sealer, trap: dict[str, Any]) -> None:
    sealer.open(trap, CONTEXT)
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


def test_a_changed_blob_in_the_store_is_refused(sealer: Sealer) -> None:
    held = sealer.buffers = Held()
    value = (Tripwire(), np.zeros(BLOB_BYTES, dtype=np.uint8))
    raw = sealer.seal(value, CONTEXT, "call-1.0")
    for position in (0, BLOB_BYTES // 2, BLOB_BYTES - 1):
        held.blobs["call-1.0"][position] ^= 1
        assert refused(sealer, raw)
        held.blobs["call-1.0"][position] ^= 1
    del held.blobs["call-1.0"][-1]
    assert refused(sealer, raw)


def test_a_changed_pickle_in_shared_memory_is_refused(sealer: Sealer) -> None:
    held = sealer.buffers = Held("node-1")
    raw = sealer.seal([Tripwire(), "x" * BLOB_BYTES], CONTEXT, "call-1.0")
    held.blobs["call-1.0"][7] ^= 1
    assert refused(sealer, raw)


@pytest.mark.parametrize("number", range(4), ids=["id", "size", "node", "digest"])
def test_a_value_that_is_pointed_to_another_blob_is_refused(sealer: Sealer, number: int) -> None:
    held = sealer.buffers = Held("node-1")
    value = (Tripwire(), np.zeros(BLOB_BYTES, dtype=np.uint8))
    other = sealer.seal(np.ones(2 * BLOB_BYTES, dtype=np.uint8), CONTEXT, "call-1.1")
    trap = json.loads(sealer.seal(value, CONTEXT, "call-1.0"))
    assert len(held.blobs) == 2
    blob = [*trap["__value__"]["o"], ""][:4]
    blob[number] = ["call-1.1", 2 * BLOB_BYTES, "node-2", "00"][number]
    trap["__value__"]["o"] = blob
    assert refused(sealer, trap)
    trap["__value__"]["o"] = json.loads(other)["__value__"]["o"]
    assert refused(sealer, trap)


@pytest.mark.parametrize(("field", "forged"), [("s", [1, BLOB_BYTES - 1]), ("n", 1), ("d", "")])
def test_another_order_of_what_is_in_a_blob_is_refused(
    sealer: Sealer, field: str, forged: Any
) -> None:
    sealer.buffers = Held("node-1")
    trap = json.loads(sealer.seal([Tripwire(), "x" * BLOB_BYTES], CONTEXT, "call-1.0"))
    trap["__value__"][field] = forged
    assert refused(sealer, trap)


@pytest.mark.parametrize("field", ["n", "s", "d", "o"])
def test_fields_of_large_values_added_to_a_small_one_are_refused(
    sealer: Sealer, trap: dict[str, Any], field: str
) -> None:
    # Else a buffer, which may hold anything, could be passed off as the pickle.
    first = base64.b64decode(trap["__value__"]["b"][0])
    digest = hashlib.sha256(first).hexdigest()
    added = {"n": 1, "s": [1], "d": digest, "o": ["call-1.0", 3, "", digest]}
    held = sealer.buffers = Held()
    held.blobs["call-1.0"] = bytearray(first)
    assert refused(sealer, {**trap, "__value__": {**trap["__value__"], field: added[field]}})
    assert refused(sealer, {**trap, "__value__": {**trap["__value__"], **added}})


def test_a_value_with_a_blob_is_refused_where_none_may_be(sealer: Sealer) -> None:
    keeping = Sealer(RING, Held())
    value = (Tripwire(), np.zeros(BLOB_BYTES, dtype=np.uint8))
    assert refused(sealer, keeping.seal(value, CONTEXT, "call-1.0"))


def test_bytes_that_travel_alone_are_checked(sealer: Sealer) -> None:
    data = memoryview(b"chunk")
    tag = sealer.tag(("chunk", "0"), data)
    sealer.check_tag(("chunk", "0"), data, tag)
    for context, changed, forged in (
        (("chunk", "1"), data, tag),
        (("chunk", "0"), memoryview(b"chunK"), tag),
        (("chunk", "0"), data, tag[:-1] + ("0" if tag[-1] != "0" else "1")),
        (("chunk", "0"), data, ""),
    ):
        with pytest.raises(UntrustedPayloadError):
            sealer.check_tag(context, changed, forged)


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
    raw = sealer.seal(Tripwire(), CONTEXT, "call-1.0")
    position = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[position] = data.draw(st.integers(0, 255))
    unpickled.clear()
    try:
        sealer.open(bytes(changed), CONTEXT)
    except UntrustedPayloadError:
        assert not unpickled
    else:  # base64 padding and the value's own type name are not part of what is signed
        assert sealer._parse(bytes(changed)) == sealer._parse(raw)


# -- keys ------------------------------------------------------------------------------------


def test_a_ring_signs_with_its_first_key_and_accepts_all() -> None:
    old, both, new = (Sealer(KeyRing(keys)) for keys in ((OLD,), (NEW, OLD), (NEW,)))
    assert both.open(old.seal({1}, CONTEXT, "c"), CONTEXT) == {1}
    assert new.open(both.seal({1}, CONTEXT, "c"), CONTEXT) == {1}


def test_a_key_that_left_the_ring_is_refused_with_the_cure() -> None:
    raw = Sealer(KeyRing((OLD,))).seal(Tripwire(), CONTEXT, "c")
    with pytest.raises(UntrustedPayloadError, match="CELERY_ACTORS_KEYS"):
        Sealer(KeyRing((NEW,))).open(raw, CONTEXT)
    assert not unpickled


def test_the_error_names_the_place_that_the_value_was_read_at(
    sealer: Sealer, trap: dict[str, Any]
) -> None:
    with pytest.raises(UntrustedPayloadError, match=r"actor-2 .*not unpickled"):
        sealer.open(trap, (*CONTEXT[:2], "actor-2", *CONTEXT[3:]))
