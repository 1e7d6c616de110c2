"""``celery_actors top``."""

from __future__ import annotations

import contextlib
import sys
import time

import click

from .examples import examples
from .reach import address_option, json_option, open_store
from .show import echo_json

__all__ = ["top"]


@click.command(epilog=examples("celery_actors top", "celery_actors top --json | jq .actors[0]"))
@address_option
@click.option(
    "--every", default=2.0, show_default=True, type=click.FloatRange(min=0.2), metavar="SECONDS",
)  # fmt: skip
@json_option
def top(address: str | None, every: float, as_json: bool) -> None:
    """Show live what nodes have free, and which actors have how much to do. Ctrl-C ends it.

    Where the output is no terminal it is shown once, and so is --json: rates are those of one
    interval.
    """
    from rich.live import Live

    from .. import activity, tables

    with open_store(address) as store, contextlib.suppress(KeyboardInterrupt):
        seen = activity.look(store)
        if as_json or not sys.stdout.isatty():
            time.sleep(every)
            seen = activity.look(store, seen)
            if as_json:
                echo_json(activity.plain(seen))
            else:
                tables.console().print(activity.shown(seen, store.address.public))
            return
        with Live(activity.shown(seen, store.address.public), screen=True) as live:
            while True:
                time.sleep(every)
                seen = activity.look(store, seen)
                live.update(activity.shown(seen, store.address.public), refresh=True)
