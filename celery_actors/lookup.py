"""What an operator means by a name or an id: an actor, dead or alive, or a node."""

from __future__ import annotations

from . import directory, registry
from .directory import ActorRecord
from .errors import NotFoundError
from .registry import NodeRecord
from .store import Store

__all__ = ["find_actor", "find_node", "record_of", "title_of"]

#: Characters of an id that say which one is meant, where no other begins with them.
_SHORTEST = 4


def title_of(record: ActorRecord) -> str:
    """Return what a table calls an actor: ``Counter(name)``, or its id where it has no name."""
    return record.title.removeprefix("actor ")


def record_of(store: Store, actor_id: str) -> ActorRecord | None:
    """Return the record of an actor by its whole id, also of one that died of late."""
    living = directory.find(store, actor_id)
    if living is not None:
        return living
    found = (record for record in directory.buried(store) if record.actor_id == actor_id)
    return next(found, None)


def find_actor(store: Store, name: str, namespace: str | None = None) -> ActorRecord:
    """Return the actor of this name, or whose id this is or begins with.

    The living go first, then the dead that are remembered, the newest of them.

    Raises:
        NotFoundError: there is none, or there are several; says which.
    """
    living = [each for each in directory.actors(store) if _matches(each, name, namespace)]
    if len(living) > 1:
        said = ", ".join(
            f"{title_of(each)} {each.actor_id} in {each.meta.get('namespace')}" for each in living
        )
        raise NotFoundError(f"{name!r} may be several actors: {said}. Give an id, or --namespace")
    dead = (each for each in directory.buried(store) if _matches(each, name, namespace))
    found = living[0] if living else next(dead, None)
    if found is None:
        inside = f" in the namespace {namespace!r}" if namespace else ""
        raise NotFoundError(
            f"no actor has the name or the id {name!r}{inside}: `celery_actors list actors` shows "
            "all that there are"
        )
    return found


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
