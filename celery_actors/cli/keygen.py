"""``celery_actors keygen``."""

from __future__ import annotations

import click

from ..config import new_key

__all__ = ["keygen"]


@click.command()
def keygen() -> None:
    """Print a fresh signing key for CELERY_ACTORS_KEYS.

    Put new keys first, old ones after them, separated by commas: nodes sign with the first and
    accept all.
    """
    click.echo("# Set CELERY_ACTORS_KEYS to this on every node and driver:", err=True)
    click.echo(new_key())
