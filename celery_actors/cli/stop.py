"""``celery_actors stop``."""

from __future__ import annotations

import click

from .examples import examples
from .failures import Failure
from .reach import address_option, is_local, json_option, open_store
from .show import echo_json

__all__ = ["stop"]


@click.command(
    epilog=examples(
        "celery_actors stop",
        "celery_actors stop --address redis://10.0.0.5:6379/0 --force",
        "celery_actors drain gpu-3    # any node, from any machine, without losing an actor",
    )
)
@address_option
@click.option("--force", is_flag=True, help="Kill at once: running calls are cut off.")
@click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(min=0), metavar="SECONDS",
    help="How long to wait for the end.",
)  # fmt: skip
@json_option
def stop(address: str | None, force: bool, timeout: float, as_json: bool) -> None:
    """End the nodes of this machine, or your newest local cluster with its store.

    A node ends as on SIGTERM: it takes no new work, and running calls have half a minute to finish.
    Without an address it is the newest local cluster, and its driver's calls fail.
    """
    from .. import stopping
    from ..embedded import end_store

    def say(text: str) -> None:
        click.echo(text, err=True)

    local = is_local(address)
    with open_store(address) as store:
        nodes = stopping.nodes_here(store)
        if not nodes and not local:
            raise Failure(f"no node of the cluster at {store.address.public} runs on this machine")
        say(f"the cluster at {store.address.public}")
        stopping.stop(store, nodes, timeout, force=force, say=say)
        if local:
            end_store(store)
    ids = [record.node_id for record in nodes]
    if as_json:
        echo_json({"stopped": ids, "store": local})
    else:
        click.echo(f"stopped: {', '.join([*ids, *(['the local store'] if local else [])])}")
