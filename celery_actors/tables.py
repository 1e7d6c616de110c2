"""Tables in a terminal. What users have named is shown as it is, and commands nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["coloured", "console", "harmless", "table"]

#: The first group is a change of colour; all else moves the cursor, rings, or worse.
_COMMANDS = re.compile(r"(\x1b\[[0-9;]*m)|[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def console() -> Console:
    """Return where to print: a pipe has no width, and whole lines are what a script wants."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 250, highlight=False)


def harmless(text: str) -> str:
    """Return a text without characters that a terminal would obey."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def coloured(line: str) -> str:
    """Return a printed line as a terminal may have it: of what commands one, only colours stay."""
    return _COMMANDS.sub(lambda found: found[1] or "\N{REPLACEMENT CHARACTER}", line)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table without lines; its cells are text, not rich's markup."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        found.add_column(column, overflow="fold")
    for row in rows:
        found.add_row(*(Text(harmless(cell)) for cell in row))
    return found
