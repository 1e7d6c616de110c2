"""Where large buffers go: this host's shared memory, another host's, the store."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from celery_actors import routing, shared_memory, transfers
from celery_actors.assignment import NodeSettings
from celery_actors.buffers import Buffers, free_commands
from celery_actors.config import Address
from celery_actors.errors import ObjectLostError, ObjectStoreFullError, UntrustedPayloadError
from celery_actors.node.buffer_server import BufferServer
from celery_actors.node.shared_folder import BASE_VARIABLE, open_folder
from celery_actors.serialization import Blob, Sealer
from celery_actors.shared_memory import NoSpaceError, SharedFolder
from celery_actors.store import Store, StoreError
from tests.unit.conftest import RING

CHUNK = 16 * 1024
DATA = memoryview(bytes(range(256)) * 4096)  # a megabyte: 64 of these chunks
Host = Callable[[str], SharedFolder]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("celery_actors.store.client", "celery_actors.buffers", "celery_actors.transfers"):
        monkeypatch.setattr(f"{place}.CHUNK_BYTES", CHUNK)


@pytest.fixture
def host(
    store: Store, address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    """Start the shared memory of a node run on a host that is called like the node."""
    monkeypatch.setenv(BASE_VARIABLE, str(tmp_path))
    monkeypatch.setattr("celery_actors.node.buffer_server._LOOK_SECONDS", 0.05)
    with ExitStack() as stack:

        def start(name: str) -> SharedFolder:
            return stack.enter_context(serving(store, address, name))

        yield start


@contextmanager
def serving(store: Store, address: Address, name: str) -> Iterator[SharedFolder]:
    with open_folder(name) as folder:
        assert folder is not None
        about = {"host_id": name, "folder": str(folder.path)}
        store.run("HSET", routing.NODES, name, json.dumps(about))
        store.run("SET", routing.lease_key(name), "1")
        settings = NodeSettings(address, RING, name, name, task_events=False, result_seconds=3600)
        server = BufferServer(settings, folder)
        server.start()
        try:
            yield folder
        finally:
            server.stop()
            server._thread.join()


def on(host_id: str, store: Store, monkeypatch: pytest.MonkeyPatch, node: str = "") -> Buffers:
    """Return the buffers of a process on this host."""
    monkeypatch.setenv(shared_memory.HOST_VARIABLE, host_id)
    return Buffers(store, Sealer(RING), node, 3600)


def wait_until(state: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not state():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def chunks(store: Store) -> list[str]:
    return store.texts("KEYS", "ca:blob:*") + store.texts("KEYS", "ca:transfer:*")


# -- one host --------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["", "a"], ids=["a driver", "a worker"])
def test_a_buffer_goes_to_the_shared_memory_of_this_host(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    folder = host("a")
    mine = on("a", store, monkeypatch, node)
    blob = mine.keep("call.0", [DATA])
    assert (blob.node, blob.size, blob.digest) == ("a", len(DATA), "")
    assert folder.names() == [blob.id]
    assert mine.fetch(blob) == on("a", store, monkeypatch).fetch(blob) == DATA
    assert not chunks(store)
    mine.free([blob])
    assert folder.names() == []
    with pytest.raises(ObjectLostError, match="node a"):
        mine.fetch(blob)


def test_buffers_lie_side_by_side_at_multiples_of_64_bytes(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    parts = [memoryview(b"one"), DATA, memoryview(b""), memoryview(b"two")]
    for process in (on("a", store, monkeypatch), on("elsewhere", store, monkeypatch)):
        whole = process.fetch(process.keep("call.0", parts))
        assert bytes(whole[:3]) == b"one"
        assert whole[64 : 64 + len(DATA)] == DATA
        assert bytes(whole[-3:]) == b"two"
        assert len(whole) == 64 + len(DATA) + 3


def test_the_same_call_keeps_another_buffer_when_it_runs_again(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    mine = on("a", store, monkeypatch)
    first = mine.keep("call.0", [DATA])
    again = mine.keep("call.0", [memoryview(b"x" * 1000)])
    assert mine.fetch(first) == DATA
    assert mine.fetch(again) == b"x" * 1000


def test_what_nobody_holds_is_freed_before_a_buffer_is_written(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = host("a")
    mine = on("a", store, monkeypatch)
    old = [mine.keep("call.0", [DATA])]
    pages = (folder.path / old[0].id).stat().st_ino
    mine.reclaim = lambda: mine.free([old.pop()] if old else [])
    new = mine.keep("call.1", [DATA])
    assert folder.names() == [new.id]
    assert (folder.path / new.id).stat().st_ino == pages


def test_a_driver_takes_the_next_node_when_its_own_ends(
    store: Store, address: Address, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = on("a", store, monkeypatch)
    with serving(store, address, "a"):
        lost = mine.keep("call.0", [DATA])
    meanwhile = mine.keep("call.1", [DATA])
    assert meanwhile.node == ""
    host("a")  # its next run, as far as this test is concerned
    assert mine.keep("call.2", [DATA]).node == "a"
    with pytest.raises(ObjectLostError):
        mine.fetch(lost)


# -- no shared memory ------------------------------------------------------------------------


def test_a_buffer_goes_to_the_store_where_this_host_has_no_node(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = host("a")
    mine = on("elsewhere", store, monkeypatch)
    blob = mine.keep("call.0", [DATA])
    assert (blob.node, len(blob.digest)) == ("", 64)
    assert len(chunks(store)) == len(DATA) // CHUNK
    assert mine.fetch(blob) == on("a", store, monkeypatch).fetch(blob) == DATA
    assert folder.names() == []
    mine.free([blob])
    assert not chunks(store)
    with pytest.raises(ObjectLostError, match="Keep a reference"):
        mine.fetch(blob)


def test_a_buffer_goes_to_the_store_where_shared_memory_is_full(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    monkeypatch.setattr(SharedFolder, "_check_room", full)
    mine = on("a", store, monkeypatch)
    blob = mine.keep("call.0", [DATA])
    assert blob.node == ""
    assert mine.fetch(blob) == DATA


def full(_folder: SharedFolder, _size: int) -> None:
    raise NoSpaceError(4096)


def test_the_error_says_what_to_do_when_the_store_is_full_too(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    monkeypatch.setattr(SharedFolder, "_check_room", full)
    used = int(store.run("INFO", "memory")["used_memory"])
    store.run("CONFIG", "SET", "maxmemory", used + len(DATA) // 4)
    try:
        with pytest.raises(ObjectStoreFullError, match=r"1048576 bytes.*4096 bytes left.*--shm"):
            on("a", store, monkeypatch).keep("call.0", [DATA])
        with pytest.raises(ObjectStoreFullError, match="no node's shared memory"):
            on("elsewhere", store, monkeypatch).keep("call.0", [DATA])
    finally:
        store.run("CONFIG", "SET", "maxmemory", 0)
    assert not chunks(store)


def test_another_refusal_of_the_store_is_raised_as_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("READONLY")

    monkeypatch.setattr(store, "put_chunk", refuse)
    with pytest.raises(StoreError, match="READONLY"):
        on("elsewhere", store, monkeypatch).keep("call.0", [DATA])


# -- two hosts -------------------------------------------------------------------------------


def test_a_buffer_of_another_host_is_streamed_and_leaves_nothing_in_the_store(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    blob = on("a", store, monkeypatch).keep("call.0", [DATA])
    whole = on("elsewhere", store, monkeypatch).fetch(blob)
    assert whole == DATA
    assert whole.readonly
    wait_until(lambda: not chunks(store))


def test_a_node_keeps_the_copy_of_another_hosts_buffer_until_that_is_freed(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = host("a"), host("b")
    owner = on("a", store, monkeypatch, "a")
    blob = owner.keep("call.0", [DATA])
    readers = [on("b", store, monkeypatch, "b") for _ in range(2)]
    whole = readers[0].fetch(blob)
    assert whole == DATA
    assert len(here.names()) == 1
    monkeypatch.setattr(transfers, "receive", None)  # the second finds the copy
    assert readers[1].fetch(blob) == DATA
    owner.free([blob])
    assert there.names() == []
    wait_until(lambda: not here.names())
    assert whole == DATA


def test_another_host_asks_the_owner_to_free(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = host("a"), host("b")
    blob = on("a", store, monkeypatch).keep("call.0", [DATA])
    reader = on("b", store, monkeypatch, "b")
    reader.fetch(blob)
    reader.free([blob])
    assert here.names() == []
    wait_until(lambda: not there.names())
    other = on("a", store, monkeypatch).keep("call.1", [DATA])
    for command in free_commands([other]):
        store.run(*command)
    wait_until(lambda: not there.names())


def test_a_reader_without_room_for_a_copy_takes_it_into_its_own_memory(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    blob = on("a", store, monkeypatch).keep("call.0", [DATA])
    here = host("b")
    monkeypatch.setattr(SharedFolder, "_check_room", full)
    assert on("b", store, monkeypatch, "b").fetch(blob) == DATA
    assert here.names() == []


def test_no_more_than_a_few_chunks_wait_for_a_slow_reader(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    blob = on("a", store, monkeypatch).keep("call.0", [DATA])
    most = 0

    class Slow:
        def write(self, _offset: int, _data: memoryview) -> None:
            nonlocal most
            deadline = time.monotonic() + 0.03
            while time.monotonic() < deadline:
                most = max(most, len(store.texts("KEYS", "ca:blob:*")))

    transfers.receive(store, Sealer(RING), blob, "", Slow())
    assert 1 < most <= transfers.AHEAD


def test_a_buffer_that_its_node_has_no_more_is_lost(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    with pytest.raises(ObjectLostError, match="not in the shared memory of node a any more"):
        on("elsewhere", store, monkeypatch).fetch(Blob("call.0.x", 1000, "a"))


def test_a_buffer_of_a_dead_node_is_lost(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ObjectLostError, match="that node is dead"):
        on("elsewhere", store, monkeypatch).fetch(Blob("call.0.x", 1000, "gone"))


def test_a_node_that_lives_and_does_not_answer_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "PATIENCE_SECONDS", 0.1)
    store.run("SET", routing.lease_key("deaf"), "1")
    with pytest.raises(ObjectLostError, match="deaf lives but sent nothing"):
        on("elsewhere", store, monkeypatch).fetch(Blob("call.0.x", 1000, "deaf"))
    assert not chunks(store)


def test_a_chunk_that_was_changed_on_its_way_is_refused(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    blob = on("a", store, monkeypatch).keep("call.0", [DATA])
    stored = Store.put_chunk

    def forged(self: Store, blob_id: str, number: int, chunk: memoryview, ttl: int) -> None:
        stored(self, blob_id, number, bytes(reversed(chunk)), ttl)

    monkeypatch.setattr(Store, "put_chunk", forged)
    with pytest.raises(UntrustedPayloadError):
        on("elsewhere", store, monkeypatch).fetch(blob)


def test_a_chunk_that_expired_on_its_way_is_told(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    blob = on("a", store, monkeypatch).keep("call.0", [DATA])
    monkeypatch.setattr(Store, "put_chunk", lambda *_: None)
    with pytest.raises(ObjectLostError, match="Get it again"):
        on("elsewhere", store, monkeypatch).fetch(blob)


def test_a_word_told_twice_has_the_effect_of_one(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    blob = on("a", store, monkeypatch).keep("call.0", [DATA])
    once = store.scripts.tell

    def twice(key: str, seconds: int, *words: str) -> int:
        if not key.endswith(":wanted"):
            once(key, seconds, *words)
        return once(key, seconds, *words)

    monkeypatch.setattr(store.scripts, "tell", twice)
    assert on("elsewhere", store, monkeypatch).fetch(blob) == DATA


def test_a_sender_gives_up_on_a_reader_that_is_gone(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "PATIENCE_SECONDS", 0.2)
    folder = host("a")
    blob = on("a", store, monkeypatch).keep("call.0", [DATA])
    store.scripts.tell(routing.wanted_key("t"), 60, 1)
    transfers.send(store, Sealer(RING), folder, blob.id, blob.size, "t")
    assert [key for key in chunks(store) if int(store.run("TTL", key)) > 0] == chunks(store)
    assert len(store.texts("KEYS", "ca:blob:*")) == 1


# -- tidiness --------------------------------------------------------------------------------


def test_a_node_shrugs_at_words_that_are_no_words(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = host("a")
    mine = on("a", store, monkeypatch)
    blob = mine.keep("call.0", [DATA])
    asks = routing.asks_key("a")
    store.scripts.tell(asks, 60, "{", '{"free": 1}', '{"free": ["../node", "gone"]}')
    for command in free_commands([blob]):
        store.run(*command)
    wait_until(lambda: not folder.names())
    assert "not what belongs there" in caplog.text
    assert (folder.path / "node").exists()


def test_a_node_removes_what_expired_and_copies_from_dead_nodes(
    store: Store, address: Address, host: Host
) -> None:
    folder = host("a")
    for name in ("kept.0", "a~kept.1", "gone~copy.0"):
        with folder.new(name, len(DATA)) as file:
            file.write(0, DATA)
    for seconds, left in ((3600, ["a~kept.1", "kept.0"]), (0, [])):
        settings = NodeSettings(address, RING, "a", "a", task_events=False, result_seconds=seconds)
        server = BufferServer(settings, folder)
        server._sweep()
        server._store.close()
        assert sorted(folder.names()) == left


def test_the_server_goes_on_when_the_store_fails_once(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = host("a")
    blob = on("a", store, monkeypatch).keep("call.0", [DATA])
    failed = threading.Event()
    run = Store.run

    def fail_once(self: Store, *command: object) -> object:
        if command[0] == "BLPOP" and not failed.is_set():
            failed.set()
            raise StoreError("LOADING")
        return run(self, *command)

    monkeypatch.setattr(Store, "run", fail_once)
    wait_until(failed.is_set)
    for command in free_commands([blob]):
        run(store, *command)
    wait_until(lambda: not folder.names())


def test_freeing_sends_without_waiting_where_it_must_not_wait(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("a")
    there = on("a", store, monkeypatch).keep("call.0", [DATA])
    mine = on("elsewhere", store, monkeypatch)
    here = mine.keep("call.1", [DATA])
    sent: list[tuple[object, ...]] = []
    mine.free([there, here], lambda *words: sent.append(words))
    assert [words[0] for words in sent] == ["UNLINK", "EVALSHA"]
    assert len(chunks(store)) == len(DATA) // CHUNK
