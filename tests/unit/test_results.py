"""What arrives on a process's channels, which anybody who may use the store can write to."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any

import pytest

from celery_actors import routing
from celery_actors.calls import Target
from celery_actors.runtime import Runtime
from celery_actors.store import Store
from celery_actors.store.wire import pack


@pytest.mark.parametrize(
    "word",
    [b"", b"{", b'{"task_id": 7}', b'[{"task_id": "\xff"}]', b'[{"x":' + b"[" * 100_000],
    ids=["nothing", "cut", "no list", "no text", "deep"],
)
def test_a_word_that_is_no_result_keeps_no_result_from_coming(
    runtime: Runtime, target: Target, store: Store, word: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    ref = runtime.calls.submit(target, runtime.template(target, "Counter.add"), (), {})
    result = {"task_id": ref.id, "status": "SUCCESS", "result": 7}

    for payload in (word, json.dumps([result])):
        store.run("PUBLISH", routing.reply_channel(runtime.session), payload)

    assert runtime.mux.wait(lambda: ref.ready, time.monotonic() + 10)
    assert ref.plain_json() == b"7"
    assert "is not what belongs there" in caplog.text


def test_a_value_that_was_borrowed_here_until_a_moment_ago_is_not_freed_when_it_is_made_again(
    runtime: Runtime, store: Store
) -> None:
    key = routing.result_key("another-process-1")
    record = json.dumps({"task_id": "another-process-1", "status": "SUCCESS", "result": 7}).encode()
    store.run("SET", key, record)

    runtime.results.on_push(key.encode(), record)  # the channel is left a moment later
    runtime.results.reclaim()
    runtime.mux.post(pack(("PING",)))
    runtime.mux.settle()

    assert store.run("EXISTS", key) == 1


class Shared(deque[Any]):
    """A queue of which another thread takes the rest, right before the second look."""

    def popleft(self) -> Any:
        found = super().popleft()
        self.clear()
        return found

    def __bool__(self) -> bool:
        return True


def test_two_threads_may_free_results_at_the_same_time(runtime: Runtime, store: Store) -> None:
    store.run("SET", routing.result_key("one"), "x")
    runtime.results._released = Shared([("one", None), ("two", None)])

    runtime.results.flush_released(1)
    runtime.calls.settle()

    assert not store.run("EXISTS", routing.result_key("one"))
