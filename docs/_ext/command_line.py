"""A directive that writes down a click command with all its options, from click's own help.

```{command} celery_actors.cli:actors
```
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["CommandDirective", "setup"]


class CommandDirective(SphinxDirective):
    """Describe each command of a group: a section with its help and its options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section for each command that is not hidden."""
        module, _, name = self.arguments[0].partition(":")
        group: click.Group = getattr(importlib.import_module(module), name)
        return list(self._sections(group, click.Context(group, info_name="celery_actors")))

    def _sections(self, group: click.Group, context: click.Context) -> Iterator[nodes.section]:
        for word in group.list_commands(context):
            command = group.get_command(context, word)
            if command is None or command.hidden:
                continue
            inner = click.Context(command, context, info_name=word)
            yield self._section(command, inner)
            if isinstance(command, click.Group):
                yield from self._sections(command, inner)

    def _section(self, command: click.Command, context: click.Context) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(f"command-{context.command_path}")])
        section += nodes.title(text=context.command_path)
        usage = command.get_usage(context).removeprefix("Usage: ")
        section += nodes.literal_block(usage, usage, language="text")
        for paragraph in (command.help or "").split("\n\n"):
            section += nodes.paragraph(text=" ".join(paragraph.split()))
        records = [p.get_help_record(context) for p in command.get_params(context)]
        found = [record for record in records if record is not None]
        listed = nodes.definition_list()
        for words, text in found:
            listed += nodes.definition_list_item(
                "", nodes.term("", "", nodes.literal(text=words)),
                nodes.definition("", nodes.paragraph(text=text)),
            )  # fmt: skip
        section += listed
        if command.epilog:
            shown = command.epilog.replace("\b\n", "").strip()
            section += nodes.literal_block(shown, shown, language="text")
        return section


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command", CommandDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
