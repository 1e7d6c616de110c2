"""``celery -A proj actors …``: what Celery's command loads from the entry point celery.commands.

A module of its own, because every run of ``celery`` loads it, and importing the package would make
each of them half a second longer.
"""

from __future__ import annotations

from typing import Any

import click

__all__ = ["actors"]


class _Late(click.Group):
    """The commands of ``celery_actors``, imported when one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from celery_actors.cli import actors as whole

        return whole.list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from celery_actors.cli import actors as whole

        return whole.get_command(ctx, cmd_name)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from celery_actors.cli import actors as whole

        whole.format_epilog(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        from celery_actors.cli.failures import told

        with told(ctx):
            return super().invoke(ctx)


@click.group(cls=_Late, context_settings={"help_option_names": ["-h", "--help"]})
def actors() -> None:
    """Actors and remote functions: nodes, lists, logs, calls (celery_actors)."""
