"""Values on the wire: plain JSON where that is exact and short, signed cloudpickle elsewhere.

A signed value ("sealed") is the JSON object ``{"__type__": "ca", "__value__": {...}}`` with

* ``m``: HMAC-SHA256 over the context and everything below,
* ``k``: four bytes that name the key,
* ``p``: the pickle, base64,
* ``b``: its out-of-band buffers (PEP 574), base64,
* ``n``: how many of them, from the first, are bytes objects of the value.

A large one keeps its buffers, and a large pickle before them, beside the message:

* ``o``: the ``Blob`` that a ``BufferStore`` made of them, ``s``: their sizes; each begins at a
  multiple of 64 bytes,
* ``d``: the SHA-256 of the pickle, if it is among them; ``p`` is empty then.

The context says what the value belongs to (kind, actor, caller, sequence, call, method), so a
value moved to another place does not verify. Nothing is unpickled before it has verified.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import pickle
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from . import octets
from .config import KeyRing
from .errors import SerializationError, UntrustedPayloadError
from .members import members
from .pickling import dumps
from .unreadable import UNREADABLE

__all__ = [
    "BLOB_BYTES",
    "MARKER",
    "SEALED",
    "SIGNATURE_BYTES",
    "Blob",
    "BufferStore",
    "Context",
    "Sealer",
    "encode_plain",
    "is_sealed",
    "offsets",
]

MARKER = "ca"
#: How every sealed value begins.
SEALED = b'{"__type__":"ca"'
#: What is larger travels beside the message, as in Ray. Base64 would add a third, and one Redis
#: string holds 512 MB at most.
BLOB_BYTES = 100 * 1024
#: Bytes at multiples of which buffers begin: arrays may be read with any vector instruction.
_ALIGN = 64

#: What `Sealer.sign` puts before bytes: 4 bytes that name the key and 32 of the MAC, hexadecimal.
SIGNATURE_BYTES = 72

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_encode = msgspec.json.Encoder().encode

Context = tuple[str, ...]


class Blob(msgspec.Struct, array_like=True, frozen=True):
    """Bytes kept beside the message."""

    id: str
    size: int
    node: str = ""  # the node run whose shared memory holds them; empty: the store itself
    digest: str = ""  # SHA-256 of the whole, where others than this user may write to it


class BufferStore(Protocol):
    """Keeps large buffers beside the messages that refer to them."""

    def keep(self, blob_id: str, parts: Sequence[memoryview]) -> Blob:
        """Store buffers, each where ``offsets`` says.

        Raises:
            ObjectStoreFullError: there is no room for them.
        """

    def fetch(self, blob: Blob) -> memoryview:
        """Return the whole, read-only.

        Raises:
            ObjectLostError: it is gone.
        """

    def free(self, blobs: Sequence[Blob]) -> None:
        """Give blobs up; a second time does nothing."""


class _Sealed(msgspec.Struct, omit_defaults=True):
    m: bytes
    k: bytes
    p: bytes = b""
    b: list[bytes] = []
    n: int = 0
    o: Blob | None = None
    s: list[int] = []
    d: str = ""


class _SealedObject(msgspec.Struct):
    type_: str = msgspec.field(name="__type__")
    value: _Sealed = msgspec.field(name="__value__")


_decode_sealed = msgspec.json.Decoder(_SealedObject).decode


def offsets(sizes: Iterable[int]) -> tuple[list[int], int]:
    """Return where buffers of these sizes begin in one blob, and its size."""
    starts, end = [], 0
    for size in sizes:
        starts.append(-(-end // _ALIGN) * _ALIGN)
        end = starts[-1] + size
    return starts, end


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
    """Return ``value`` as JSON; None if that is long or would not give back exactly the same."""
    try:
        plain = _encode(value) if _is_plain(value) else None
        return plain if plain is None or len(plain) < BLOB_BYTES else None
    except (UnicodeEncodeError, RecursionError):  # a lone surrogate; a list that holds itself
        return None


def is_sealed(decoded: Any) -> bool:
    """Tell whether a decoded JSON value is a signed one."""
    return type(decoded) is dict and decoded.get("__type__") == MARKER


class _Pickled(NamedTuple):
    data: memoryview
    octets: list[memoryview]
    buffers: list[memoryview]


class Sealer:
    """Signs and opens values with one key ring.

    Args:
        ring: the keys.
        buffers: where large buffers go; None: everything is inline.
    """

    def __init__(self, ring: KeyRing, buffers: BufferStore | None = None) -> None:
        self._keys = {_key_id(key): key for key in ring.keys}
        self._first = ring.keys[0]
        self._first_id = _key_id(self._first)
        self.buffers = buffers

    def seal(
        self, value: Any, context: Context, blob_id: str, describe: str = "the value",
        *, inline: bool = False,
    ) -> bytes:  # fmt: skip
        """Return the JSON of ``value``, signed for ``context``; its large buffers are kept.

        Args:
            value: anything that cloudpickle takes.
            context: what it belongs to.
            blob_id: what its buffers are kept under.
            describe: what an error calls it.
            inline: keep no buffer beside it, however large.

        Raises:
            SerializationError: it cannot be pickled; says which member. ObjectStoreFullError:
                there is no room for a buffer.
        """
        pickled = _pickle(value, describe)
        parts = [*pickled.octets, *pickled.buffers]
        sealed = _Sealed(b"", self._first_id, n=len(pickled.octets))
        size = len(pickled.data)
        if self.buffers is None or inline or size + sum(map(len, parts)) < BLOB_BYTES:
            sealed.p = bytes(pickled.data)
            sealed.b = [bytes(part) for part in parts]
        else:
            if size < BLOB_BYTES:
                sealed.p = bytes(pickled.data)
            else:
                sealed.d = _digest(pickled.data)
                parts.insert(0, pickled.data)
            sealed.s = list(map(len, parts))
            sealed.o = self.buffers.keep(blob_id, parts)
        sealed.m = _mac(self._first, context, sealed)
        return _encode(_SealedObject(MARKER, sealed))

    def open(self, raw: bytes | dict[str, Any], context: Context) -> Any:
        """Verify and unpickle what ``seal`` made for the same context: JSON, or decoded JSON.

        Raises:
            UntrustedPayloadError: not signed by a known key, changed, or made for another place.
            ObjectLostError: a buffer of it is gone.
        """
        value = self._parse(raw)
        key = self._keys.get(value.k)
        if key is None:
            raise UntrustedPayloadError(
                f"a value for {_place(context)} is signed with a key that is not in this ring; "
                "give every node and driver the same CELERY_ACTORS_KEYS"
            )
        if not hmac.compare_digest(_mac(key, context, value), value.m):
            raise _changed(context)
        data: bytes | memoryview = value.p
        buffers: list[Any] = value.b if value.o is None else self._outside(value.o, value, context)
        if value.d:
            data = buffers.pop(0)
            if not hmac.compare_digest(_digest(data), value.d):
                raise _changed(context)
        if not value.n:
            return pickle.loads(data, buffers=buffers)
        return octets.Unpickler(data, buffers[: value.n], buffers[value.n :]).load()

    def sign_again(self, value: dict[str, Any], old: Context, new: Context) -> Any:
        """Return a decoded sealed value, signed for another place; it is not unpickled.

        Raises:
            UntrustedPayloadError: it is not signed for the old place.
        """
        sealed = self._parse(value)
        key = self._keys.get(sealed.k)
        if key is None or not hmac.compare_digest(_mac(key, old, sealed), sealed.m):
            raise _changed(old)
        sealed.k = self._first_id
        sealed.m = _mac(self._first, new, sealed)
        return msgspec.json.decode(_encode(_SealedObject(MARKER, sealed)))

    def _outside(self, blob: Blob, value: _Sealed, context: Context) -> list[memoryview]:
        if self.buffers is None:
            raise UntrustedPayloadError(
                f"a value for {_place(context)} refers to the buffer {blob.id}, and values that "
                "are read here never do"
            )
        whole = self.buffers.fetch(blob)
        if blob.digest and not hmac.compare_digest(_digest(whole), blob.digest):
            raise _changed(context)
        starts, _ = offsets(value.s)
        return [whole[start : start + size] for start, size in zip(starts, value.s, strict=True)]

    def tag(self, context: Context, data: memoryview) -> str:
        """Return a signature of bytes that travel by themselves."""
        return self._first_id.hex() + _tag(self._first, context, data)

    def check_tag(self, context: Context, data: memoryview, tag: str) -> None:
        """Compare bytes with their signature.

        Raises:
            UntrustedPayloadError: they do not agree.
        """
        for key_id, key in self._keys.items():
            if tag.startswith(key_id.hex()):
                found = key_id.hex() + _tag(key, context, data)
                if hmac.compare_digest(found.encode(), tag.encode()):
                    return
        raise _changed(context)

    def sign(self, data: bytes, context: Context) -> bytes:
        """Return bytes behind their signature, as ``verified`` reads them."""
        return self.tag(context, memoryview(data)).encode() + data

    def verified(self, stored: bytes, context: Context) -> bytes:
        """Return the bytes that ``sign`` has signed for this context.

        Raises:
            UntrustedPayloadError: these are others.
        """
        signature, data = stored[:SIGNATURE_BYTES], stored[SIGNATURE_BYTES:]
        self.check_tag(context, memoryview(data), signature.decode("ascii", "replace"))
        return data

    @staticmethod
    def _parse(raw: bytes | dict[str, Any]) -> _Sealed:
        try:
            if isinstance(raw, dict):
                return msgspec.convert(raw, _SealedObject).value
            return _decode_sealed(raw).value
        except UNREADABLE as error:
            raise UntrustedPayloadError(
                f"a signed value has a shape that was never sent: {error}"
            ) from None

    @staticmethod
    def blobs(raw: bytes | dict[str, Any]) -> list[Blob]:
        """Return what a sealed value keeps beside itself, without opening it.

        What cannot be read keeps nothing: it is asked when a value goes, and nothing that a
        stranger has written may keep others from going.
        """
        try:
            blob = Sealer._parse(raw).o
        except UntrustedPayloadError:
            return []
        return [] if blob is None else [blob]


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"celery_actors key id" + key).digest()[:4]


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _mac(key: bytes, context: Context, sealed: _Sealed) -> bytes:
    mac = hmac.new(key, _frame(context, sealed.p), hashlib.sha256)
    for buffer in sealed.b:
        mac.update(len(buffer).to_bytes(8, "big"))
        mac.update(buffer)
    if sealed.n or sealed.o is not None or sealed.s or sealed.d:  # a small value has none of them
        mac.update(_encode([sealed.n, sealed.o, sealed.s, sealed.d, len(sealed.b)]))
    return mac.digest()


def _frame(context: Context, data: bytes) -> bytes:
    # Lengths first, so that no two contexts run into the same bytes.
    parts = [part.encode() for part in context]
    lengths = ",".join(str(len(part)) for part in parts)
    return b"%s|%s|%d|%s" % (lengths.encode(), b"".join(parts), len(data), data)


def _tag(key: bytes, context: Context, data: memoryview) -> str:
    mac = hmac.new(key, _frame(context, b""), hashlib.sha256)
    mac.update(b"t")
    mac.update(data)
    return mac.hexdigest()


def _changed(context: Context) -> UntrustedPayloadError:
    return UntrustedPayloadError(
        f"a value for {_place(context)} does not carry a signature for this place: it was "
        "changed, forged, replayed or moved. It was not unpickled"
    )


def _place(context: Context) -> str:
    return " ".join(part for part in context if part)


def _pickle(value: Any, describe: str) -> _Pickled:
    buffers: list[pickle.PickleBuffer] = []
    try:
        data, large = octets.dump(value, buffers, BLOB_BYTES)
        return _Pickled(data, large, [buffer.raw() for buffer in buffers])
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
