"""No code from strangers: what is not signed for its place is never unpickled."""

from __future__ import annotations

import base64
import json
import pickle
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

import celery_actors as ca
from tests.integration.actors import Counter, Recorder, double, pass_gate
from tests.integration.gates import Gate
from tests.integration.support import Cluster, run_script, wait_until


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


@pytest.fixture
def target(cluster: Cluster) -> Iterator[Target]:
    name = f"target-{uuid.uuid4()}"
    actor = Recorder.options(name=name).remote()
    ca.get(actor.notes_taken.remote(), timeout=10)
    with cluster.client() as client:
        yield Target(actor, ca.actor_queue(cluster.context.namespace, name), client)
    ca.kill(actor)


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


def test_a_forged_signature_is_refused_without_unpickling(target: Target, tmp_path: Path):
    trap = tmp_path / "trap"
    target.put(message("forged-1", ["who", sealed(pickle.dumps(Bomb(trap)))]))

    assert_refused(target, "forged-1")
    assert not trap.exists()


def test_a_forged_signature_under_the_right_key_name_is_refused(
    target: Target, gate: Gate, tmp_path: Path
):
    trap = tmp_path / "trap"
    genuine = _captured(target, gate, (1, 2))
    key = genuine["__value__"]["k"]
    forged = sealed(pickle.dumps(Bomb(trap)), key=base64.b64decode(key))
    target.put(message("forged-2", ["who", forged]))

    assert_refused(target, "forged-2")
    assert not trap.exists()


def _captured(target: Target, gate: Gate, value: Any) -> dict[str, Any]:
    """Return a genuinely signed argument, as one who can read the store sees it."""
    raw = json.loads(_captured_message(target, gate, value))
    return dict(json.loads(raw["body"])[0][1])


def _captured_message(target: Target, gate: Gate, value: Any) -> bytes:
    @ca.remote
    class Slow:
        def wait(self, path: str) -> str:
            return pass_gate(path)

        def note(self, who: str, value: Any) -> Any:
            return value

    slow = Slow.remote()
    slow.wait.remote(gate.path)
    gate.wait_reached()
    ref = slow.note.remote("who", value)
    raw = target.newest(slow._queue, 2)
    gate.open()
    assert ca.get(ref, timeout=10) == value
    ca.kill(slow)
    return bytes(raw)


def test_a_value_cut_out_of_another_actors_message_is_refused(target: Target, gate: Gate):
    genuine = _captured(target, gate, {"a tuple": (1, 2)})
    target.put(message("pasted-1", ["who", genuine]))

    assert_refused(target, "pasted-1")


def test_a_whole_message_of_another_actor_is_refused(target: Target, gate: Gate):
    raw = json.loads(_captured_message(target, gate, (1, 2)))
    raw["headers"]["id"] = "pasted-2"
    target.put(raw)

    assert_refused(target, "pasted-2")


def _own_message(cluster: Cluster, target: Target, gate: Gate) -> tuple[Any, bytes]:
    """Let an actor of two methods wait, and catch a call to it as it lies in the queue."""
    actor = Counter.options(name="replayed").remote()
    actor.hold.remote(gate.path)
    gate.wait_reached()
    ref = actor.add.remote(5)
    queue = ca.actor_queue(cluster.context.namespace, "replayed")
    raw = target.newest(queue, 2)
    gate.open()
    assert ca.get(ref, timeout=10) == 5
    return actor, bytes(raw)


def test_a_replayed_call_does_not_run_twice(cluster: Cluster, target: Target, gate: Gate):
    actor, raw = _own_message(cluster, target, gate)
    queue = ca.actor_queue(cluster.context.namespace, "replayed")

    target.client.lpush(queue, raw)

    wait_until(lambda: target.client.llen(queue) == 0, "the copy is taken")
    assert ca.get(actor.seen.remote(), timeout=10) == [5]
    call_id = json.loads(raw)["headers"]["id"]
    wait_until(lambda: target.letters(call_id), "the copy among the dead letters")
    ca.kill(actor)


def test_a_signed_value_in_another_position_is_refused(target: Target, gate: Gate):
    raw = json.loads(_captured_message(target, gate, (1, 2)))
    args, kwargs, embed = json.loads(raw["body"])
    raw["body"] = json.dumps([args[::-1], kwargs, embed])
    raw["headers"]["id"] = "swapped-1"
    target.put(raw)

    assert_refused(target, "swapped-1")


def test_a_pickled_body_is_refused_without_unpickling(target: Target, tmp_path: Path):
    trap = tmp_path / "trap"
    pickled = message("pickled-1", [])
    pickled["body"] = base64.b64encode(pickle.dumps(Bomb(trap))).decode()
    pickled["content-type"] = "application/x-python-serialize"
    pickled["content-encoding"] = "binary"
    pickled["properties"]["body_encoding"] = "base64"
    target.put(pickled)

    assert_refused(target, "pickled-1")
    assert not trap.exists()


@pytest.mark.parametrize("bad", [{"__type__": "ca", "__value__": 7}, {"__type__": "ca"}])
def test_a_signed_value_of_a_wrong_shape_is_refused(target: Target, bad: Any):
    call_id = f"shape-{len(bad)}"
    target.put(message(call_id, ["who", bad]))

    assert_refused(target, call_id)


