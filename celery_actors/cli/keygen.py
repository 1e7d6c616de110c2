"""``celery_actors keygen``."""

from __future__ import annotations

import click

from ..config import new_key
from .examples import examples
from .reach import json_option
from .show import echo_json

__all__ = ["keygen"]


@click.command(epilog=examples("export CELERY_ACTORS_KEYS=$(celery_actors keygen 2>/dev/null)"))
@json_option
def keygen(as_json: bool) -> None:
    """Print a fresh signing key for CELERY_ACTORS_KEYS.

    Put new keys first, old ones after them, separated by commas: nodes sign with the first and
    accept all.
    """
    if as_json:
        echo_json({"key": new_key()})
        return
    click.echo("# Set CELERY_ACTORS_KEYS to this on every node and driver:", err=True)
    click.echo(new_key())
