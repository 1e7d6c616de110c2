"""A deployment's prefix: put before its keys and channels on the way out, and taken off again.

Every other module knows bare names. Only where an address has a ``global_keyprefix``, commands are
rewritten as they leave, by a table of where their keys stand; and each script runs with a few lines
before it, so that it sees bare names, too, whatever keys it derives from its data. A command that
is not in the table is an error, never a key without its prefix.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis

from .sources import SOURCES, digest_of

__all__ = ["Prefix", "prefix_of"]

Word = bytes | str | int | float

#: Commands that name no key.
_NONE = frozenset({"PING", "TIME", "INFO", "CONFIG", "CLIENT", "SCRIPT"})
#: … one key or channel, as their first word.
_FIRST = frozenset({
    "EXPIRE", "GET", "GETDEL", "GETEX", "HDEL", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN",
    "HMGET", "LINDEX", "LLEN", "LPUSH", "LRANGE", "LREM", "LTRIM", "PUBLISH", "SCARD", "SET",
    "SMEMBERS", "SREM", "SSCAN", "STRLEN", "TTL", "XREVRANGE", "ZRANGEBYSCORE", "ZREM",
    "ZREVRANGE", "ZSCORE",
})  # fmt: skip
#: … keys or channels only.
_ALL = frozenset({"DEL", "EXISTS", "MGET", "SUBSCRIBE", "UNLINK", "UNSUBSCRIBE"})
#: … keys from the first word on, by how many of the last words are none.
_BUT_LAST = {"BLMOVE": 3, "BLPOP": 1}

#: What runs before a script: it takes the prefix off its KEYS, and puts it before the keys of its
#: commands. Those that name one key or channel, first, need no mention: most do (a test asks the
#: server about each one that the scripts use). `redis` has nothing but `call`, so that a script
#: that needs more fails at once.
_PREAMBLE = """\
local KEYS, redis = KEYS, redis
do
  local prefix, server, bare = '%s', redis.call, {}
  for i, key in ipairs(KEYS) do bare[i] = string.sub(key, #prefix + 1) end
  KEYS = bare
  local function several(command, last, ...)
    local words = {...}
    for i = 1, last or #words do words[i] = prefix .. words[i] end
    return server(command, unpack(words))
  end
  redis = {call = function(command, key, ...)
    if command == 'DEL' or command == 'UNLINK' or command == 'EXISTS' then
      return several(command, nil, key, ...)
    end
    if command == 'LMOVE' then return several(command, 2, key, ...) end
    if command == 'TIME' then return server(command) end
    return server(command, prefix .. key, ...)
  end}
end
"""


@functools.lru_cache(maxsize=8)
def prefix_of(text: str) -> Prefix | None:
    """Return the prefix of an address; None where it has none."""
    return Prefix(text) if text else None


class Prefix:
    """Rewrites what passes between this process and a server."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._length = len(self._text)
        # In decimal, so that no byte of it means anything to Lua.
        quoted = "".join(f"\\{byte:03d}" for byte in self._text)
        preamble = (_PREAMBLE % quoted).encode()
        self._sources = {source: preamble + source for source in SOURCES.values()}
        self._digests = {digest_of(old): digest_of(new) for old, new in self._sources.items()}

    def key(self, bare: Word) -> bytes:
        """Return a key or channel as the server knows it."""
        return self._text + (bare if isinstance(bare, bytes) else str(bare).encode())

    def command(self, words: Sequence[Any]) -> list[Any]:
        """Return a command as the server is to see it.

        Raises:
            NotImplementedError: where its keys stand is not known here.
        """
        name = _text(words[0])
        found = [*words]
        for place in self.places(name, words):
            found[place] = self.key(found[place])
        if name == "EVALSHA":
            found[1] = self.digest(_text(words[1]))
        elif name == "SCRIPT":
            found[2:] = map(self._script, found[2:])
        return found

    def places(self, name: str, words: Sequence[Word]) -> range:
        """Return where the keys and channels of a command stand.

        Raises:
            NotImplementedError: that is not known here.
        """
        if name == "EVALSHA":
            return range(3, 3 + int(words[2]))
        if name in _FIRST:
            return range(1, 2)
        if name in _ALL:
            return range(1, len(words))
        if name in _BUT_LAST:
            return range(1, len(words) - _BUT_LAST[name])
        if name == "XREAD":
            first = 1 + [_text(word) for word in words].index("STREAMS")
            return range(first, (first + len(words)) // 2)
        if name in _NONE:
            return range(0)
        raise NotImplementedError(f"where the keys of {name} stand is not said in store/prefix.py")

    def digest(self, bare: str) -> str:
        """Return the digest of a script with its preamble.

        Raises:
            NotImplementedError: it is none of this package's, and may touch any key.
        """
        if bare not in self._digests:
            raise NotImplementedError(f"the script {bare} is not in store/lua")
        return self._digests[bare]

    def packed(self, data: bytes) -> bytes:
        """Return packed commands as the server is to see them."""
        reader = hiredis.Reader()
        reader.feed(data)
        found: list[bytes] = []
        while (words := reader.gets()) is not False:
            found.append(hiredis.pack_command(tuple(self.command(words))))
        return b"".join(found)

    def reply(self, words: Sequence[Word], reply: Any) -> Any:
        """Return the reply to a command with bare names in it."""
        name = words[0]
        if name == "BLPOP" and reply:
            return [self._bare(reply[0]), *reply[1:]]
        if name == "XREAD" and isinstance(reply, dict):
            return {self._bare(key): entries for key, entries in reply.items()}
        if name == "XREAD" and reply:
            return [[self._bare(key), entries] for key, entries in reply]
        return reply

    def heard(self, replies: Iterable[Any]) -> list[Any]:
        """Return what a connection has received, with bare channels in the pushed messages."""
        found = [*replies]
        for each in found:
            if isinstance(each, hiredis.PushNotification) and each[0] == b"message":
                each[1] = self._bare(each[1])
        return found

    def _bare(self, key: bytes) -> bytes:
        return key[self._length :]

    def _script(self, word: Word) -> Word:
        """Return a script with its preamble, or the digest of that; others' are as they are."""
        if isinstance(word, bytes) and (source := self._sources.get(word)):
            return source
        return self._digests.get(_text(word), word)


def _text(word: Word) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)
