"""``celery_actors status``."""

from __future__ import annotations

import click

from .examples import examples
from .reach import address_option, json_option, open_store
from .show import echo_json

__all__ = ["status"]


@click.command(epilog=examples("celery_actors status", "celery_actors status --json | jq .nodes"))
@address_option
@json_option
def status(address: str | None, as_json: bool) -> None:
    """Show the nodes of a cluster, their devices and who holds them, and the actors."""
    from ..status import collect, show

    with open_store(address) as store:
        state = collect(store)
    if as_json:
        echo_json(state)
    else:
        show(state, store.address.public)
