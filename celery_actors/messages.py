"""One call as a Celery protocol-2 message in the shape that kombu's Redis transport stores.

The body stays a plain JSON string (kombu decodes base64 only where ``body_encoding`` says so),
which saves a third of its size and a copy on each side. What is ours travels in one header,
``ca``; every other field is Celery's own, so any Celery tool can read the queue.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from .errors import DeadLetterError, UntrustedPayloadError
from .unreadable import UNREADABLE

__all__ = [
    "STREAMING",
    "CallOptions",
    "CallTag",
    "Envelope",
    "Lineage",
    "Message",
    "MessageTemplate",
    "Meta",
    "call_id_of",
    "decode_body",
    "headers_of",
    "lineage_of",
    "outline",
]

_encode = msgspec.json.Encoder().encode
_EMBED = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'
_EMPTY_BODY = b'"[[],{},' + _EMBED.replace(b'"', b'\\"') + b']"'


#: ``CallOptions.returns`` of a call whose values are fetched one by one.
STREAMING = -1


class CallOptions(msgspec.Struct, omit_defaults=True, frozen=True):
    """What a call asks for beyond the plain case; absent from the message of a plain call.

    ``retry_on`` names exception types by the content hashes of their code; None: as the method
    says. ``reminder``: the one that the call comes from; then nobody waits for its result.
    """

    returns: int = msgspec.field(name="n", default=1)
    retry_on: bool | list[str] | None = msgspec.field(name="x", default=None)
    group: str = msgspec.field(name="g", default="")
    backpressure: int = msgspec.field(name="b", default=0)
    name: str = msgspec.field(name="t", default="")
    max_calls: int = msgspec.field(name="m", default=0)
    reminder: str = msgspec.field(name="r", default="")


PLAIN = CallOptions()


class CallTag(msgspec.Struct, array_like=True, frozen=True):
    """What celery_actors adds to a message: header ``ca``, a JSON array."""

    caller: str = ""
    sequence: int = 0
    job: str = ""
    code: str = ""  # content hash of the function; empty for methods
    max_retries: int = 0
    options: CallOptions | None = None
    carried: list[str] = []  # ties (see `tokens`): what the arguments keep alive


class Headers(msgspec.Struct, omit_defaults=False):
    """The protocol-2 headers that a worker reads."""

    task: str = ""
    id: str = ""
    retries: int = 0
    expires: str | None = None
    eta: str | None = None
    timelimit: tuple[float | None, float | None] = (None, None)  # hard, soft: seconds
    ignore_result: bool | None = False
    ca: CallTag | None = None


class Lineage(NamedTuple):
    """Where a call comes from: the call that began it all, and the one that made it; "": none."""

    root_id: str
    parent_id: str


class Properties(msgspec.Struct):
    """The message properties that a worker reads."""

    body_encoding: str | None = None


class Envelope(msgspec.Struct):
    """A message as it lies in the queue."""

    headers: Headers
    properties: Properties
    body: str = ""
    content_type: str = msgspec.field(name="content-type", default="")


class Message(msgspec.Struct):
    """A decoded call: who, what, which arguments (still as JSON values)."""

    raw: bytes
    call_id: str
    task: str
    tag: CallTag
    retries: int
    args: list[Any]
    kwargs: dict[str, Any]
    expires: str | None = None
    eta: str | None = None
    timelimit: tuple[float | None, float | None] = (None, None)
    sealed: bool = False  # an argument is more than plain JSON
    unanswered: bool = False  # nobody waits for the result: none is stored
    embed: Any = None  # what plain Celery clients say is to come after it
    follows: bool = False  # something is

    @property
    def options(self) -> CallOptions:
        """What the call asks for beyond the plain case."""
        return self.tag.options or PLAIN

    @property
    def method(self) -> str:
        """The method's name: the task name after its last dot."""
        return self.task.rpartition(".")[2]


class _Ancestors(msgspec.Struct):
    """What only watchers read of the headers."""

    id: str = ""
    root_id: str | None = None
    parent_id: str | None = None


class _Family(msgspec.Struct):
    headers: _Ancestors


class _Labelled(msgspec.Struct):
    headers: dict[str, Any]


class Meta(msgspec.Struct):
    """A Celery result record. ``ca`` carries what Celery's format has no room for."""

    status: str
    task_id: str = ""
    result: msgspec.Raw = msgspec.Raw(b"null")
    traceback: str | None = None
    ca: msgspec.Raw = msgspec.Raw(b"null")


decode_metas = msgspec.json.Decoder(list[Meta]).decode
decode_meta = msgspec.json.Decoder(Meta).decode
_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_family = msgspec.json.Decoder(_Family).decode
_decode_labelled = msgspec.json.Decoder(_Labelled).decode
_decode_arguments = msgspec.json.Decoder(tuple[list[Any], dict[str, Any], Any]).decode
_NO_TAG = CallTag()


