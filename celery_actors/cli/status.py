"""``celery_actors status``."""

from __future__ import annotations

import json

import click

from .reach import address_option, find_address, json_option

__all__ = ["status"]


@click.command()
@address_option
@json_option
def status(address: str | None, as_json: bool) -> None:
    """Show the nodes of a cluster, their devices and who holds them, and the actors."""
    from ..status import collect, show
    from ..store import Store

    found = find_address(address)
    state = collect(Store(found, retries=0, patience=3))
    if as_json:
        click.echo(json.dumps(state))
        return
    show(state, found.public)
