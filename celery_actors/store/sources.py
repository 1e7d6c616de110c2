"""The text of the scripts in ``lua/``, with what they include."""

from __future__ import annotations

import hashlib
from importlib import resources

__all__ = ["SOURCES", "digest_of"]

#: Parts of other scripts.
_INCLUDED = frozenset(
    {"drop_steps", "group_mark", "journal", "let_go", "post_results", "push", "rouse", "when_full"}
)


def _load() -> dict[str, bytes]:
    sources = {}
    for file in (resources.files(__package__) / "lua").iterdir():
        if file.name.endswith(".lua"):
            sources[file.name[:-4]] = file.read_text()

    def whole(name: str) -> str:
        return "\n".join(map(line_of, sources[name].splitlines()))

    def line_of(line: str) -> str:
        """Return a line, or what it asks for: a part of a script, or a whole one as a function."""
        word, _, name = line.partition(" ")
        if word == "--@include":
            return whole(name)
        if word == "--@function":
            return f"local function {name}(KEYS, ARGV)\n{whole(name)}\nend"
        return line

    return {name: whole(name).encode() for name in sources if name not in _INCLUDED}


def digest_of(source: bytes) -> str:
    """Return the name that a server gives to a script."""
    return hashlib.sha1(source).hexdigest()  # noqa: S324 - Redis names scripts by SHA-1


#: Each script, by its file's name.
SOURCES = _load()
