"""Where the store is: one server, a Unix socket, or the primary that sentinels name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from .errors import ConfigurationError

__all__ = ["ADDRESS_VARIABLE", "Address"]

ADDRESS_VARIABLE = "CELERY_ACTORS_ADDRESS"

_SOCKET_SCHEMES = {"unix", "redis+socket", "socket"}
_TCP_SCHEMES = {"redis", "rediss", "valkey", "valkeys"}
#: With an s: TLS to the sentinels and to the servers that they name.
_SENTINEL_SCHEMES = {"sentinel", "sentinels"}
_TLS_SCHEMES = {"rediss", "sentinels"}
_SENTINEL_PORT = 26379
#: Options of an address that are for the sentinels, not for the servers.
_OF_SENTINELS = ("sentinel_username", "sentinel_password")
#: The option that is for this package: what stands before every key and channel. It is called as
#: kombu and Celery call it.
_PREFIX = "global_keyprefix"
#: How a prefix may end. Celery puts a `_` behind any other for its results, and kombu does not.
_PREFIX_ENDS = ":_-."
_FORMS = (
    "redis://host:port/db, rediss://…, unix:///path.sock, redis+socket:///path.sock or "
    "sentinel://host:port,host:port/name/db"
)


def _join(scheme: str, netloc: str, path: str, query: str) -> str:
    # urlunsplit drops the empty authority of unix:///path, which redis-py insists on.
    return f"{scheme}://{netloc}{path}" + (f"?{query}" if query else "")


def _words(query: str) -> dict[str, str]:
    return dict(parse_qsl(query, keep_blank_values=True))


def _without_prefix(query: str) -> str:
    """Return the options that redis-py knows, each as it was written."""
    return "&".join(each for each in query.split("&") if not each.startswith(f"{_PREFIX}="))


def is_store_url(url: str) -> bool:
    """Tell whether Celery's url of a broker or result backend names a Redis or Valkey."""
    return bool(re.match(r"(redis|rediss|valkey|valkeys|sentinel|sentinels|unix)(\+socket)?:", url))


