"""``celery_actors get``."""

from __future__ import annotations

import click

from .examples import examples
from .names import anything
from .reach import address_option, json_option, namespace_option, open_store
from .show import echo_fields, echo_json

__all__ = ["get"]


@click.command(
    epilog=examples(
        "celery_actors get till",
        "celery_actors get gpu-3 --json | jq .labels",
        "celery_actors get ca.actor.shop.till",
    )
)
@click.argument("name", shell_complete=anything)
@address_option
@namespace_option
@json_option
def get(name: str, address: str | None, namespace: str | None, as_json: bool) -> None:
    """Show one actor, node, call or queue in full.

    NAME is the name of an actor or queue, the id (of an actor its begin will do) of anything, or
    the host of a node.
    """
    from .. import details

    with open_store(address) as store:
        found = details.find(store, name, namespace)
    (echo_json if as_json else echo_fields)(found)
