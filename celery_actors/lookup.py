"""What an operator means by a name or an id: an actor, a node, its log."""

from __future__ import annotations

from . import directory, registry
from .directory import ActorRecord
from .errors import NotFoundError
from .registry import NodeRecord
from .store import Store

__all__ = ["find_actor", "find_node", "title_of"]

#: Characters of an id that say which one is meant, where no other begins with them.
_SHORTEST = 4


def title_of(record: ActorRecord) -> str:
    """Return what a table calls an actor: ``Counter(name)``, or its id where it has no name."""
    return record.title.removeprefix("actor ")


def find_actor(
    store: Store, name: str, namespace: str | None = None, *, dead: bool = True
) -> ActorRecord:
    """Return the actor of this name, or whose id this is or begins with.

    The living go first, then the dead that are remembered, newest first.

    Raises:
        NotFoundError: there is none, or there are several; says which.
    """
    living = directory.actors(store)
    for where in (living, directory.buried(store) if dead else []):
        wanted = [record for record in where if _matches(record, name, namespace)]
        if where is not living:
            wanted = wanted[:1]  # names are taken again and again
        if len(wanted) > 1:
            said = ", ".join(
                f"{title_of(record)} {record.actor_id} in {record.meta.get('namespace')}"
                for record in wanted
            )
            raise NotFoundError(
                f"{name!r} may be several actors: {said}. Give an id, or --namespace"
            )
        if wanted:
            return wanted[0]
    inside = f" in the namespace {namespace!r}" if namespace else ""
    raise NotFoundError(
        f"no actor has the name or the id {name!r}{inside}. `celery_actors list actors` shows all"
    )


def _matches(record: ActorRecord, name: str, namespace: str | None) -> bool:
    if namespace and record.meta.get("namespace") != namespace:
        return False
    return name == record.name or (
        len(name) >= _SHORTEST and record.actor_id.startswith(name.lower())
    )


def find_node(store: Store, name: str) -> NodeRecord:
    """Return the living node with this id, or the only one on this host.

    Raises:
        NotFoundError: there is none, or several; says which there are.
    """
    living = [record for record in registry.records(store) if record.alive]
    found = [record for record in living if record.node_id == name]
    found = found or [record for record in living if record.about["host"] == name]
    if len(found) == 1:
        return found[0]
    ids = ", ".join(sorted(record.node_id for record in found or living)) or "none"
    if found:
        raise NotFoundError(f"several nodes run on {name}: name one by its id: {ids}")
    raise NotFoundError(f"no living node has the id or the host {name!r}. Living: {ids}")