@dataclass(frozen=True, slots=True)
class Address:
    """The address of the store.

    ``url`` is as redis-py reads it; of a store with sentinels it is
    ``sentinel://user:password@host:port,host:port/name/db?options``, where ``name`` is what they
    call the primary. Options are redis-py's, such as ``ssl_ca_certs``, and ``global_keyprefix``.
    """

    url: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``redis://``, ``rediss://``, ``unix://``, ``sentinel://`` or Celery's own forms.

        Celery's ``sentinel://host:port;sentinel://host:port`` needs ``?master_name=…`` behind it.

        Raises:
            ConfigurationError: another scheme, no host or path, no name of a primary, or a prefix
                that Celery would change.
        """
        found = cls._read(text)
        prefix = found.prefix
        if not prefix:
            return found
        if prefix[-1] not in _PREFIX_ENDS:
            raise ConfigurationError(
                f"global_keyprefix is {prefix!r}, and must end with one of "
                f"{' '.join(_PREFIX_ENDS)}: behind any other Celery puts a `_` for results, and "
                f"none for queues. Write {prefix + ':'!r}"
            )
        parts = urlsplit(found.url)
        words = (_without_prefix(parts.query), urlencode({_PREFIX: prefix}, safe=":/"))
        return cls(_join(parts.scheme, parts.netloc, parts.path, "&".join(filter(None, words))))

    @classmethod
    def _read(cls, text: str) -> Address:
        scheme, mark, _ = text.partition("://")
        shown = f"{scheme}://…" if mark and scheme.replace("+", "").isalpha() else "this address"
        # No more of it: what is not understood may hold a password anywhere.
        refused = ConfigurationError(f"{shown} is not one of {_FORMS}")
        try:
            if mark and scheme in _SENTINEL_SCHEMES:
                return cls(_sentinel_url(text))
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            if isinstance(error, ConfigurationError):
                raise
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
        return cls(_join(scheme, netloc, parts.path, _verified(scheme, parts.query)))

    @classmethod
    def of_celery(cls, url: str, transport_options: Mapping[str, Any], use_ssl: Any) -> Address:
        """Read the address that a Celery app has for its broker.

        Raises:
            ConfigurationError: as ``parse``.
        """
        more: dict[str, Any] = {}
        if name := transport_options.get("master_name"):
            more["master_name"] = name
        if prefix := transport_options.get(_PREFIX):
            more[_PREFIX] = prefix
        sentinel_options = transport_options.get("sentinel_kwargs") or {}
        more |= {f"sentinel_{word}": sentinel_options[word] for word in ("username", "password")
                 if sentinel_options.get(word)}  # fmt: skip
        if use_ssl:
            url = re.sub(r"(^|;)(redis|sentinel)://", r"\1\2s://", url)
            more |= {word: _plain(value) for word, value in dict(use_ssl).items()
                     if value is not None} if isinstance(use_ssl, Mapping) else {}  # fmt: skip
        return cls.parse(url + ("&" if "?" in url else "?") * bool(more) + urlencode(more))

    @property
    def place(self) -> tuple[object, ...]:
        """What tells one database of one server from others, by whatever words it is named."""
        return tuple(self.hosts), self.socket_path, self.service, self._database

    @property
    def prefix(self) -> str:
        """What stands before every key and channel: kombu's ``global_keyprefix``; '' for none."""
        return _words(urlsplit(self.url).query).get(_PREFIX, "")

    @property
    def service(self) -> str:
        """What the sentinels call the primary; '' where the address names the server itself."""
        parts = urlsplit(self.url)
        return unquote(parts.path.split("/")[1]) if parts.scheme in _SENTINEL_SCHEMES else ""

    @property
    def hosts(self) -> list[tuple[str, int]]:
        """The host and port of the server, or of each sentinel; none for a Unix socket."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return []
        default = _SENTINEL_PORT if self.service else 6379
        return [_host(each, default) for each in parts.netloc.rpartition("@")[2].split(",")]

    @property
    def server_url(self) -> str:
        """The url that redis-py can open.

        Of a store with sentinels that of a server that they name, without its host.
        """
        parts = urlsplit(self.url)
        if not self.service:
            return _join(parts.scheme, parts.netloc, parts.path, _without_prefix(parts.query))
        who = parts.netloc.rpartition("@")[0]
        query = {name: value for name, value in _words(parts.query).items()
                 if name not in (*_OF_SENTINELS, _PREFIX)}  # fmt: skip
        scheme = "rediss" if self.is_encrypted else "redis"
        netloc = f"{who}@primary" if who else "primary"
        return _join(scheme, netloc, f"/{self._database}", urlencode(query))

    @property
    def sentinel_credentials(self) -> dict[str, str]:
        """The ``username`` and ``password`` for the sentinels themselves, as far as given."""
        query = _words(urlsplit(self.url).query)
        return {
            name.removeprefix("sentinel_"): query[name] for name in _OF_SENTINELS if name in query
        }

    @property
    def is_encrypted(self) -> bool:
        """True for TLS."""
        return urlsplit(self.url).scheme in _TLS_SCHEMES

    @property
    def tls_options(self) -> dict[str, Any]:
        """What redis-py and kombu must know to speak TLS; nothing without it."""
        if not self.is_encrypted:
            return {}
        query = _words(urlsplit(self.url).query)
        found: dict[str, Any] = {name: query[name] for name in query if name.startswith("ssl_")}
        if "ssl_check_hostname" in found:
            found["ssl_check_hostname"] = found["ssl_check_hostname"].lower() not in (
                "false", "no", "0", "f", "n",
            )  # fmt: skip
        if "ssl_min_version" in found:
            found["ssl_min_version"] = int(found["ssl_min_version"])
        return found

    @property
    def _database(self) -> str:
        return urlsplit(self.url).path.rpartition("/")[2] or "0"

    @property
    def celery_url(self) -> str:
        """The same address as Celery and kombu write it.

        They know a primary's name and a prefix from ``broker_transport_options``: see
        ``broker.app``.
        """
        parts = urlsplit(self.url)
        query = _words(_without_prefix(parts.query))
        if parts.scheme == "unix":
            if "db" in query:
                query["virtual_host"] = query.pop("db")
            return _join("redis+socket", parts.netloc, parts.path, urlencode(query))
        who, at, _ = parts.netloc.rpartition("@")
        if self.service:
            return ";".join(
                f"sentinel://{who}{at}{_place(host, port)}/{self._database}"
                for host, port in self.hosts
            )
        # What else redis-py understands, kombu refuses.
        known = {name: value for name, value in query.items() if name.startswith("ssl_")}
        path = f"/{query['db']}" if "db" in query else parts.path
        return _join(parts.scheme, parts.netloc, path, urlencode(known, safe="/"))

    @property
    def shared_form(self) -> str:
        """The address as others may be told it: Celery's form where that says everything."""
        return self.url if self.service or self.prefix else self.celery_url

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
        """True for a Unix socket or a loopback host; never where sentinels name the server."""
        if self.service:
            return False
        return all(_is_loopback(host) for host, _ in self.hosts)

    @property
    def patience(self) -> float:
        """Seconds for which a store that is lost may stay away before callers and nodes give up.

        A failover takes as long as the sentinels' ``down-after-milliseconds``, 30 s unless they
        were told otherwise, and an election.
        """
        return 60.0 if self.service else 10.0