class MessageTemplate:
    """Builds messages of one caller for one method or function; all but four fields are fixed."""

    def __init__(
        self,
        *,
        task: str,
        queue: str,
        caller: str,
        job: str,
        origin: str,
        code: str = "",
        max_retries: int = 0,
        options: CallOptions = PLAIN,
        timelimit: tuple[float | None, float | None] = (None, None),
        eta: str | None = None,
    ) -> None:
        self.task = task
        headers: dict[str, Any] = {
            "lang": "py", "task": task, "shadow": None, "eta": eta, "expires": None,
            "group": None, "group_index": None, "retries": 0, "timelimit": timelimit,
            "argsrepr": "", "kwargsrepr": "", "origin": origin,
            "ignore_result": bool(options.reminder), "replaced_task_nesting": 0,
            "stamped_headers": None, "stamps": {},
        }  # fmt: skip
        properties = {
            "reply_to": caller, "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": queue},
        }  # fmt: skip
        start = b'{"content-encoding":"utf-8","content-type":"application/json","headers":'
        start += _encode(headers)[:-1]
        tag = b',"ca":[' + _encode(caller) + b","
        self._head = start + b',"parent_id":null' + tag
        self._nested_head = start + tag
        self.options = options
        #: A lost value of such a call may be made again.
        self.repeatable = max_retries != 0 and options.returns == 1
        self.returns = options.returns
        fixed = b"".join(b"," + _encode(word) for word in (job, code, max_retries))
        asked = b"" if options == PLAIN else b"," + _encode(options)
        self._after_sequence = fixed + asked + b'],"id":"'
        self._carrying = fixed + (asked or b",null") + b","
        self._tail = b'"},"properties":' + _encode(properties)[:-1] + b',"correlation_id":"'

    def build(
        self, call_id: bytes, sequence: int, body: bytes, carried: list[str] | None = None,
        lineage: Lineage | None = None, labels: Mapping[str, str] | None = None,
    ) -> bytes:  # fmt: skip
        """Return the message; ``body`` is a JSON string from ``encode_body``.

        ``lineage``: another call made it. ``labels``: further headers, such as those of a trace.
        """
        tag = self._after_sequence
        if carried:
            tag = self._carrying + _encode(carried) + b'],"id":"'
        head, root, tail = self._head, call_id, self._tail
        if lineage is not None:
            head, root = self._nested_head, _encode(lineage.root_id)[1:-1]
            tail = b'","parent_id":' + _encode(lineage.parent_id) + tail[1:]
        if labels:
            tail = b'",' + _encode(labels)[1:-1] + tail[1:]
        return b"".join(
            (
                head, b"%d" % sequence, tag, call_id, b'","root_id":"', root, tail, call_id,
                b'","delivery_tag":"', call_id, b'"},"body":', body, b"}",
            )
        )  # fmt: skip


def encode_body(args: list[bytes], kwargs: dict[str, bytes]) -> bytes:
    """Return the JSON string of a body whose arguments are JSON already."""
    if not args and not kwargs:
        return _EMPTY_BODY
    named = b",".join(_encode(name) + b":" + value for name, value in kwargs.items())
    body = b"[[" + b",".join(args) + b"],{" + named + b"}," + _EMBED + b"]"
    return _encode(body.decode())


def decode_envelope(raw: bytes) -> Envelope:
    """Read the outer message.

    Raises:
        DeadLetterError: it is not a protocol-2 message.
    """
    try:
        envelope = _decode_envelope(raw)
    except UNREADABLE as error:
        raise DeadLetterError(f"not a Celery protocol-2 message: {error}") from None
    if not envelope.headers.id or not envelope.headers.task:
        raise DeadLetterError("a message without a task name or an id")
    return envelope


def call_id_of(raw: bytes) -> str:
    """Return the id of a message's call; "" where it cannot be read."""
    try:
        return decode_envelope(raw).headers.id
    except DeadLetterError:
        return ""


def lineage_of(raw: bytes) -> Lineage:
    """Return where a message's call comes from. Only watchers ask: the call path reads no more."""
    try:
        headers = _decode_family(raw).headers
    except UNREADABLE:
        return Lineage("", "")
    return Lineage(headers.root_id or headers.id, headers.parent_id or "")


def headers_of(raw: bytes) -> dict[str, str]:
    """Return a message's headers that are text: among them those of a trace."""
    try:
        headers = _decode_labelled(raw).headers
    except UNREADABLE:
        return {}
    return {name: value for name, value in headers.items() if type(value) is str}


def decode_body(raw: bytes, envelope: Envelope) -> Message:
    """Read the arguments of a message.

    Raises:
        UntrustedPayloadError: the body is pickled or in another format that can run code.
        DeadLetterError: the body is not ``[args, kwargs, embed]``.
    """
    if envelope.content_type != "application/json":
        raise UntrustedPayloadError(
            f"the message's body is {envelope.content_type or 'of no stated type'}; only "
            "application/json is read. Send it with serializer='json'"
        )
    headers = envelope.headers
    try:
        body = envelope.body.encode()
        if (envelope.properties.body_encoding or "").lower() == "base64":
            body = base64.b64decode(body, validate=True)
        args, kwargs, embed = _decode_arguments(body)
    except (*UNREADABLE, ValueError) as error:
        raise DeadLetterError(f"the body is not [args, kwargs, embed]: {error}") from None
    tag = headers.ca or _NO_TAG
    return Message(
        raw, headers.id, headers.task, tag, headers.retries, args, kwargs,
        headers.expires, headers.eta, headers.timelimit, b"__type__" in body,
        bool(headers.ignore_result), embed, not tag.caller and _follows(embed),
    )  # fmt: skip


def _follows(embed: Any) -> bool:
    return isinstance(embed, dict) and any(embed.values())


def outline(raw: bytes) -> Message:
    """Read a message that will not run, as far as it can be read.

    Raises:
        DeadLetterError: it is not a protocol-2 message.
    """
    envelope = decode_envelope(raw)
    try:
        return decode_body(raw, envelope)
    except (DeadLetterError, UntrustedPayloadError):
        headers = envelope.headers
        return Message(
            raw, headers.id, headers.task, headers.ca or _NO_TAG, headers.retries, [], {},
            sealed=b"__type__" in raw, unanswered=bool(headers.ignore_result),
        )  # fmt: skip
