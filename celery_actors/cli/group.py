"""The group of commands, and what an error becomes: one line and an exit status."""

from __future__ import annotations

import importlib
import sys

import click

from ..errors import ClusterUnreachableError, ConfigurationError, NodeDiedError
from .commands import COMMANDS

__all__ = ["actors", "main"]


class Commands(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, if there is one."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        found: click.Command = getattr(
            importlib.import_module(f".{module}", __package__), attribute
        )
        return found


@click.group(name="actors", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="celery-actors")
def actors() -> None:
    """Stateful actors and remote functions for Celery."""


def main() -> None:
    """Run the command line; an expected error is one line and exit status 1."""
    try:
        actors(prog_name="celery_actors")
    except (ConfigurationError, ClusterUnreachableError, NodeDiedError) as error:
        click.echo(f"celery_actors: {error}", err=True)
        sys.exit(1)