def test_an_unknown_type_is_a_dead_letter(target: Target):
    target.put(message("type-1", ["who", {"__type__": "nobody", "__value__": 1}]))

    assert_refused(target, "type-1", "DeadLetterError")


def test_a_method_that_does_not_exist_is_a_dead_letter(target: Target):
    target.put(message("method-1", [], task="Recorder.burn"))

    assert_refused(target, "method-1", "DeadLetterError")


@pytest.mark.parametrize("name", ["__init__", "__reduce__", "__class__", "notes"])
def test_only_methods_can_be_called(target: Target, name: str):
    target.put(message(f"dunder-{name}", [], task=f"Recorder.{name}"))

    assert_refused(target, f"dunder-{name}", "DeadLetterError")


def test_a_body_that_is_no_call_is_a_dead_letter(target: Target):
    broken = message("body-1", [])
    broken["body"] = '{"not": "a call"}'
    target.put(broken)

    assert_refused(target, "body-1", "DeadLetterError")


@pytest.mark.parametrize(
    "garbage",
    [b"", b"garbage-a", b"\xff\xfegarbage-b", b'{"garbage-c": 1}', b"[]garbage-d", b"null"],
)
def test_garbage_never_blocks_the_queue(target: Target, garbage: bytes):
    before = len(target.client.lrange("ca:dead-letters", 0, -1))

    target.put(garbage)

    assert ca.get(target.actor.note.remote("after", 1), timeout=10) is None
    wait_until(lambda: target.client.llen("ca:dead-letters") == before + 1, "a dead letter")


def test_garbage_among_good_calls_costs_only_itself(target: Target):
    refs = []
    for number in range(300):
        refs.append(target.actor.note.remote("good", number))
        if number % 50 == 0:
            target.put(b"noise")
            target.put(message(f"noise-{number}", [], task="Recorder.none"))

    ca.get(refs, timeout=20)

    notes = ca.get(target.actor.notes_taken.remote(), timeout=10)
    assert [number for _who, number in notes] == list(range(300))


def test_garbage_on_the_shared_queue_does_not_stop_its_workers(cluster: Cluster, tmp_path: Path):
    trap = tmp_path / "trap"
    bomb = message("shared-1", [sealed(pickle.dumps(Bomb(trap)))], task="double")
    with cluster.client() as client:
        for raw in (b"noise", json.dumps(bomb).encode(), b"\xff"):
            client.lpush("ca.tasks.cpu1", raw)
        assert ca.get([double.remote(n) for n in range(20)], timeout=10) == list(range(0, 40, 2))
        wait_until(lambda: client.get("celery-task-meta-shared-1"), "an answer")
        assert json.loads(client.get("celery-task-meta-shared-1"))["status"] == "FAILURE"
    assert not trap.exists()


def test_a_result_that_was_exchanged_is_refused_by_its_reader(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    trap = tmp_path / "trap"
    mine, other = ca.put((1, 2)), ca.put((3, 4))
    with cluster.client() as client:
        stored = client.get(f"celery-task-meta-{other.id}")
        client.set(f"celery-task-meta-{mine.id}", stored)
        forged = {"status": "SUCCESS", "result": sealed(pickle.dumps(Bomb(trap)))}
        client.set(f"celery-task-meta-{other.id}", json.dumps(forged))

        @ca.remote
        def read(refs: list[Any]) -> Any:
            return ca.get(refs[0])

        for ref in (mine, other):
            with pytest.raises(ca.UntrustedPayloadError):
                ca.get(read.remote([ref]), timeout=10)
    assert not trap.exists()


def test_exchanged_code_is_refused(cluster: Cluster, tmp_path: Path):
    trap = tmp_path / "trap"

    @ca.remote
    def harmless(value: int) -> int:
        return value + 41

    with cluster.client() as client:
        before = set(client.scan_iter("ca:code:*"))
        assert ca.get(harmless.remote(1), timeout=10) == 42
        (key,) = set(client.scan_iter("ca:code:*")) - before
        record = client.get(key)
        client.set(key, json.dumps(sealed(pickle.dumps(Bomb(trap)))))
        try:
            with pytest.raises(ca.UntrustedPayloadError):
                # Another need, so another worker, which has not loaded the function yet.
                ca.get(harmless.options(num_cpus=0.5).remote(1), timeout=10)
        finally:
            client.set(key, record)
    assert not trap.exists()


STRANGER = """
import celery_actors as ca
ca.init({address!r}, keys={key!r}, namespace={namespace!r})

@ca.remote
def sized(value):
    return len(value)

for attempt in (lambda: ca.get_actor({name!r}), lambda: ca.get(sized.remote((1, 2)), timeout=10)):
    try:
        print("got", attempt())
    except ca.UntrustedPayloadError as error:
        print("refused", "CELERY_ACTORS_KEYS" in str(error))
"""


def test_a_driver_with_another_key_can_neither_read_nor_run_anything(
    cluster: Cluster, target: Target, tmp_path: Path
):
    namespace = cluster.context.namespace
    name = target.queue.rpartition(".")[2]
    text = STRANGER.format(
        address=cluster.address, key="ab" * 32, namespace=namespace, name=name
    )

    run = run_script(tmp_path, text)

    assert run.stdout.splitlines() == ["refused True", "refused True"], run.stderr
    assert ca.get(target.actor.note.remote("after", 1), timeout=10) is None
