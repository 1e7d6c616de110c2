"""The pooled client for everything off the call path: records, code, large buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError
from redis.retry import Retry

from .. import routing
from ..config import Address
from ..errors import ObjectLostError
from .connections import CONNECT_TIMEOUT, close_pool, make_pool, silence_of
from .prefix import prefix_of
from .scripts import Scripts, entries_of, fields_of, texts
from .wire import StoreError, StoreFullError, connect_error, patiently

__all__ = ["CHUNK_BYTES", "Store"]

#: Size of one stored chunk of a large buffer. Written and read again, 512 KB pass at 1,000 MB/s,
#: 1 MB at 470 and 8 MB at 150: from about a megabyte on, the server gets fresh pages each time.
CHUNK_BYTES = 512 * 1024


class Store:
    """A thread-safe client. It may repeat a step after a lost reply: each has to bear that.

    ``patience`` is how many seconds one reply may take, ``away`` for how many a server that cannot
    be reached at all is tried again. A connection has ``CONNECT_TIMEOUT``, or less patience.
    """

    def __init__(
        self, address: Address, *, retries: int = 3, patience: float = 30, away: float = 0
    ) -> None:
        self.address = address
        self._away = away
        self._prefix = prefix_of(address.prefix)
        self._pool = make_pool(
            address,
            socket_timeout=min(patience, silence_of(address) or patience),
            socket_connect_timeout=min(patience, CONNECT_TIMEOUT),
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), retries),
        )
        self._redis: Any = redis.Redis(connection_pool=self._pool)
        self._send = self._redis.execute_command if self._prefix is None else self._send_prefixed
        self.scripts = Scripts(self.run)

    def run(self, *command: Any) -> Any:
        """Execute one command; load the scripts where the server has lost them.

        Raises:
            StoreUnreachableError: no answer. StoreError: the store refused the command.
        """
        return patiently(lambda: self._run(*command), self._away)

    def batch(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Execute several commands that only read, in one round trip; return their replies.

        Raises:
            StoreUnreachableError: no answer. StoreError: the store refused one of them.
        """
        words = list(commands)

        def ask() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            for command in words:
                sent = command if self._prefix is None else self._prefix.command(command)
                pipeline.execute_command(*sent)
            return list(pipeline.execute())

        return list(patiently(lambda: self._asked(ask), self._away))

    def _run(self, *command: Any) -> Any:
        def ask() -> Any:
            try:
                return self._send(*command)
            except NoScriptError:
                Scripts.load(self._send)
                return self._send(*command)

        return self._asked(ask)

    def _send_prefixed(self, *command: Any) -> Any:
        prefix: Any = self._prefix
        return prefix.reply(command, self._redis.execute_command(*prefix.command(command)))

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise connect_error(self.address, error) from None
        except ReadOnlyError as error:
            self._pool.disconnect()  # the server has become a replica: look for the primary anew
            raise connect_error(self.address, error) from None
        except OutOfMemoryError as error:
            raise StoreFullError(
                f"the store at {self.address.public} is full: {error} Drop results that nobody "
                "needs, or give the server more memory"
            ) from None
        except redis.InvalidResponse as error:
            raise connect_error(self.address, error) from None
        except redis.RedisError as error:
            raise StoreError(f"{self.address.public}: {error}") from None

    @classmethod
    def probe(cls, address: Address, seconds: float = 5) -> str:
        """Return the server's version after a round trip; in words where it does not tell it.

        Raises:
            StoreUnreachableError: within seconds, with the address and without its password.
        """
        store = cls(address, retries=0, patience=seconds)
        try:
            return store._version()
        finally:
            store.close()

    def _version(self) -> str:
        try:
            info = self.about()
        except StoreError:  # a user who may not ask
            self.run("PING")
            return "of a version that it does not tell"
        return info.get("valkey_version") or info["redis_version"]

    def about(self, section: str = "server") -> dict[str, str]:
        """Return what the server says of itself: ``redis_version``, ``run_id``, ``os``, …."""
        info = self.run("INFO", section)
        if isinstance(info, bytes):
            info = dict(line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)
        return {name: str(value) for name, value in info.items()}

    def setting(self, name: str) -> dict[str, str]:
        """Return a setting of the server by its name; nothing where it has none of that name."""
        return fields_of(self.run("CONFIG", "GET", name))

    def get(self, key: str) -> bytes | None:
        """Return a string value."""
        value = self.run("GET", key)
        return None if value is None else bytes(value)

    def many(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return several string values."""
        return list(self.run("MGET", *keys))

    def hash(self, key: str) -> dict[str, str]:
        """Return a hash as text."""
        return fields_of(self.run("HGETALL", key))

    def newest(self, key: str, count: int) -> list[tuple[str, dict[str, str]]]:
        """Return the last entries of a stream, oldest first: (id, fields)."""
        return entries_of(reversed(self.run("XREVRANGE", key, "+", "-", "COUNT", count)))

    def later(
        self, after: Mapping[str, str], seconds: float
    ) -> dict[str, list[tuple[str, dict[str, str]]]]:
        """Wait for entries of streams beyond the ids in ``after``; nothing where none comes."""
        words = ("XREAD", "BLOCK", int(seconds * 1000), "STREAMS", *after, *after.values())
        found = self.run(*words) or {}
        pairs = found.items() if isinstance(found, dict) else found
        return {
            bytes(key).decode(): entries_of(entries[0] if isinstance(found, dict) else entries)
            for key, entries in pairs
        }

    def texts(self, *command: Any) -> list[str]:
        """Run a command that returns a list or set of names."""
        return texts(self.run(*command))

    def put_chunk(self, blob_id: str, number: int, chunk: bytes | memoryview, ttl: int) -> None:
        """Store one chunk of a large buffer."""
        self.run("SET", routing.blob_key(blob_id, number), chunk, "EX", ttl)

    def put_blob(self, blob_id: str, data: memoryview, ttl: int) -> None:
        """Store a large buffer in chunks."""
        for number, start in enumerate(range(0, len(data), CHUNK_BYTES)):
            self.put_chunk(blob_id, number, data[start : start + CHUNK_BYTES], ttl)

    def need_blob(self, blob_id: str, size: int) -> memoryview:
        """Return a large buffer, read-only.

        Raises:
            ObjectLostError: a chunk of it is gone.
        """
        whole = bytearray(size)
        for number, start in enumerate(range(0, size, CHUNK_BYTES)):
            chunk = self.run("GET", routing.blob_key(blob_id, number))
            if chunk is None or len(chunk) != min(CHUNK_BYTES, size - start):
                raise ObjectLostError(
                    f"the buffer {blob_id} of {size} bytes is not in the store any more (chunk "
                    f"{number} is missing): its last holder dropped it, it expired "
                    "(result_expires), or the store lost it. Keep a reference, or store it longer"
                )
            whole[start : start + len(chunk)] = chunk
        return memoryview(whole).toreadonly()

    def subscribe(self, *channels: str) -> Any:
        """Return a subscription on a connection of its own; its channels are as the server's."""
        if self._prefix is not None:
            channels = tuple(self._prefix.key(channel).decode() for channel in channels)
        try:
            subscription = self._redis.pubsub(ignore_subscribe_messages=True)
            subscription.subscribe(*channels)
        except redis.RedisError as error:
            raise connect_error(self.address, error) from None
        return subscription

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        self._redis.close()
        close_pool(self._pool)


def chunk_keys(blob_id: str, size: int) -> list[str]:
    """Return the keys of every chunk of a large buffer."""
    return [routing.blob_key(blob_id, number) for number in range(-(-size // CHUNK_BYTES))]
