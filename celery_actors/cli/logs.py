"""``celery_actors logs``."""

from __future__ import annotations

import contextlib

import click

from .examples import examples
from .names import actor_or_node
from .reach import address_option, json_option, namespace_option, open_store
from .show import echo_json

__all__ = ["logs"]


@click.command(
    epilog=examples(
        "celery_actors logs till -f",
        "celery_actors logs 4f2a91 -n 20",
        "celery_actors logs gpu-3 --json | jq -r .text",
    )
)
@click.argument("name", shell_complete=actor_or_node)
@address_option
@namespace_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is printed next.")
@click.option(
    "-n", "--lines", default=100, show_default=True, type=click.IntRange(min=0), metavar="N",
    help="How many of the last lines.",
)  # fmt: skip
@json_option
def logs(
    name: str, address: str | None, namespace: str | None, follow: bool, lines: int, as_json: bool
) -> None:
    """Show what an actor or a node's workers have printed, from any machine.

    NAME is the name or id of an actor, or the id or host of a node. About the last 1,000 lines are
    kept, for a day after an actor's death. With --json each line is an object.
    """
    from .. import logs as reader
    from ..tables import coloured

    with open_store(address) as store, contextlib.suppress(KeyboardInterrupt):
        log = reader.log_of(store, name, namespace)

        def show(line: reader.LogLine) -> None:
            if as_json:
                echo_json(line._asdict())
            else:
                click.echo(coloured(str(line) if log.node_id else line.text))

        for line in log.last(lines):
            show(line)
        for line in log.follow() if follow else ():
            show(line)
