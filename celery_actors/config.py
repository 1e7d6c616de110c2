"""Addresses and keys: where the store is, and whose signatures are trusted."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .address import ADDRESS_VARIABLE, Address
from .errors import ConfigurationError

__all__ = ["ADDRESS_VARIABLE", "KEYS_VARIABLE", "Address", "KeyRing", "new_key", "resolve_keys"]

KEYS_VARIABLE = "CELERY_ACTORS_KEYS"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Signing keys: sign with the first, accept all. ``repr`` never shows them."""

    keys: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"KeyRing({len(self.keys)} keys)"

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read keys as 64 hex digits each, separated by commas or white space.

        Raises:
            ConfigurationError: a key is not 32 bytes of hex; the message does not repeat it.
        """
        keys = []
        for position, word in enumerate(text.replace(",", " ").split(), start=1):
            try:
                key = bytes.fromhex(word)
            except ValueError:
                key = b""
            if len(key) != 32:
                raise ConfigurationError(
                    f"signing key number {position} is not 64 hex digits; "
                    "`celery_actors keygen` prints a good one"
                )
            keys.append(key)
        if not keys:
            raise ConfigurationError("no signing key given; `celery_actors keygen` prints one")
        return cls(tuple(keys))


#: What `insecure=True` signs with: no secret, it only keeps the format the same.
_INSECURE = KeyRing((hashlib.sha256(b"celery_actors: no secret").digest(),))


def new_key() -> str:
    """Return a fresh signing key: 64 hex digits, 256 random bits."""
    return secrets.token_hex(32)


def resolve_keys(
    address: Address,
    *,
    keys: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    insecure: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> KeyRing:
    """Find the signing keys: argument, key file, environment, or the file beside the socket.

    Raises:
        ConfigurationError: there is none, and ``insecure=True`` was not given or the store can
            be reached from other machines.
    """
    if keys:
        return KeyRing.parse(keys)
    if key_file is not None:
        return KeyRing.parse(Path(key_file).read_text())
    if environment.get(KEYS_VARIABLE):
        return KeyRing.parse(environment[KEYS_VARIABLE])
    beside = address.socket_path.parent / "key" if address.socket_path else None
    if beside is not None and beside.is_file():
        return KeyRing.parse(beside.read_text())
    if insecure and address.is_private:
        return _INSECURE
    reach = "" if address.is_private else " (insecure=True is for loopback and Unix sockets only)"
    raise ConfigurationError(
        f"no signing key for {address.public}: values would have to be unpickled from whoever can "
        f"write to that store. Make one with `celery_actors keygen`, set {KEYS_VARIABLE} to it on "
        f"every node and driver, or pass key_file=…{reach}"
        + ("; for a throw-away store on this machine pass insecure=True" if not reach else "")
    )
