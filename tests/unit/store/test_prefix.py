"""Keys and channels under a prefix: none is sent without it, and none is seen with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

import celery_actors
from celery_actors.config import Address
from celery_actors.store import Scripts, Store, Wire
from celery_actors.store import prefix as prefix_module
from celery_actors.store.prefix import Prefix
from celery_actors.store.sources import SOURCES, digest_of
from celery_actors.store.wire import PUSH, pack
from tests.prefixed import with_prefix

KNOWN = (
    prefix_module._NONE | prefix_module._FIRST | prefix_module._ALL
    | prefix_module._BUT_LAST.keys() | {"EVALSHA", "XREAD"}
)  # fmt: skip
#: Commands whose words are channels: a server does not count them as keys.
OF_CHANNELS = {"PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"}
SHOP = Prefix("shop:")


@pytest.fixture
def address(valkey_address: str) -> Address:
    return Address.parse(with_prefix(f"{valkey_address}?db=2"))


@pytest.fixture
def plain(address: Address) -> Iterator[redis.Redis]:
    """The database as it is."""
    with closing(redis.Redis.from_url(address.server_url)) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def store(address: Address, plain: redis.Redis) -> Iterator[Store]:
    with closing(Store(address)) as found:
        yield found


def places_of(plain: redis.Redis, name: str) -> tuple[int, int]:
    """Return where a server says that the keys of a command begin and end."""
    (about,) = plain.execute_command("COMMAND INFO", name)
    return about[3], about[4]


def commands_in_python(names: set[str]) -> set[str]:
    """Return which commands of a server stand first in a call or a tuple of the package."""
    found = set()
    for path in Path(celery_actors.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            words = node.args if isinstance(node, ast.Call) else getattr(node, "elts", [])
            if words and isinstance(words[0], ast.Constant) and words[0].value in names:
                found.add(words[0].value)
    return found


def test_every_command_that_the_package_sends_is_known(plain: redis.Redis) -> None:
    names = {name.decode().upper() for name in plain.execute_command("COMMAND LIST")}
    sent = commands_in_python(names)
    assert sent - {"DEBUG"} == KNOWN  # which is a level of logs


def test_keys_stand_where_the_server_says(plain: redis.Redis) -> None:
    for name in prefix_module._NONE:
        assert places_of(plain, name) == (0, 0), name
    for name in prefix_module._FIRST - OF_CHANNELS:
        assert places_of(plain, name) == (1, 1), name
    for name in prefix_module._ALL - OF_CHANNELS:
        assert places_of(plain, name) == (1, -1), name
    assert places_of(plain, "BLPOP") == (1, -2)
    assert places_of(plain, "BLMOVE") == (1, 2)


def test_scripts_use_commands_whose_keys_the_preamble_finds(plain: redis.Redis) -> None:
    text = "\n".join(source.decode() for source in SOURCES.values())
    assert set(re.findall(r"\bredis\.(\w+)", text)) == {"call"}
    words = set(re.findall(r"\b(?:redis\.call|push)\(\s*('?[\w]+'?)", text))
    assert {word for word in words if not word.startswith("'")} == {"command"}, "that is push's own"
    names = {word.strip("'") for word in words if word.startswith("'")}
    assert len(names) > 30
    special = set(re.findall(r"command == '(\w+)'", prefix_module._PREAMBLE))
    assert special == {"DEL", "UNLINK", "EXISTS", "LMOVE", "TIME"}
    for name in names - special - OF_CHANNELS:
        assert places_of(plain, name) == (1, 1), name


def test_an_unknown_command_is_refused_and_not_sent(store: Store, plain: redis.Redis) -> None:
    with pytest.raises(NotImplementedError, match="APPEND"):
        store.run("APPEND", "key", "value")
    with closing(Wire(store.address)) as wire:
        with pytest.raises(NotImplementedError, match="APPEND"):
            wire.send(pack(("APPEND", "key", "value")))
        assert wire.call("PING") == b"PONG"
    with pytest.raises(NotImplementedError, match="is not in store/lua"):
        store.run("EVALSHA", digest_of(b"return redis.call('GET', 'key')"), 0)
    assert plain.keys() == []


def test_commands_in_one_piece_are_rewritten_each() -> None:
    blob = bytes(range(256)) * 1000
    sent = pack(("SET", "one", blob, "EX", 9)) + pack(("UNLINK", b"", "two")) + pack(("PING",))
    assert SHOP.packed(sent) == (
        pack(("SET", "shop:one", blob, "EX", 9))
        + pack(("UNLINK", "shop:", "shop:two"))
        + pack(("PING",))
    )


def test_keys_between_other_words_are_found() -> None:
    assert SHOP.command(("BLMOVE", "a", "b", "RIGHT", "LEFT", 1)) == [
        "BLMOVE", b"shop:a", b"shop:b", "RIGHT", "LEFT", 1,
    ]  # fmt: skip
    assert SHOP.command(("XREAD", "BLOCK", 1, "STREAMS", "a", "b", "0", "1")) == [
        "XREAD", "BLOCK", 1, "STREAMS", b"shop:a", b"shop:b", "0", "1",
    ]  # fmt: skip
    digest = digest_of(SOURCES["extend"])
    found = SHOP.command(("EVALSHA", digest, 2, "a", "b", 60))
    assert found[2:] == [2, b"shop:a", b"shop:b", 60]
    assert found[1] != digest


def test_channels_and_keys_come_back_bare(store: Store) -> None:
    with closing(Wire(store.address)) as wire:
        wire.send(pack(("SUBSCRIBE", "news")))
        assert [reply[0] for reply in wire.receive(10)] == [b"subscribe"]
        store.run("PUBLISH", "news", "early")
        (push,) = wire.receive(10)
    assert isinstance(push, PUSH)
    assert push == [b"message", b"news", b"early"]
    store.run("LPUSH", "list", "word")
    assert store.run("BLPOP", "other", "list", 1) == [b"list", b"word"]
    assert store.run("BLPOP", "list", 0.01) is None
    store.scripts._eval("keep_lines", ["log", ""], "", "a", "", 1, 1, 9, 9, 60)
    assert [*store.later({"log": "0", "other": "0"}, 0.01)] == ["log"]


def test_several_questions_at_once_are_asked_under_the_prefix(store: Store) -> None:
    store.run("LPUSH", "list", "word")
    assert store.batch([("LLEN", "list"), ("HGETALL", "none")]) == [1, {}]


def test_whatever_characters_a_prefix_has_scripts_find_their_keys(
    valkey_address: str, plain: redis.Redis
) -> None:
    odd = "it's \"[[100%\\]] {é}\n:"
    with closing(Store(Address.of_celery(
        f"{valkey_address}?db=2", {"global_keyprefix": odd}, use_ssl=None
    ))) as store:  # fmt: skip
        assert store.address.prefix == odd
        assert store.scripts.tell("list", 60, "word") == 1
        assert store.run("LRANGE", "list", 0, -1) == [b"word"]
    assert plain.keys() == [f"{odd}list".encode()]
    plain.delete(f"{odd}list")


def test_each_prefix_has_scripts_of_its_own_and_none_are_as_they_were(
    store: Store, plain: redis.Redis
) -> None:
    plain.script_flush()
    names = [digest_of(source) for source in SOURCES.values()]
    assert Scripts.load(store.run) > 0
    assert Scripts.load(store.run) == 0
    assert set(plain.script_exists(*names)) == {False}, "those without a prefix are others"
    assert set(store.run("SCRIPT", "EXISTS", *names)) == {True}
    with closing(Store(Address.parse(store.address.server_url))) as bare:
        Scripts.load(bare.run)
    assert set(plain.script_exists(*names)) == {True}
