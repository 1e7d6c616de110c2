"""What a shell offers for a word: living actors and nodes, quickly, and silent without a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["actor", "actor_or_node", "anything", "node"]

#: Seconds for one answer: somebody waits with a finger on the key.
ANSWER_SECONDS = 0.7
_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _from_store(look: Callable[[Store], list[CompletionItem]]) -> _Complete:
    def complete(
        ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from ..errors import RayError
        from ..store import Store
        from .reach import find_address

        try:
            address = find_address(ctx.params.get("address"), ctx)
            store = Store(address, retries=0, patience=ANSWER_SECONDS)
            try:
                found = look(store)
            finally:
                store.close()
        except (RayError, OSError):
            return []  # a line in the middle of what somebody types helps nobody
        return [item for item in found if item.value.startswith(incomplete)]

    return complete


def _actors(store: Store) -> list[CompletionItem]:
    from .. import directory

    return [
        CompletionItem(
            record.name or record.actor_id,
            help=f"{record.class_name}, {record.state}, namespace {record.meta.get('namespace')}",
        )
        for record in directory.actors(store)
    ]


def _nodes(store: Store) -> list[CompletionItem]:
    from .. import registry

    return [
        CompletionItem(record.node_id, help=f"node on {record.about['host']}")
        for record in registry.records(store) if record.alive
    ]  # fmt: skip


def _queues(store: Store) -> list[CompletionItem]:
    from .. import listing

    return [CompletionItem(each["queue"], help=each["what"]) for each in listing.queues(store)]


actor = _from_store(_actors)
node = _from_store(_nodes)
actor_or_node = _from_store(lambda store: [*_actors(store), *_nodes(store)])
anything = _from_store(lambda store: [*_actors(store), *_nodes(store), *_queues(store)])
