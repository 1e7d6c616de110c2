"""The view of a store under a prefix that tests look through: what is outside is not there.

The package sends few commands, and refuses others where it has a prefix. Tests look at everything,
so their view knows more of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

import redis
from redis.client import Pipeline

from celery_actors.config import Address
from celery_actors.store.prefix import Prefix, Word

__all__ = [
    "IN_FORCE",
    "PREFIX",
    "OpenPrefix",
    "PrefixedClient",
    "open_prefix_of",
    "outside",
    "with_prefix",
]

PREFIX = "shop:"
#: What every server of the integration tests has before its keys: `CELERY_ACTORS_TEST_PREFIX=1`.
IN_FORCE = PREFIX if os.environ.get("CELERY_ACTORS_TEST_PREFIX") == "1" else ""

_NONE = frozenset({
    "ACL", "BGREWRITEAOF", "CLIENT", "CONFIG", "DBSIZE", "DEBUG", "ECHO", "EXEC", "FLUSHALL",
    "FLUSHDB", "MULTI", "NOSUCHCOMMAND", "ROLE", "SAVE", "SHUTDOWN", "WAIT",
})  # fmt: skip
_FIRST = frozenset({
    "DUMP", "HINCRBY", "HSET", "HSETNX", "HVALS", "INCR", "KEYS", "LPOP", "LSET", "PERSIST",
    "PEXPIRE", "PTTL", "RESTORE", "RPOP", "RPUSH", "SADD", "SETEX", "SETRANGE", "SISMEMBER",
    "TYPE", "XADD", "XLEN", "XRANGE", "ZADD", "ZCARD", "ZINCRBY", "ZRANGE",
})  # fmt: skip


class OpenPrefix(Prefix):
    """The package's prefix, with everything that tests do to a store."""

    def places(self, name: str, words: Sequence[Word]) -> range:
        """Return where the keys, channels and patterns of a command stand."""
        # redis-py sends `CONFIG GET` as one word, which is two.
        name, _, more = name.partition(" ")
        found = {
            **dict.fromkeys(_NONE, range(0)), **dict.fromkeys(_FIRST, range(1, 2)),
            **dict.fromkeys(("LMOVE", "RENAME"), range(1, 3)),
            **dict.fromkeys(("OBJECT", "MEMORY", "PUBSUB"), range(1 if more else 2, len(words))),
            "MSET": range(1, len(words), 2),
        }  # fmt: skip
        if name == "SCAN":
            at = words.index(b"MATCH") + 1  # as redis-py writes it
            return range(at, at + 1)
        return found[name] if name in found else super().places(name, words)

    def digest(self, bare: str) -> str:
        """Return the digest of a script; one of a test's own stays as it is."""
        return self._digests.get(bare, bare)

    def command(self, words: Sequence[Word]) -> list[Word]:
        """Return a command as the server is to see it."""
        if words[0] == "SCAN" and b"MATCH" not in words:
            words = [*words, b"MATCH", "*"]
        return super().command(words)

    def reply(self, words: Sequence[Word], reply: Any) -> Any:
        """Return the reply to a command with bare names in it."""
        name = words[0]
        if name == "KEYS":
            return [self._bare(key) for key in reply]
        if name == "SCAN":
            cursor, keys = reply
            return cursor, [self._bare(key) for key in keys]
        if name == "PUBSUB":
            return [self._bare(each) if isinstance(each, bytes) else each for each in reply]
        return super().reply(words, reply)


def open_prefix_of(text: str) -> OpenPrefix | None:
    """Return what stands where the package has ``prefix_of``."""
    return OpenPrefix(text) if text else None


class PrefixedClient(redis.Redis):
    """A plain client of a store that sees what is under a prefix, without the prefix."""

    prefix: OpenPrefix

    @classmethod
    def at(cls, address: Address) -> redis.Redis:
        """Return a client of the server at an address."""
        client = cast("PrefixedClient", cls.from_url(address.server_url))
        client.prefix = OpenPrefix(address.prefix)
        return client

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Send a command, and return its reply."""
        plain: Any = super()  # redis-py does not type this method
        reply = plain.execute_command(*self.prefix.command(words), **options)
        return self.prefix.reply(words, reply)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        """Return a pipeline of such commands."""
        pipeline = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.prefix = self.prefix
        return pipeline


class _Pipeline(Pipeline):
    prefix: OpenPrefix

    def execute_command(self, *words: Any, **options: Any) -> Any:
        plain: Any = super()
        return plain.execute_command(*self.prefix.command(words), **options)


def with_prefix(url: str, prefix: str = PREFIX) -> str:
    """Return an address with a prefix, if there is one."""
    if not prefix:
        return url
    return f"{url}{'&' if '?' in url else '?'}global_keyprefix={prefix}"


def outside(client: redis.Redis, prefix: str = PREFIX) -> list[str]:
    """Return the keys of a database that are not under a prefix."""
    found = (key.decode() for key in client.scan_iter(count=1000))
    return sorted(key for key in found if not key.startswith(prefix))
