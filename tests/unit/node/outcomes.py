"""Calls as messages, and what became of them in a real store."""

from __future__ import annotations

import json

from celery_actors import routing
from celery_actors.config import KeyRing
from celery_actors.messages import MessageTemplate, decode_envelope
from celery_actors.store import Store

GARBAGE = "no message at all"
RING = KeyRing((b"\x01" * 32,))


def call(number: int, retries: int = 0) -> str:
    """Return the message of a call that may be run again so many times."""
    template = MessageTemplate(
        task="Counter.add", queue="q", caller="caller-1", job="job-1", origin="1@driver",
        max_retries=retries,
    )  # fmt: skip
    return template.build(f"call-{number}".encode(), number, b'"[[],{},{}]"').decode()


def outcomes(store: Store) -> dict[str, str]:
    """Return the error of every answered call, by number."""
    found = {}
    for key in sorted(store.texts("KEYS", routing.RESULT_PREFIX + "*")):
        record = json.loads(store.get(key) or b"{}")
        found[key.removeprefix(f"{routing.RESULT_PREFIX}call-")] = record["result"]["exc_type"]
    return found


def text_of(store: Store, number: int) -> str:
    """Return what the error of a call says."""
    record = json.loads(store.get(routing.result_key(f"call-{number}")) or b"{}")
    (text,) = record["result"]["exc_message"]
    return str(text)


def numbers(messages: list[str]) -> list[str]:
    """Return the numbers of calls; a message that is none stands for itself."""
    return [
        found if found == GARBAGE else decode_envelope(found.encode()).headers.id[5:]
        for found in messages
    ]
