"""Connections to the store: what comes back, what is told when none does."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from celery_actors.config import Address
from celery_actors.errors import ObjectLostError
from celery_actors.store import Store, StoreError, Wire
from celery_actors.store import client as client_module
from celery_actors.store.wire import PUSH, StoreUnreachableError, pack


@pytest.fixture
def wire(address: Address, store: Store) -> Iterator[Wire]:
    with closing(Wire(address)) as found:
        yield found


@pytest.fixture
def nowhere(tmp_path: Path) -> Address:
    """The address of a store that does not run."""
    return Address.parse(f"unix://{tmp_path}/no.sock")


def test_replies_can_be_read_one_by_one_or_all_at_once(wire: Wire) -> None:
    wire.send(pack(("ECHO", 1)) + pack(("ECHO", 2)) + pack(("ECHO", 3)))

    assert wire.read() == b"1"
    rest: list[object] = []
    while len(rest) < 2:
        rest += wire.receive(10)
    assert rest == [b"2", b"3"]
    assert wire.receive(0) == []


def test_pushes_between_replies_are_skipped_by_who_reads_one_reply(
    wire: Wire, store: Store
) -> None:
    wire.send(pack(("SUBSCRIBE", "news")))
    store.run("PUBLISH", "news", "early")

    assert wire.call("ECHO", "mine") == b"mine"
    wire.send(pack(("SUBSCRIBE", "more")))
    (push,) = wire.receive(10)
    assert isinstance(push, PUSH)


def test_a_refused_command_is_an_error(wire: Wire, store: Store) -> None:
    for run in (wire.call, store.run):
        with pytest.raises(StoreError, match="unknown command"):
            run("NOSUCHCOMMAND")


def test_a_connection_that_the_server_closed_is_an_error_to_reader_and_writer(
    wire: Wire, store: Store
) -> None:
    store.run("CLIENT", "KILL", "ID", wire.call("CLIENT", "ID"))

    with pytest.raises(StoreUnreachableError, match="does not answer"):
        wire.receive(10)

    def write_on() -> None:
        for _ in range(100):
            wire.send(pack(("PING",)))

    with pytest.raises(StoreUnreachableError, match="does not answer"):
        write_on()


def test_a_connection_that_this_process_broke_gives_no_reply_any_more(wire: Wire) -> None:
    wire.send(pack(("ECHO", 1)) + pack(("ECHO", 2)))
    assert wire.read() == b"1"
    wire.send(pack(("ECHO", 3)))
    assert select.select([wire], [], [], 10)[0]

    wire.abort()

    with pytest.raises(StoreUnreachableError):
        wire.receive(0)


def test_a_broken_connection_ends_a_read_and_can_be_broken_twice(wire: Wire) -> None:
    wire.abort()
    with pytest.raises(StoreUnreachableError):
        wire.receive()
    wire.close()
    wire.abort()


def test_no_server_is_told_with_the_address_and_without_the_password(nowhere: Address) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hidden = Address.parse(f"redis://me:hunter2@127.0.0.1:{port}/0")

    for address in (nowhere, hidden):
        with closing(Store(address, retries=0)) as store:
            for attempt in (
                lambda found=address: Wire(found),
                lambda found=address: Store.probe(found),
                lambda found=store: found.get("key"),
                lambda found=store: found.subscribe("channel"),
            ):
                with pytest.raises(StoreUnreachableError, match=r"does not answer") as caught:
                    attempt()
                assert "hunter2" not in str(caught.value)


def test_a_probe_tells_the_servers_version(address: Address) -> None:
    assert int(Store.probe(address).partition(".")[0]) >= 7


def test_a_large_buffer_comes_back_and_a_lost_chunk_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CHUNK_BYTES", 1000)
    data = memoryview(bytes(range(256)) * 10)
    store.put_blob("blob", data, 60)

    found = store.need_blob("blob", len(data))

    assert found == data
    assert found.readonly
    keys = client_module.chunk_keys("blob", len(data))
    assert len(keys) == 3
    store.run("DEL", keys[1])
    with pytest.raises(ObjectLostError, match=r"buffer blob of 2560 bytes.*chunk 1 is missing"):
        store.need_blob("blob", len(data))


def test_values_of_several_keys_come_in_their_order(store: Store) -> None:
    store.run("MSET", "a", 1, "b", 2)

    assert store.many(["b", "missing", "a"]) == [b"2", None, b"1"]
    assert store.get("missing") is None
    assert store.hash("missing") == {}


def test_a_subscription_hears_what_is_told(store: Store) -> None:
    subscription = store.subscribe("news")
    store.run("PUBLISH", "news", "now")

    message = None
    while message is None:
        message = subscription.get_message(timeout=10)
    assert message["data"] == b"now"
    subscription.close()
