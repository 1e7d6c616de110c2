"""An error is one line and an exit status; what users have named commands no terminal."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from celery_actors import tables
from celery_actors.cli.failures import told
from celery_actors.errors import (
    ClusterUnreachableError,
    ConfigurationError,
    NodeDiedError,
    NotFoundError,
    StoreError,
)


def command_that_raises(error: Exception) -> click.Command:
    @click.command()
    @click.pass_context
    def command(ctx: click.Context) -> None:
        with told(ctx):
            raise error

    return command


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("no actor\nhas this name"), 1),
        (NodeDiedError("it is still there"), 1),
        (ConfigurationError("no address"), 2),
        (PermissionError(13, "Permission denied", "/etc/keys"), 2),
        (click.UsageError("no such option"), 2),
        (ClusterUnreachableError("no answer"), 3),
        (StoreError("refused"), 3),
    ],
)
def test_an_expected_error_is_one_line_and_a_status(error: Exception, status: int) -> None:
    run = CliRunner().invoke(command_that_raises(error))

    assert run.exit_code == status
    (line,) = run.stderr.splitlines()
    assert line.startswith("celery_actors: ")
    assert run.stdout == ""


def test_a_bug_shows_where_it_is() -> None:
    run = CliRunner().invoke(command_that_raises(ZeroDivisionError()))

    assert isinstance(run.exception, ZeroDivisionError)


def test_a_wrong_option_names_the_help_of_its_command() -> None:
    run = CliRunner().invoke(command_that_raises(click.UsageError("no such option.")))

    assert "no such option. See command --help" in run.stderr


def test_a_printed_line_keeps_its_colours_and_tabs_and_nothing_else_that_commands() -> None:
    line = "\x1b[31mred\x1b[0m\tand\x1b[2J\x1b]0;title\x07\r\x9b5"

    assert tables.coloured(line) == (
        "\x1b[31mred\x1b[0m\tand\ufffd[2J\ufffd]0;title\ufffd\ufffd\ufffd5"
    )


def test_what_a_terminal_would_obey_is_shown_as_a_mark(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["\x1b[2J[/red]", "a\nb"]]

    tables.console().print(tables.table("", ("name", "text"), rows))

    shown = capsys.readouterr().out
    assert "\ufffd[2J[/red]" in shown
    assert "a\ufffdb" in shown
    assert "\x1b" not in shown
