"""How a command finds the cluster that it is about: the options, the address, the store."""

from __future__ import annotations

import click

from ..config import ADDRESS_VARIABLE, Address

__all__ = ["address_option", "find_address", "json_option", "key_file_option"]

address_option = click.option(
    "--address", envvar=ADDRESS_VARIABLE, metavar="URL",
    help="redis://host:6379/0, rediss://…, sentinel://host:26379/name/0, unix:///path; default: "
    "your newest local cluster.",
)  # fmt: skip
key_file_option = click.option(
    "--key-file", type=click.Path(exists=True, dir_okay=False), help="Signing keys, in a file."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable.")


def find_address(given: str | None) -> Address:
    """Return the address of the cluster that a command is about.

    Raises:
        ConfigurationError: it is no address.
        ClusterUnreachableError: none was given, and no local cluster runs.
    """
    if given and given != "auto":
        return Address.parse(given)
    from ..embedded import newest_address

    return newest_address()
