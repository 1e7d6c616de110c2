"""The connection that a process's threads share: order, broken connections, interrupts, ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from celery_actors.config import Address
from celery_actors.errors import ClusterUnreachableError
from celery_actors.store import Mux, Scripts, Store
from celery_actors.store.wire import StoreError, pack


class Heard:
    """What a connection has told: replies by the number of the command, pushes, reconnects."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, object]] = []
        self.pushes: list[tuple[bytes, bytes]] = []
        self.reconnects = 0
        self.ticks = 0

    def reconnected(self) -> None:
        self.reconnects += 1

    def ticked(self) -> None:
        self.ticks += 1

    def reply(self, number: int) -> Callable[[object], None]:
        return lambda reply: self.replies.append((number, reply))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def mux(address: Address, store: Store, heard: Heard) -> Iterator[Mux]:
    """A connection that hears the channel `news`."""
    found = Mux(
        address,
        ["news"],
        lambda channel, payload: heard.pushes.append((channel, payload)),
        heard.reconnected,
        heard.ticked,
    )
    yield found
    found.close()


def soon() -> float:
    return time.monotonic() + 10


def cut(store: Store) -> None:
    """Close every connection but the one that asks, as a proxy that restarts does."""
    for kind in ("normal", "pubsub"):
        store.run("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def test_each_reply_goes_to_its_own_handler_in_order(mux: Mux, heard: Heard) -> None:
    for number in range(100):
        mux.post(pack(("ECHO", number)), heard.reply(number))

    mux.settle()

    assert heard.replies == [(number, str(number).encode()) for number in range(100)]
    assert not mux.pending


def test_a_wait_ends_at_its_deadline_and_takes_in_what_has_arrived(mux: Mux, heard: Heard) -> None:
    assert not mux.wait(lambda: False, time.monotonic() + 0.02)
    assert not mux.wait(lambda: False, time.monotonic() - 1)
    mux.post(pack(("PING",)), heard.reply(0))
    assert mux.wait(lambda: bool(heard.replies), soon())


def test_a_refused_command_is_its_handlers_or_the_logs(
    mux: Mux, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    mux.post(pack(("NOSUCHCOMMAND",)), heard.reply(0))
    mux.post(pack(("NOSUCHCOMMAND",)))

    mux.settle()

    ((_, reply),) = heard.replies
    assert "unknown command" in str(reply)
    assert "the store refused a command" in caplog.text


def test_what_was_not_answered_is_sent_again_after_a_broken_connection(
    mux: Mux, store: Store, heard: Heard
) -> None:
    for number in range(50):
        if number in (10, 30):
            cut(store)
        mux.post(pack(("ECHO", number)), heard.reply(number))

    mux.settle()

    assert heard.replies == [(number, str(number).encode()) for number in range(50)]
    assert heard.reconnects


def test_scripts_that_the_server_lost_are_loaded_again(
    mux: Mux, store: Store, heard: Heard
) -> None:
    store.run("SCRIPT", "FLUSH")

    mux.post(Scripts.pack("mark", ["record"], "1", "me", "st", "alive"), heard.reply(0))
    mux.post(pack(("ECHO", "after")), heard.reply(1))
    mux.settle()

    assert heard.replies == [(0, -10), (1, b"after")]  # -10: nobody owns that record


def test_channels_are_heard_until_they_are_left_also_after_a_broken_connection(
    mux: Mux, store: Store, heard: Heard
) -> None:
    mux.subscribe("more")
    mux.settle()
    cut(store)
    mux.wait(lambda: heard.reconnects > 0, soon())

    def told(channel: str, text: str) -> bool:
        store.run("PUBLISH", channel, text)
        wanted = (channel.encode(), text.encode())
        return mux.wait(lambda: wanted in heard.pushes, time.monotonic() + 0.5)

    assert any(told("news", "one") for _ in range(20))
    assert any(told("more", "two") for _ in range(20))
    mux.unsubscribe("more")
    mux.post(pack(("PING",)))
    mux.settle()
    assert store.run("PUBLISH", "more", "three") == 0


def test_an_interrupt_in_the_middle_of_replies_loses_none(mux: Mux, heard: Heard) -> None:
    def interrupted(_reply: object) -> None:
        raise KeyboardInterrupt

    with mux._lead:  # or the background thread may meet the interrupt
        mux.post(pack(("ECHO", 0)), interrupted)
        for number in range(1, 20):
            mux.post(pack(("ECHO", number)), heard.reply(number))
        mux._waiting += 1
    with pytest.raises(KeyboardInterrupt):
        mux.wait(lambda: len(heard.replies) == 19, soon())
    mux._waiting -= 1

    assert mux.wait(lambda: len(heard.replies) == 19, soon())
    assert heard.replies == [(number, str(number).encode()) for number in range(1, 20)]


def test_threads_that_wait_together_each_get_their_own(mux: Mux) -> None:
    found: list[list[bytes]] = [[] for _ in range(8)]

    def ask(mine: list[bytes]) -> None:
        for turn in range(1, 201):
            mux.post(pack(("ECHO", f"{id(mine)} {turn}")), mine.append)
            mux.wait(partial(_has, mine, turn), None)

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    for mine in found:
        assert mine == [f"{id(mine)} {turn}".encode() for turn in range(1, 201)]


def _has(found: list[bytes], length: int) -> bool:
    return len(found) >= length


def test_what_nobody_waits_for_is_read_in_the_background(mux: Mux, heard: Heard) -> None:
    answered = threading.Event()
    mux.post(pack(("PING",)), lambda _reply: answered.set())
    mux.kick()
    assert answered.wait(10)

    told = threading.Event()
    mux._on_push = lambda _channel, _payload: told.set()
    mux.attend(1)
    mux.kick()
    mux.post(pack(("PUBLISH", "news", "now")))
    assert told.wait(10)
    mux.attend(-1)


def test_a_wait_on_a_closed_connection_says_so(mux: Mux) -> None:
    mux.close()

    with pytest.raises(ClusterUnreachableError, match="shut down"):
        mux.wait(lambda: False, None)


def test_a_wait_ends_when_another_thread_closes(mux: Mux) -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            mux.wait(lambda: False, None)
        except ClusterUnreachableError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    mux.wait(lambda: mux._waiting >= 3 or bool(errors), time.monotonic() + 0.1)

    mux.close()

    for thread in threads:
        thread.join(10)
    assert ["shut down" in str(error) for error in errors] == [True] * 3


def test_a_connection_that_cannot_be_made_again_is_told_while_it_is_wanted(
    mux: Mux, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0
    connect = mux._connect

    def refused(*, load: bool) -> object:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise StoreError("LOADING the dataset into memory")
        return connect(load=load)

    monkeypatch.setattr(mux, "_connect", refused)
    cut(store)
    answered: list[object] = []
    mux.post(pack(("PING",)), answered.append)

    mux.settle()

    assert answered
    assert tries == 4
