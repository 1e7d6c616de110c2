"""How a command finds and reaches the cluster that it is about: the options, the address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..config import Address
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..store import Store

__all__ = [
    "address_option", "checked", "find_address", "given_app", "is_local", "json_option",
    "key_file_option", "namespace_option", "open_store",
]  # fmt: skip

#: Seconds for a connection, and for its first answer. A wrong address must be told within three
#: seconds, and Python has to start, too.
ANSWER_SECONDS = 1.0
#: Seconds for one answer of a store that has answered before.
PATIENCE_SECONDS = 10.0

address_option = click.option(
    "--address", metavar="URL",
    help="redis://host:6379/0, rediss://…, sentinel://host:26379/name/0, unix:///path; "
    "?global_keyprefix=shop: behind it is what stands before every key. Default: "
    "the broker of the app in `celery -A app actors …`, CELERY_ACTORS_ADDRESS, or your newest "
    "local cluster.",
)  # fmt: skip
key_file_option = click.option(
    "--key-file", type=click.Path(exists=True, dir_okay=False), help="Signing keys, in a file."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
namespace_option = click.option("--namespace", help="Where the name is looked up. Default: in all.")


def given_app(ctx: click.Context | None = None) -> Any:
    """Return the Celery app of ``celery -A app actors``; None where none was named."""
    ctx = ctx or click.get_current_context(silent=True)
    root = ctx.find_root() if ctx is not None else None
    if root is None or not (root.params.get("app") or root.params.get("broker")):
        return None
    return getattr(root.obj, "app", None)


def find_address(
    given: str | None, ctx: click.Context | None = None, *, sure: bool = False
) -> Address:
    """Return the address of the cluster that a command is about.

    Where none was named it is the newest local one; with ``sure``, the only one.

    Raises:
        ConfigurationError: it is no address, or not sure.
        ClusterUnreachableError: none was given, and no local cluster runs.
    """
    from ..embedded import local_addresses
    from ..init_arguments import wanted_address

    found = wanted_address(given, given_app(ctx))
    if isinstance(found, Address):
        return found
    newest, *others = local_addresses()
    if others:
        words = f"{len(others) + 1} local clusters of yours are running"
        if sure:
            named = ", ".join(each.public for each in (newest, *others))
            raise ConfigurationError(f"{words}: say which one with --address. They are {named}")
        click.echo(f"{words}; this is the newest. --address names another", err=True)
    return newest


def is_local(given: str | None) -> bool:
    """Tell whether a command is about the newest local cluster, as nothing else was named."""
    from ..init_arguments import wanted_address

    return not isinstance(wanted_address(given, given_app()), Address)


def checked(address: Address) -> str:
    """Return the version of the server at an address.

    Raises:
        ClusterUnreachableError: it does not answer, within seconds.
    """
    from ..store import Store

    return Store.probe(address, ANSWER_SECONDS)


@contextlib.contextmanager
def open_store(given: str | None) -> Iterator[Store]:
    """Give a client of the store.

    Raises:
        ConfigurationError, ClusterUnreachableError: as ``find_address`` and ``checked``.
    """
    from ..store import Store

    address = find_address(given)
    checked(address)
    store = Store(address, patience=PATIENCE_SECONDS)
    try:
        yield store
    finally:
        store.close()
