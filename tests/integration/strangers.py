"""What somebody who can write to the store, and holds no key, may try."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

import celery_actors as ca
from tests.integration.support import wait_until


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@dataclass
class Target:
    """A named actor, its queue and a stranger's connection to the store."""

    actor: Any
    queue: str
    client: redis.Redis

    def put(self, message: bytes | str | dict[str, Any]) -> None:
        raw = json.dumps(message) if isinstance(message, dict) else message
        self.client.lpush(self.queue, raw)

    def newest(self, queue: str, length: int) -> bytes:
        """Return the newest message, once the queue is as long as it should be."""
        wait_until(lambda: self.client.llen(queue) == length, f"{length} messages in {queue}")
        raw = self.client.lindex(queue, 0)
        assert isinstance(raw, bytes)
        return raw

    def letters(self, call_id: str) -> list[dict[str, Any]]:
        found = [json.loads(raw) for raw in self.client.lrange("ca:dead-letters", 0, -1)]
        return [letter for letter in found if call_id in letter["message"]]

    def wait_letter(self, call_id: str) -> dict[str, Any]:
        letters = wait_until(lambda: self.letters(call_id), f"a dead letter about {call_id}")
        assert len(letters) == 1, "it is reported once"
        assert letters[0]["queue"] == self.queue
        return letters[0]

    def wait_result(self, call_id: str) -> dict[str, Any]:
        key = f"celery-task-meta-{call_id}"
        raw = wait_until(lambda: self.client.get(key), f"a result of {call_id}")
        return dict(json.loads(raw))


def message(call_id: str, args: list[Any], *, task: str = "Recorder.note", **headers: Any) -> Any:
    """Return a protocol-2 message as a stranger would write it."""
    return {
        "body": json.dumps([args, {}, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": task, "id": call_id, **headers},
        "properties": {"correlation_id": call_id, "delivery_tag": call_id, "delivery_info": {}},
    }


def sealed(data: bytes, mac: bytes = b"\0" * 32, key: bytes = b"\0" * 4) -> dict[str, Any]:
    """Return a value in the signed format."""
    words = {"m": mac, "k": key, "p": data}
    fields = {name: base64.b64encode(word).decode() for name, word in words.items()}
    return {"__type__": "ca", "__value__": {**fields, "b": []}}


def assert_refused(target: Target, call_id: str, error: str = "UntrustedPayloadError") -> None:
    """Look at all three: the letter, the answer, and the actor that goes on."""
    target.wait_letter(call_id)
    result = target.wait_result(call_id)
    assert result["status"] == "FAILURE"
    assert result["result"]["exc_type"] == error
    before = ca.get(target.actor.notes_taken.remote(), timeout=10)
    ca.get(target.actor.note.remote("after", call_id), timeout=10)
    assert ca.get(target.actor.notes_taken.remote(), timeout=10) == [*before, ["after", call_id]]
