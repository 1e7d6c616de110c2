"""How a command shows what it has found: a table for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

__all__ = ["echo_fields", "echo_json", "echo_table"]


def echo_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False))


def echo_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Print a table, or on standard error that there is nothing to show."""
    from .. import tables

    rows = list(rows)
    if rows:
        tables.console().print(tables.table("", columns, rows))
    else:
        click.echo(empty, err=True)


def echo_fields(fields: Mapping[str, Any]) -> None:
    """Print one thing in full: a name and a value per line; of a list, a line per member."""
    from ..tables import harmless

    width = max(map(len, fields))
    for name, value in fields.items():
        first, *others = [*value] if isinstance(value, list) and value else [value]
        click.echo(f"{name:<{width}}  {harmless(_text(first))}")
        for other in others:
            click.echo(f"{'':<{width}}  {harmless(_text(other))}")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_text(each)}" for name, each in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value in ("", None, []) else str(value)
