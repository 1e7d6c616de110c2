"""``celery_actors drain``."""

from __future__ import annotations

import click

from .examples import examples
from .names import node as node_names
from .reach import address_option, json_option, open_store
from .show import echo_json

__all__ = ["drain"]


@click.command(
    epilog=examples("celery_actors drain gpu-3", "celery_actors drain gpu-3-1f2e3d4c --no-wait")
)
@click.argument("node", shell_complete=node_names)
@address_option
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    help="Seconds.",
    type=click.FloatRange(min=0, max=30 * 24 * 3600),
)
@click.option("--wait/--no-wait", default=True, help="Wait until the node has gone.")
@json_option
def drain(node: str, address: str | None, timeout: float, wait: bool, as_json: bool) -> None:
    """Have NODE (its id, or its host) end without losing work.

    It takes no new work and lets running calls finish. Actors with restarts left move to other
    nodes, with the calls that wait for them. An actor that cannot restart serves until the timeout,
    and so may a running call; then both are ended.
    """
    from .. import drain as draining
    from ..lookup import find_node

    def say(text: str) -> None:
        click.echo(text, err=True)

    with open_store(address) as store:
        found = find_node(store, node)
        stays = draining.what_stays(store, found.node_id)
        if stays:
            say(f"cannot move, and may serve for {timeout:g} s: {', '.join(stays)} (max_restarts)")
        draining.drain(store, found.node_id, timeout, wait=wait, say=say)
    if as_json:
        echo_json({"node_id": found.node_id, "gone": wait})
    else:
        click.echo(f"{found.node_id} has {'gone' if wait else 'begun to drain'}")
