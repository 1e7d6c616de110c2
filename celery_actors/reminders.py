"""Reminders: calls that the store keeps for an actor, and that nodes send when they are due.

Due times are by the store's clock. A node looks once a second, so a call comes up to a second late,
and later where none runs; what was missed then counts as one. See ``store/lua/ring.lua``.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from . import routing
from .errors import ActorDiedError
from .messages import CallOptions, Message, MessageTemplate, encode_body, outline
from .resource_options import check_number
from .serialization import encode_plain
from .store import Store

__all__ = ["Reminder", "forget", "message_of", "remind", "reminders"]

#: The shortest period, in seconds: nodes look once a second.
SHORTEST = 1.0


@dataclass(frozen=True, slots=True)
class Reminder:
    """One reminder of an actor.

    ``every``: seconds between two calls, None for a single one. ``due``: the next one, by the
    store's clock. ``calls``: how many it has sent.
    """

    name: str
    method: str
    every: float | None
    due: datetime
    calls: int


def check(name: Any, every: Any, after: Any) -> tuple[int, int]:
    """Return the period (0: once) and the time to the first call in milliseconds.

    Raises:
        ValueError: no period and no first time, or impossible ones. TypeError: a wrong type.
    """
    if not isinstance(name, str):
        raise TypeError(f"a reminder's name must be a string, not {type(name).__name__}")
    if not name:
        raise ValueError("a reminder's name must not be empty")
    if every is None and after is None:
        raise ValueError(f"reminder {name!r}: give every=, or after= for a single call")
    for word, value in (("every", every), ("after", after)):
        if value is not None:
            check_number(word, value)
    if every is not None and every < SHORTEST:
        raise ValueError(f"every must be at least {SHORTEST:g} second, got {every}")
    first = every if after is None else after
    return round(1000 * (every or 0)), round(1000 * first)


def message_of(
    keys: routing.ActorKeys, task: str, name: str, job: str, retries: int, args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> tuple[str, bytes]:  # fmt: skip
    """Return the id of a reminder, and the call that it sends under ids made from that one.

    Raises:
        TypeError: an argument is not plain JSON.
    """
    encoded = []
    for place, value in [*enumerate(args), *kwargs.items()]:
        plain = encode_plain(value)
        if plain is None:
            raise TypeError(
                f"argument {place!r} of reminder {name!r} is of type {type(value).__name__}, and "
                "only what JSON can say is kept that long: None, bool, int, float, str, lists, and "
                "dictionaries with strings as keys. Let the actor keep the rest in its state"
            )
        encoded.append(plain)
    template = MessageTemplate(
        task=task, queue=keys.queue, caller="", job=job, origin="reminder", max_retries=retries,
        options=CallOptions(reminder=name),
    )  # fmt: skip
    call_id = routing.call_prefix(secrets.token_hex(8)) + "0" * 12
    named = dict(zip(kwargs, encoded[len(args) :], strict=True))
    body = encode_body(encoded[: len(args)], named)
    return call_id, template.build(call_id.encode(), 0, body)


def remind(
    store: Store, keys: routing.ActorKeys, title: str, name: str, times: tuple[int, int],
    call: tuple[str, bytes],
) -> None:  # fmt: skip
    """Keep a reminder in the store.

    Raises:
        ActorDiedError: the actor has ended.
    """
    every, first = times
    call_id, message = call
    kept = b"%d 0 %b %b" % (every, call_id.encode(), message)
    names = [keys.meta, keys.reminders, routing.REMINDERS]
    if store.scripts.remind(names, name, keys.reminder(name), first, kept) != 0:
        raise ActorDiedError(
            f"{title} has ended, so it cannot be reminded. Create it again", keys.actor_id
        )


def forget(store: Store, keys: routing.ActorKeys, name: str) -> bool:
    """Forget a reminder; False where there is none."""
    names = [keys.reminders, routing.REMINDERS]
    return store.scripts.forget(names, name, keys.reminder(name))


def reminders(store: Store, keys: routing.ActorKeys) -> dict[str, Reminder]:
    """Return an actor's reminders by name."""
    found = {}
    for name, kept in sorted(store.hash(keys.reminders).items()):
        due = store.run("ZSCORE", routing.REMINDERS, keys.reminder(name))
        if due is not None:  # it was the last one, a moment ago
            every, calls, _, message = kept.split(" ", 3)
            call: Message = outline(message.encode())
            found[name] = Reminder(
                name, call.method, int(every) / 1000 or None,
                datetime.fromtimestamp(float(due) / 1000, UTC), int(calls),
            )  # fmt: skip
    return found
