"""Addresses and keys: where the store is, and whose signatures are trusted."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .errors import ConfigurationError

__all__ = ["ADDRESS_VARIABLE", "KEYS_VARIABLE", "Address", "KeyRing", "new_key", "resolve_keys"]

ADDRESS_VARIABLE = "CELERY_ACTORS_ADDRESS"
KEYS_VARIABLE = "CELERY_ACTORS_KEYS"

_SOCKET_SCHEMES = {"unix", "redis+socket", "socket"}
_TCP_SCHEMES = {"redis", "rediss", "valkey", "valkeys"}


def _join(scheme: str, netloc: str, path: str, query: str) -> str:
    # urlunsplit drops the empty authority of unix:///path, which redis-py insists on.
    return f"{scheme}://{netloc}{path}" + (f"?{query}" if query else "")


@dataclass(frozen=True, slots=True)
class Address:
    """The address of the store, readable by redis-py and by Celery."""

    url: str  # as redis-py reads it

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``redis://``, ``rediss://``, ``unix://`` or Celery's ``redis+socket://``.

        Raises:
            ConfigurationError: another scheme, or no host or path.
        """
        scheme, mark, _ = text.partition("://")
        shown = f"{scheme}://…" if mark and scheme.replace("+", "").isalpha() else "this address"
        refused = ConfigurationError(
            f"{shown} is not one of "
            "redis://host:port/db, rediss://…, unix:///path.sock or redis+socket:///path.sock"
        )  # no more of it: what is not understood may hold a password anywhere
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise refused from None
        if not text.startswith(f"{parts.scheme}://") or ":" in parts.scheme:
            raise refused
        if parts.scheme in _SOCKET_SCHEMES:
            query = parts.query.replace("virtual_host=", "db=")
            if not parts.path:
                raise ConfigurationError("the address names no socket path: unix:///path.sock")
            return cls(_join("unix", parts.netloc, parts.path, query))
        if parts.scheme not in _TCP_SCHEMES:
            raise refused
        scheme = parts.scheme.replace("valkey", "redis")
        netloc = parts.netloc
        if not parts.hostname:
            who = f"{netloc.rpartition('@')[0]}@" if "@" in netloc else ""
            netloc = f"{who}localhost:{port or 6379}"
        return cls(_join(scheme, netloc, parts.path, parts.query))

    @property
    def celery_url(self) -> str:
        """The same address as Celery and kombu write it."""
        parts = urlsplit(self.url)
        if parts.scheme != "unix":
            return self.url
        query = parts.query.replace("db=", "virtual_host=")
        return _join("redis+socket", parts.netloc, parts.path, query)

    @property
    def socket_path(self) -> Path | None:
        """The Unix socket, or None for TCP."""
        parts = urlsplit(self.url)
        return Path(parts.path) if parts.scheme == "unix" else None

    @property
    def public(self) -> str:
        """The address without its password, for messages."""
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        shown = f"{user.split(':')[0]}:***@{host}" if at else host
        query = re.sub(r"(password=)[^&]*", r"\1***", parts.query)
        return _join(parts.scheme, shown, parts.path, query)

    @property
    def is_private(self) -> bool:
        """True for a Unix socket or a loopback host."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return True
        host = parts.hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


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
