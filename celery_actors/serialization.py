"""Values on the wire: plain JSON where that is exact, signed cloudpickle everywhere else.

A signed value ("sealed") is the JSON object ``{"__type__": "ca", "__value__": {...}}`` with

* ``m``: HMAC-SHA256 over the context, the pickle and every buffer,
* ``k``: four bytes that name the key,
* ``p``: the pickle, base64,
* ``b``: the out-of-band buffers (PEP 574): inline base64, or ``[blob id, bytes]`` for one of
  ``BLOB_BYTES`` or more, which is stored beside the message in raw chunks.

The context says what the value belongs to (kind, actor, caller, sequence, call, method), so a
value moved to another place does not verify. Nothing is unpickled before it has verified.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import math
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from .config import KeyRing
from .errors import SerializationError, UntrustedPayloadError
from .members import members
from .pickling import Pickler, dumps

__all__ = ["BLOB_BYTES", "MARKER", "Blob", "Context", "Sealer", "encode_plain", "is_sealed"]

MARKER = "ca"
#: Buffers from this size travel as chunks beside the message: base64 would add a third, and one
#: Redis string holds 512 MB at most.
BLOB_BYTES = 256 * 1024

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_encode = msgspec.json.Encoder().encode

Context = tuple[str, ...]
Blob = tuple[str, memoryview]
FetchBlob = Callable[[str, int], memoryview]


class _Sealed(msgspec.Struct):
    m: bytes
    k: bytes
    p: bytes
    b: list[bytes | tuple[str, int]] = []


class _SealedObject(msgspec.Struct):
    type_: str = msgspec.field(name="__type__")
    value: _Sealed = msgspec.field(name="__value__")


_decode_sealed = msgspec.json.Decoder(_SealedObject).decode


def _is_plain(value: Any) -> bool:
    """Tell whether JSON gives back exactly this value: same types, nothing lost."""
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return True
    if kind is int:
        return bool(_INT_MIN <= value <= _INT_MAX)
    if kind is float:
        return math.isfinite(value)
    if kind is dict:
        members: Any = value.values()
        whole = "__type__" not in value and all(type(key) is str for key in value)
    else:
        members, whole = value, kind is list
    return bool(whole) and all(map(_is_plain, members))


def encode_plain(value: Any) -> bytes | None:
    """Return ``value`` as JSON, or None where JSON would not give back exactly the same."""
    try:
        return _encode(value) if _is_plain(value) else None
    except (UnicodeEncodeError, RecursionError):  # a lone surrogate; a list that holds itself
        return None


def is_sealed(decoded: Any) -> bool:
    """Tell whether a decoded JSON value is a signed one."""
    return type(decoded) is dict and decoded.get("__type__") == MARKER


class _Pickled(NamedTuple):
    data: bytes
    buffers: list[memoryview]


class Sealer:
    """Signs and opens values with one key ring."""

    def __init__(self, ring: KeyRing) -> None:
        self._keys = {_key_id(key): key for key in ring.keys}
        self._first = ring.keys[0]
        self._first_id = _key_id(self._first)

    def seal(
        self, value: Any, context: Context, blob_prefix: str, describe: str = "the value"
    ) -> tuple[bytes, list[Blob]]:
        """Return the JSON of ``value``, signed for ``context``, and the blobs to store first.

        Raises:
            SerializationError: the value cannot be pickled; says which member.
        """
        pickled = _pickle(value, describe)
        mac = hmac.new(self._first, _frame(context, pickled.data), hashlib.sha256)
        inline: list[bytes | tuple[str, int]] = []
        blobs: list[Blob] = []
        for number, buffer in enumerate(pickled.buffers):
            mac.update(len(buffer).to_bytes(8, "big"))
            mac.update(buffer)
            if len(buffer) < BLOB_BYTES:
                inline.append(bytes(buffer))
            else:
                blob_id = f"{blob_prefix}.{number}"
                inline.append((blob_id, len(buffer)))
                blobs.append((blob_id, buffer))
        sealed = _Sealed(mac.digest(), self._first_id, pickled.data, inline)
        return _encode(_SealedObject(MARKER, sealed)), blobs

    def open(self, raw: bytes | dict[str, Any], context: Context, fetch_blob: FetchBlob) -> Any:
        """Verify and unpickle what ``seal`` made for the same context: JSON, or decoded JSON.

        Raises:
            UntrustedPayloadError: not signed by a known key, changed, or made for another place.
        """
        value = self._parse(raw)
        key = self._keys.get(value.k)
        if key is None:
            raise UntrustedPayloadError(
                f"a value for {_place(context)} is signed with a key that is not in this ring; "
                "give every node and driver the same CELERY_ACTORS_KEYS"
            )
        mac = hmac.new(key, _frame(context, value.p), hashlib.sha256)
        buffers: list[bytes | memoryview] = []
        for item in value.b:
            buffer = item if isinstance(item, bytes) else fetch_blob(*item)
            mac.update(len(buffer).to_bytes(8, "big"))
            mac.update(buffer)
            buffers.append(buffer)
        if not hmac.compare_digest(mac.digest(), value.m):
            raise UntrustedPayloadError(
                f"a value for {_place(context)} does not carry a signature for this place: it was "
                "changed, forged, replayed or moved. It was not unpickled"
            )
        return pickle.loads(value.p, buffers=buffers)

    @staticmethod
    def _parse(raw: bytes | dict[str, Any]) -> _Sealed:
        try:
            if isinstance(raw, dict):
                return msgspec.convert(raw, _SealedObject).value
            return _decode_sealed(raw).value
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UntrustedPayloadError(
                f"a signed value has a shape that was never sent: {error}"
            ) from None

    @staticmethod
    def blob_ids(raw: bytes | dict[str, Any]) -> list[tuple[str, int]]:
        """Return the (blob id, bytes) that a sealed value refers to, without opening it."""
        return [item for item in Sealer._parse(raw).b if not isinstance(item, bytes)]


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"celery_actors key id" + key).digest()[:4]


def _frame(context: Context, data: bytes) -> bytes:
    # Lengths first, so that no two contexts run into the same bytes.
    parts = [part.encode() for part in context]
    lengths = ",".join(str(len(part)) for part in parts)
    return b"%s|%s|%d|%s" % (lengths.encode(), b"".join(parts), len(data), data)


def _place(context: Context) -> str:
    return " ".join(part for part in context if part)


def _pickle(value: Any, describe: str) -> _Pickled:
    buffers: list[pickle.PickleBuffer] = []
    try:
        with io.BytesIO() as file:
            Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
            data = file.getvalue()
        return _Pickled(data, [buffer.raw() for buffer in buffers])
    except Exception as error:  # pickling runs the user's own __reduce__: anything may come out
        path = _offender(value, describe)
        raise SerializationError(f"{path} cannot be pickled: {error}") from error


def _offender(value: Any, path: str, depth: int = 0) -> str:
    """Return the path of the innermost member that fails to pickle."""
    if depth < 6:
        for member in members(value):
            try:
                dumps(member.value)
            except Exception:  # noqa: BLE001 - as in _pickle: anything may come out
                return _offender(member.value, path + member.path, depth + 1)
    return f"{path} ({type(value).__name__})"
