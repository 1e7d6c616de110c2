"""Who keeps actors and values alive, as the store knows it, and what answered calls leave behind.

A *thing* is an actor (``<queue>|<actor id>``) or a value (its id). A *token* says who keeps it
alive, as ``<kind>:<holder>:<rest>``; a *tie* is both, ``<thing> <token>``. The kinds:

* ``p``: a process holds a handle or reference (holder: its session),
* ``o``: a stored value contains it (the session that asked for that value),
* ``m``: the arguments of a waiting call (of this and the next: the driver),
* ``c``: code that was sent, or an exception, refers to it,
* ``s``: the creation record of an actor contains it, ``a``: the state of a durable one.

A set per thing, not a count: adding and removing may each happen twice, and in a failure a tie is
left too long, never taken too early. What a holder forgets goes when its session ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from . import records, routing
from .buffers import free_commands
from .errors import DeadLetterError
from .messages import Message, outline
from .serialization import Blob, Sealer, is_sealed
from .store import Store

__all__ = [
    "PREFIXES",
    "REMEMBER_SECONDS",
    "Remains",
    "clear",
    "discard",
    "drop",
    "dropping",
    "leave",
    "remains_of",
    "thing_of",
]

#: Where the scripts find the keys of things.
PREFIXES = (routing.PREFIX, routing.RESULT_PREFIX)
#: Seconds for which a dead actor's record is kept, so that late calls learn why it died.
REMEMBER_SECONDS = 24 * 3600
#: Seconds for which late words of an ended session are refused: what lay in its sockets.
_GONE_SECONDS = 600
_BATCH = 200


def thing_of(tie: str) -> str:
    """Return what a tie keeps alive."""
    return tie.partition(" ")[0]


class Remains(NamedTuple):
    """What a call leaves behind once it is answered: keys, buffers and ties to remove."""

    keys: Sequence[str] = ()
    blobs: Sequence[Blob] = ()
    ties: Sequence[str] = ()


def remains_of(message: Message) -> Remains | None:
    """Return what is left of an answered call; None for one of plain arguments."""
    if not message.sealed:
        return None
    blobs: list[Blob] = []
    for value in (*message.args, *message.kwargs.values()):
        if is_sealed(value):
            blobs += Sealer.blobs(value)
    return Remains((), blobs, message.tag.carried)


def dropping(left: Sequence[Remains]) -> Sequence[str | int]:
    """Return the words with which the script that stores results also drops the calls' ties.

    In one step: a worker that is killed in between would leave them for ever.
    """
    ties = [tie for remains in left for tie in remains.ties]
    return (*PREFIXES, REMEMBER_SECONDS, *ties) if ties else ()


def discard(store: Store, answered: Iterable[bytes]) -> None:
    """Remove what calls leave behind that somebody else than their worker has answered."""
    keys: list[str] = []
    blobs: list[Blob] = []
    ties: list[str] = []
    for raw in answered:
        try:
            remains = remains_of(outline(raw))
        except DeadLetterError:
            continue
        if remains is not None:
            keys += remains.keys
            blobs += remains.blobs
            ties += remains.ties
    if keys:
        store.run("UNLINK", *keys)
    _free_blobs(store, blobs)
    drop(store, ties)


def clear(store: Store, remains: Remains) -> None:
    """Remove what one answered call leaves behind."""
    if remains.keys:
        store.run("UNLINK", *remains.keys)
    _free_blobs(store, remains.blobs)
    drop(store, remains.ties)


def drop(store: Store, ties: Sequence[str]) -> None:
    """Drop ties; free what nobody holds any more."""
    for start in range(0, len(ties), _BATCH):
        batch = ties[start : start + _BATCH]
        _free(store, store.scripts.drop(PREFIXES, REMEMBER_SECONDS, batch))


def leave(store: Store, session: str, ttl: int) -> None:
    """Drop everything that a session held: it is over."""
    left = 1
    while left:
        left, freed = store.scripts.leave(
            PREFIXES, REMEMBER_SECONDS, session, ttl, _GONE_SECONDS, _BATCH
        )
        _free(store, freed)


def _free(store: Store, freed: Iterable[bytes]) -> None:
    _free_blobs(store, [b for record in freed for b in records.blobs_of_stored(record)])


def _free_blobs(store: Store, blobs: Iterable[Blob]) -> None:
    for command in free_commands(blobs):
        store.run(*command)