def _host(text: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("no host")
    return parts.hostname, parts.port or default


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _verified(scheme: str, query: str) -> str:
    """Return the options of an address with TLS, which says that certificates are verified."""
    if scheme not in _TLS_SCHEMES:
        return query
    words = _words(query)
    given = words.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    return urlencode(sorted({**words, "ssl_cert_reqs": given}.items()), safe="/")


def _plain(value: Any) -> Any:
    """Return an option of `broker_use_ssl` as redis-py writes it in an address."""
    name = getattr(value, "name", "")  # ssl.CERT_REQUIRED and its like
    return name.removeprefix("CERT_").lower() if name.startswith("CERT_") else value


def _sentinel_url(text: str) -> str:
    """Return an address with sentinels in one form.

    Raises:
        ConfigurationError: it names no primary. ValueError: it cannot be read.
    """
    places: list[str] = []
    query: dict[str, str] = {}
    who, database, service = "", "", ""
    scheme = text.partition("://")[0]
    for piece in text.split(";"):
        found, mark, rest = piece.partition("://")
        if found not in _SENTINEL_SCHEMES or not mark:
            raise ValueError("not every part is a sentinel")
        head, _, options = rest.partition("?")
        netloc, _, path = head.partition("/")
        user, _, hosts = netloc.rpartition("@")
        places += [_place(*_host(each, _SENTINEL_PORT)) for each in hosts.split(",")]
        query |= _words(options)
        who = who or user
        *names, last = [word for word in path.split("/") if word] or [""]
        if last.isdigit():
            database, names = database or last, names[:1]
        else:
            names = [last]
        service = service or "".join(names)
    service = quote(query.pop("master_name", ""), safe="") or service
    if not service:
        raise ConfigurationError(
            "the address names sentinels and not which primary: write "
            "sentinel://host:port,host:port/<name>/<db>, or put ?master_name=<name> behind "
            "Celery's form. `SENTINEL MASTERS` on a sentinel lists the names"
        )
    netloc = f"{who}@{','.join(places)}" if who else ",".join(places)
    options = _verified(scheme, urlencode(sorted(query.items()), safe="/"))
    return _join(scheme, netloc, f"/{service}/{database or '0'}", options)
