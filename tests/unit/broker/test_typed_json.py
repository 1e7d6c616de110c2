"""Arguments and results of plain Celery clients: JSON's types and a few more."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from kombu.utils.json import dumps, loads

from celery_actors.broker.typed_json import read_typed, write_typed
from celery_actors.errors import DeadLetterError

VALUES = [
    datetime(2026, 11, 26, tzinfo=UTC), uuid.UUID(int=7), Decimal("1.5"), {"a": [1, None, "x"]},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_celery_writes_is_read_as_it_was(value: object) -> None:
    assert read_typed(json.loads(dumps(value))) == value
    written = write_typed(value)
    assert written is not None
    assert loads(written.decode()) == value


def test_a_type_that_nobody_knows_is_set_aside() -> None:
    with pytest.raises(DeadLetterError, match="of an unknown type"):
        read_typed({"__type__": "no-such-type", "__value__": 1})


def test_what_has_no_form_in_json_is_not_written() -> None:
    assert write_typed(object()) is None
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert write_typed(deep) is None


@pytest.mark.parametrize("kind", ["alone", "in a list", "in a mapping"])
def test_a_signed_value_in_a_plain_message_is_set_aside(kind: str) -> None:
    signed = {"__type__": "ca", "__value__": "x"}
    value = {"alone": signed, "in a list": [signed], "in a mapping": {"key": [1, signed]}}[kind]
    with pytest.raises(DeadLetterError, match="holds a signed value"):
        read_typed(value)
