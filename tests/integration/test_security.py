"""No code from strangers: what is not signed for its place is never unpickled."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, pass_gate
from tests.integration.gates import Gate
from tests.integration.strangers import Bomb, Target, assert_refused, message, sealed
from tests.integration.support import Cluster, run_script, wait_until


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

        def note(self, _who: str, value: Any) -> Any:
            return value

    slow = Slow.remote()
    slow.wait.remote(gate.path)
    gate.wait_reached()
    ref = slow.note.remote("who", value)
    raw = target.newest(slow._identity.queue, 2)
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


def test_a_result_that_was_exchanged_is_refused_by_its_reader(
    cluster: Cluster, gate: Gate, tmp_path: Path
):
    trap = tmp_path / "trap"
    mine, other = ca.put((1, 2)), ca.put((3, 4))
    with cluster.client() as client:
        stored = client.get(f"celery-task-meta-{other.id}")
        client.set(f"celery-task-meta-{mine.id}", stored, keepttl=True)
        forged = {"status": "SUCCESS", "result": sealed(pickle.dumps(Bomb(trap)))}
        client.set(f"celery-task-meta-{other.id}", json.dumps(forged), keepttl=True)

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
        client.set(key, json.dumps(sealed(pickle.dumps(Bomb(trap)))), keepttl=True)
        try:
            with pytest.raises(ca.UntrustedPayloadError):
                # Another need, so another worker, which has not loaded the function yet.
                ca.get(harmless.options(num_cpus=0.5).remote(1), timeout=10)
        finally:
            client.set(key, record, keepttl=True)
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
    text = STRANGER.format(address=cluster.address, key="ab" * 32, namespace=namespace, name=name)

    run = run_script(tmp_path, text)

    assert run.stdout.splitlines() == ["refused True", "refused True"], run.stderr
    assert ca.get(target.actor.note.remote("after", 1), timeout=10) is None
