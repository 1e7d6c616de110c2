"""What an error becomes: one line on standard error, and an exit status that scripts can use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, Any

import click
from click.exceptions import NoArgsIsHelpError

from ..errors import ClusterUnreachableError, ConfigurationError, RayError, StoreError

__all__ = ["EXPECTED", "STATUSES", "Failure", "Misuse", "Unreachable", "failure_of", "told"]

STATUSES = (
    "Exit status: 0 done, 1 what was asked about failed or is not there, 2 wrong options or "
    "settings, 3 the store does not answer or refuses."
)

#: The errors that a command may end with; any other is a bug, and shows where it is.
EXPECTED = (RayError, click.UsageError, PermissionError)


class Failure(click.ClickException):
    """What was asked about failed, or is not there. It is told in one line."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line."""
        click.echo(f"celery_actors: {' '.join(self.message.split())}", file=file, err=file is None)


class Misuse(Failure):
    """Options or settings are wrong."""

    exit_code = 2


class Unreachable(Failure):
    """The store does not answer, or refuses."""

    exit_code = 3


@contextlib.contextmanager
def told(ctx: click.Context) -> Iterator[None]:
    """Run a command: an error that it may end with is one line and an exit status.

    Raises:
        Failure: that error.
    """
    try:
        yield
    except NoArgsIsHelpError:
        raise  # click shows the help
    except EXPECTED as error:
        raise failure_of(error, ctx) from error


def failure_of(error: Exception, ctx: click.Context) -> Failure:
    """Return how a command's error is told."""
    if isinstance(error, click.UsageError):
        asked = error.ctx or ctx
        return Misuse(f"{error.format_message()} See {asked.command_path} --help")
    if isinstance(error, ClusterUnreachableError | StoreError):
        return Unreachable(str(error))
    settings = isinstance(error, ConfigurationError | PermissionError)
    return (Misuse if settings else Failure)(str(error))
