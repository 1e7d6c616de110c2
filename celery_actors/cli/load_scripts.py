"""``celery_actors load-scripts``."""

from __future__ import annotations

import signal
import threading

import click

from .reach import address_option, find_address

__all__ = ["load_scripts"]


@click.command("load-scripts")
@address_option
@click.option("--watch", is_flag=True, help="Stay, and load them again when the store restarts.")
def load_scripts(address: str | None, watch: bool) -> None:
    """Load this version's scripts into a store whose nodes and drivers may not.

    The user in the address needs SCRIPT LOAD and SCRIPT EXISTS, and no key.
    """
    from .. import script_loader
    from ..store import Store

    store = Store(find_address(address), retries=0, patience=5)
    if not watch:
        click.echo(script_loader.in_words(script_loader.load(store)))
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # a container's first process ignores them else
        signal.signal(number, lambda *_: stop.set())
    script_loader.keep_loaded(store, stop, lambda text: click.echo(text, err=True))
