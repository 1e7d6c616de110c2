"""A message there and back, and as Celery and kombu themselves read it."""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

import pytest
from celery import Celery
from celery.worker.request import Request
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.transport.virtual import Message as KombuMessage

from celery_actors.errors import DeadLetterError, UntrustedPayloadError
from celery_actors.messages import (
    CallTag,
    Lineage,
    Message,
    MessageTemplate,
    decode_body,
    decode_envelope,
    encode_body,
    headers_of,
    lineage_of,
)
from celery_actors.store import Store

CALL_ID = "0123abcd-4567-4890-a123-000000000001"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def template(**given: Any) -> MessageTemplate:
    fixed: dict[str, Any] = {
        "task": "Counter.add", "queue": "ca.actor.default.c", "caller": "caller-1",
        "job": "job-1", "origin": "1@driver",
    }  # fmt: skip
    return MessageTemplate(**{**fixed, **given})


def built(*args: bytes, sequence: int = 7, **kwargs: bytes) -> bytes:
    return template().build(CALL_ID.encode(), sequence, encode_body(list(args), kwargs))


def read(raw: bytes) -> Message:
    return decode_body(raw, decode_envelope(raw))


def foreign(**changed: Any) -> bytes:
    """Return a message as a stock Celery client leaves it on Redis."""
    message: dict[str, Any] = {
        "body": base64.b64encode(json.dumps([[2], {"by": 3}, EMBED]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "Counter.add", "id": CALL_ID, "retries": 0},
        "properties": {"body_encoding": "base64", "reply_to": "someone"},
    }
    return json.dumps({**message, **changed}).encode()


# -- there and back --------------------------------------------------------------------------


def test_a_message_is_read_as_it_was_built() -> None:
    raw = template(code="c0de", max_retries=3).build(
        CALL_ID.encode(), 7, encode_body([b"1", b'"a"'], {"by": b"[null]"})
    )
    message = read(raw)
    assert message.call_id == CALL_ID
    assert (message.task, message.method) == ("Counter.add", "add")
    assert (message.args, message.kwargs) == ([1, "a"], {"by": [None]})
    assert message.tag == CallTag("caller-1", 7, "job-1", "c0de", 3)
    assert (message.retries, message.expires, message.raw) == (0, None, raw)


def test_a_call_without_arguments_is_read() -> None:
    message = read(built())
    assert (message.args, message.kwargs) == ([], {})


def test_names_and_texts_of_any_kind_survive() -> None:
    awkward = 'quote " backslash \\ newline \n zero \0 grin \U0001f600'
    raw = template(task=awkward, caller=awkward).build(
        CALL_ID.encode(), 1, encode_body([json.dumps(awkward).encode()], {})
    )
    message = read(raw)
    assert (message.task, message.tag.caller, message.args) == (awkward, awkward, [awkward])


def test_a_keyword_of_any_spelling_survives() -> None:
    raw = template().build(CALL_ID.encode(), 1, encode_body([], {'a"b': b"1", "é": b"2"}))
    assert read(raw).kwargs == {'a"b': 1, "é": 2}


def test_a_function_without_a_class_is_its_own_method() -> None:
    raw = template(task="add").build(CALL_ID.encode(), 1, encode_body([], {}))
    assert read(raw).method == "add"


# -- where it comes from ---------------------------------------------------------------------


def test_a_drivers_message_without_a_trace_is_the_same_to_the_byte() -> None:
    assert built(b"1", sequence=7).decode() == (
        '{"content-encoding":"utf-8","content-type":"application/json","headers":{"lang":"py",'
        '"task":"Counter.add","shadow":null,"eta":null,"expires":null,"group":null,'
        '"group_index":null,"retries":0,"timelimit":[null,null],"argsrepr":"","kwargsrepr":"",'
        '"origin":"1@driver","ignore_result":false,"replaced_task_nesting":0,'
        '"stamped_headers":null,"stamps":{},"parent_id":null,"ca":["caller-1",7,"job-1","",0],'
        f'"id":"{CALL_ID}","root_id":"{CALL_ID}"}},"properties":{{"reply_to":"caller-1",'
        '"delivery_mode":2,"priority":0,"delivery_info":{"exchange":"",'
        f'"routing_key":"ca.actor.default.c"}},"correlation_id":"{CALL_ID}",'
        f'"delivery_tag":"{CALL_ID}"}},"body":"[[1],{{}},{{\\"callbacks\\":null,'
        '\\"errbacks\\":null,\\"chain\\":null,\\"chord\\":null}]"}'
    )


def test_a_call_made_by_another_names_it_and_the_one_that_began_it_all() -> None:
    awkward = Lineage('root "é', "parent \\ 1")
    labels = {"traceparent": "00-a-b-01", "baggage": 'say="é"'}
    raw = template().build(CALL_ID.encode(), 7, encode_body([], {}), None, awkward, labels)

    assert lineage_of(raw) == awkward
    assert headers_of(raw).items() >= labels.items()
    assert read(raw).tag == read(built()).tag
    assert lineage_of(built()) == Lineage(CALL_ID, "")
    assert lineage_of(b"hello") == Lineage("", "")


# -- as Celery reads it ----------------------------------------------------------------------


@pytest.fixture
def received(store: Store) -> KombuMessage:
    """A message of ours after it lay in Redis, read by kombu's own transport."""
    store.run("LPUSH", "ca.actor.default.c", built(b"2", by=b"3"))
    with Connection(store.address.celery_url) as connection:
        queue = Queue("ca.actor.default.c").bind(connection.default_channel)
        message: KombuMessage = queue.get(no_ack=True)
    assert message is not None
    return message


def test_kombu_reads_our_message_from_redis(received: KombuMessage) -> None:
    assert received.payload == [[2], {"by": 3}, EMBED]
    assert received.content_type == "application/json"
    assert received.properties["correlation_id"] == CALL_ID
    assert received.delivery_info["routing_key"] == "ca.actor.default.c"


def test_celery_runs_our_message_as_a_protocol_2_task(received: KombuMessage) -> None:
    seen: list[Any] = []
    app = Celery("reader", set_as_current=False, backend="cache+memory://")

    @app.task(name="Counter.add", bind=True)  # type: ignore[untyped-decorator]
    def add(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append((self.request.id, self.request.root_id, args, kwargs))

    request = Request(received, app=app, hostname="test")
    assert (request.name, request.id, request.reply_to) == ("Counter.add", CALL_ID, "caller-1")
    request.execute()
    assert seen == [(CALL_ID, CALL_ID, (2,), {"by": 3})]


# -- messages of others ----------------------------------------------------------------------


def test_a_message_of_a_stock_celery_client_is_read(store: Store) -> None:
    app = Celery("sender", set_as_current=False, broker=store.address.celery_url)
    sent = app.send_task(
        "Counter.add", args=[2], kwargs={"by": [1, {"x": "é"}]}, queue="q", ignore_result=True
    )
    app.close()
    message = read(store.run("RPOP", "q"))
    assert message.call_id == sent.id
    assert (message.method, message.args, message.kwargs) == ("add", [2], {"by": [1, {"x": "é"}]})
    assert message.tag == CallTag()


def test_a_base64_body_is_read() -> None:
    message = read(foreign())
    assert (message.args, message.kwargs) == ([2], {"by": 3})


def test_a_body_without_base64_is_read() -> None:
    message = read(foreign(body=json.dumps([[2], {}, EMBED]), properties={}))
    assert message.args == [2]


def test_an_expiry_is_read() -> None:
    headers = {"task": "t", "id": CALL_ID, "expires": "2001-01-01T00:00:00+00:00"}
    assert read(foreign(headers=headers)).expires == "2001-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/x-yaml", "text/plain", ""]
)
def test_a_body_that_could_run_code_is_refused_unread(content_type: str) -> None:
    body = base64.b64encode(pickle.dumps(((), {}, EMBED))).decode()
    with pytest.raises(UntrustedPayloadError, match="serializer='json'"):
        read(foreign(body=body, **{"content-type": content_type}))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"hello", id="no json"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b'{"headers":{"task":"\xff"}}', id="broken text"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="no headers"),
        pytest.param(b'{"headers":null,"properties":{}}', id="null headers"),
        pytest.param(b'{"headers":{},"properties":{}}', id="no task"),
        pytest.param(b'{"headers":{"task":"t"},"properties":{}}', id="no id"),
        pytest.param(b'{"headers":{"task":"t","id":7},"properties":{}}', id="number for an id"),
        pytest.param(b'{"headers":{"task":"t","id":"i","ca":[1]},"properties":{}}', id="bad tag"),
        pytest.param(b'{"headers":{"task":"t","id":"i"},"properties":{},"x":' + b"[" * 100_000,
                     id="very deep"),
        pytest.param(json.dumps({"body": "", "task": "t", "id": "i"}).encode(), id="protocol 1"),
    ],
)  # fmt: skip
def test_garbage_is_a_dead_letter(raw: bytes) -> None:
    with pytest.raises(DeadLetterError):
        decode_envelope(raw)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param("hello", id="no json"),
        pytest.param("[]", id="empty list"),
        pytest.param("[[],{}]", id="no embed"),
        pytest.param("[{},[],{}]", id="wrong order"),
        pytest.param('[[],{"a":}]', id="broken json"),
        pytest.param("[[" + "[" * 100_000, id="very deep"),
    ],
)
def test_a_body_of_another_shape_is_a_dead_letter(body: str) -> None:
    with pytest.raises(DeadLetterError, match="args, kwargs, embed"):
        read(foreign(body=body, properties={}))


def test_a_body_that_is_not_the_base64_it_says_is_a_dead_letter() -> None:
    with pytest.raises(DeadLetterError):
        read(foreign(body="[[],{},{}]"))
