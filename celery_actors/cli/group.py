"""The groups of commands: they import a command when it is asked for, and tell its errors."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from .commands import COMMANDS
from .failures import STATUSES, told

__all__ = ["Commands", "actors", "main"]


class Commands(click.Group):
    """A group whose commands are in a table: name, and "module:attribute" below this package."""

    def __init__(self, *args: Any, table: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return the command of this name, if there is one."""
        module, _, attribute = self._table.get(cmd_name, "").partition(":")
        if not module:
            return None
        found: click.Command = getattr(
            importlib.import_module(f".{module}", __package__), attribute
        )
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command.

        Raises:
            Failure: it ends with an error that it may end with.
        """
        with told(ctx):
            return super().invoke(ctx)


@click.group(
    name="actors", cls=Commands, table=COMMANDS, epilog=STATUSES,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.version_option(package_name="celery-actors")
def actors() -> None:
    """Stateful actors and remote functions for Celery.

    Each command has --help with examples, and --json where it shows something.
    """


def main() -> None:
    """Run the command line."""
    actors(prog_name="celery_actors")
