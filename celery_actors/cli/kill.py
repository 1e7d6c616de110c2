"""``celery_actors kill``."""

from __future__ import annotations

import click

from .examples import examples
from .failures import Failure
from .names import actor
from .reach import address_option, json_option, namespace_option, open_store
from .show import echo_json

__all__ = ["kill"]


@click.command(
    epilog=examples(
        "celery_actors kill till --namespace shop",
        "celery_actors kill 4f2a91 --restart",
    )
)
@click.argument("name", shell_complete=actor)
@address_option
@namespace_option
@click.option(
    "--restart", is_flag=True,
    help="End the process only: the actor starts again where its max_restarts allow it, and "
    "waiting calls survive. One that stands still (FROZEN) is started again.",
)  # fmt: skip
@json_option
def kill(
    name: str, address: str | None, namespace: str | None, restart: bool, as_json: bool
) -> None:
    """End an actor (its name or id) at once, like kill -9.

    Its running and waiting calls fail with ActorDiedError.
    """
    from .. import directory
    from ..lookup import find_actor, title_of
    from ..runtime import RESULT_SECONDS

    with open_store(address) as store:
        found = find_actor(store, name, namespace)
        if found.state == "DEAD":
            raise Failure(f"{found.title} is dead already: {found.meta.get('cause')}")
        if restart:
            directory.end_process(store, found.actor_id, found.keys.queue)
        else:
            cause = "it was ended by `celery_actors kill`"
            directory.end(store, found.actor_id, found.keys.queue, cause, RESULT_SECONDS)
    if as_json:
        echo_json({"actor_id": found.actor_id, "killed": not restart, "restarted": restart})
    else:
        click.echo(f"{title_of(found)} {'was told to restart' if restart else 'is dead'}")
