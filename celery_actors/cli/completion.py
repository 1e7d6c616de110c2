"""``celery_actors completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .examples import examples

__all__ = ["completion"]

#: click finds the request for words in this variable.
_VARIABLE = "_CELERY_ACTORS_COMPLETE"


@click.command(
    epilog=examples(
        'bash: eval "$(celery_actors completion bash)"    # in ~/.bashrc',
        'zsh:  eval "$(celery_actors completion zsh)"     # in ~/.zshrc, after compinit',
        "fish: celery_actors completion fish > ~/.config/fish/completions/celery_actors.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options, living actors and nodes."""
    from .group import actors

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has the three of the choice
    click.echo(kind(actors, {}, "celery_actors", _VARIABLE).source())
