"""``celery_actors drain``."""

from __future__ import annotations

import click

from .reach import address_option, find_address

__all__ = ["drain"]


@click.command()
@click.argument("node")
@address_option
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    help="Seconds.",
    type=click.FloatRange(min=0, max=30 * 24 * 3600),
)
@click.option("--wait/--no-wait", default=True, help="Wait until the node has gone.")
def drain(node: str, address: str | None, timeout: float, wait: bool) -> None:
    """Have NODE (its id, or its host) end without losing work.

    It takes no new work and lets running calls finish. Actors with restarts left move to other
    nodes, with the calls that wait for them. An actor that cannot restart serves until the timeout,
    and so may a running call; then both are ended.
    """
    from .. import drain as draining
    from ..store import Store

    store = Store(find_address(address))
    found = draining.find_node(store, node)
    stays = draining.what_stays(store, found.node_id)
    if stays:
        click.echo(
            f"cannot move, and may serve for {timeout:g} s: {', '.join(stays)} (max_restarts)",
            err=True,
        )
    draining.drain(
        store, found.node_id, timeout, wait=wait, say=lambda text: click.echo(text, err=True)
    )
    click.echo(f"{found.node_id} has {'gone' if wait else 'begun to drain'}")
