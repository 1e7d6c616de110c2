"""One typed function per atomic step. The steps themselves are the files in ``lua/``.

Each function takes ``run``, anything that executes a packed command and returns the reply: a
``Wire`` on the call path, the pooled client elsewhere. ``Scripts.pack`` gives the bytes alone, for
pipelines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis
from redis.lock import Lock

from .. import routing
from .sources import SOURCES, digest_of
from .wire import StoreError, StoreUnreachableError, pack

__all__ = [
    "Answer",
    "Claim",
    "Durable",
    "Fence",
    "Scripts",
    "ScriptsMissingError",
    "Seen",
    "Step",
    "Tick",
    "Waiting",
]

Word = bytes | str | int | float
Run = Callable[..., Any]


class Answer(NamedTuple):
    """A result to store: its key (empty: none), the Celery record, the channel to tell."""

    key: str
    record: bytes
    channel: str = ""


class Step(NamedTuple):
    """A script that runs inside a durable actor's commit."""

    script: str
    keys: Sequence[str]
    words: Sequence[Word]


class Durable(NamedTuple):
    """What a durable actor's commit carries beside results: its state and the steps before it.

    ``state`` is empty where it did not change.
    """

    key: str
    state: bytes = b""
    steps: Sequence[Step] = ()

    def words(self, inner: str) -> list[Word]:
        """Return the words that come before those of the inner step, 'commit' or 'take'."""
        flat: list[Word] = []
        for step in self.steps:
            flat += (step.script, len(step.keys), *step.keys, len(step.words), *step.words)
        return [inner, self.state, len(flat), *flat]


class Fence(NamedTuple):
    """Who must own a mailbox for a write to count: the key of its record, epoch and owner."""

    meta: str
    epoch: str
    owner: str


@dataclass(frozen=True, slots=True)
class Claim:
    """An actor that this node run has just become the owner of."""

    actor_id: str
    queue: str
    epoch: str
    spec: bytes
    meta: dict[str, str]


class Waiting(NamedTuple):
    """A need under which something waits: label, JSON, number of actors and of calls."""

    label: str
    need: bytes
    actors: int
    calls: int


class Seen(NamedTuple):
    """What the release of an actor was decided on.

    ``go`` and ``st`` of its record; which calls out of line had begun, None where that does not
    count; the oldest and the newest of the calls that it takes from the mailbox.
    """

    go: str
    state: str
    begun: Sequence[str] | None = None
    oldest: bytes = b""
    newest: bytes = b""


class Tick(NamedTuple):
    """What a node hears with its heartbeat."""

    alive: bool  # False: another node has taken over what this run owned
    kills: list[str]  # actors whose processes it must end
    dead: list[str]  # node runs
    expired: list[str]  # sessions
    dying: dict[str, str]  # actors that are dead and not buried, and their queues


_SHA = {name: digest_of(source) for name, source in SOURCES.items()}
#: With this one the Celery side of a worker gives kombu's lock back; redis-py would load it by
#: itself, where its user may.
_LOCK = Lock.LUA_RELEASE_SCRIPT.encode()


class ScriptsMissingError(StoreUnreachableError):
    """Raised when a server lacks scripts that this user may not load.

    Whoever keeps them loaded may do so at any moment, so it is tried again as a lost server is.
    """


class Scripts:
    """The atomic steps of the protocol."""

    @staticmethod
    def pack(name: str, keys: Sequence[str], *words: Word) -> bytes:
        """Return the packed EVALSHA of a script."""
        return pack(("EVALSHA", _SHA[name], len(keys), *keys, *words))

    @staticmethod
    def words(name: str, keys: Sequence[str], *words: Word) -> tuple[Word, ...]:
        """Return the EVALSHA of a script, not packed."""
        return ("EVALSHA", _SHA[name], len(keys), *keys, *words)

    @staticmethod
    def load(run: Run, more: Iterable[bytes] = ()) -> int:
        """Make every script, and others, known to the server; return how many it lacked.

        Raises:
            ScriptsMissingError: it lacks some, and this user may not load them.
        """
        sources = [*SOURCES.values(), _LOCK, *more]
        known = run("SCRIPT", "EXISTS", *map(digest_of, sources))
        missing = [source for source, there in zip(sources, known, strict=True) if not there]
        try:
            for source in missing:
                run("SCRIPT", "LOAD", source)
        except (StoreError, redis.exceptions.NoPermissionError) as error:
            if "no permissions" not in str(error):  # the words of every server since Redis 6
                raise
            raise ScriptsMissingError(
                f"the store lacks {len(missing)} of this version's scripts, and this user may not "
                "load them: run `celery_actors load-scripts` as a user who may (SCRIPT LOAD), with "
                "--watch to have it done again whenever the server restarts"
            ) from None
        return len(missing)

    def __init__(self, run: Run) -> None:
        self._run = run

    def _eval(self, name: str, keys: Sequence[str], *words: Word) -> Any:
        return self._run("EVALSHA", _SHA[name], len(keys), *keys, *words)

    def create(self, keys: Sequence[str], words: Iterable[Word]) -> str | None:
        """Create an actor; return the id of the actor that already has the name, or None."""
        reply = self._eval("create", keys, *words)
        return None if int(reply[0]) == 0 else _text(reply[1])

    def ingress(self, queue: str, mark: str, seconds: int, message: bytes) -> bool:
        """Put a message of another broker into a queue; False where it is there, or was."""
        return bool(self._eval("ingress", [queue, mark], seconds, message))

    def claim(self, keys: Sequence[str], owner: str, prefix: str) -> Claim | None:
        """Become the owner of the oldest waiting actor of one creation queue.

        ``owner`` is new for each attempt; the same one gets the same actor again.
        """
        reply = self._eval("claim", [*keys, routing.claim_key(owner)], owner, prefix)
        if not reply:
            return None
        actor_id, queue, epoch, spec, flat = reply
        return Claim(_text(actor_id), _text(queue), _text(epoch), spec, fields_of(flat))

    def nodes(self, nodes: str, lease_prefix: str) -> list[tuple[str, bytes, bool]]:
        """Return (id, description, whether it lives) of every node run."""
        flat = self._eval("nodes", [nodes], lease_prefix)
        return [
            (_text(flat[i]), bytes(flat[i + 1]), bool(flat[i + 2])) for i in range(0, len(flat), 3)
        ]

    def look(
        self, needs: str, groups: str, prefixes: tuple[str, str], sent: Iterable[str] = ()
    ) -> tuple[int, list[Waiting]]:
        """Return how many placement groups wait, and the needs under which something waits.

        ``sent``: label and JSON of each need that may wait without being registered.
        """
        groups_waiting, *flat = self._eval("look", [needs, groups], *prefixes, *sent)
        return int(groups_waiting), [
            Waiting(_text(flat[i]), bytes(flat[i + 1]), int(flat[i + 2]), int(flat[i + 3]))
            for i in range(0, len(flat), 4)
        ]

    def mailboxes(self, keys: Sequence[routing.ActorKeys]) -> list[tuple[int, int]]:
        """Return of each mailbox how many calls are not settled, and how many have been so far."""
        names = [name for each in keys for name in (each.queue, each.meta, each.parked)]
        flat = self._eval("mailboxes", names)
        return [(int(flat[i]), int(flat[i + 1])) for i in range(0, len(flat), 2)]

    def pass_on(self, keys: Sequence[str], *words: Word) -> int:
        """Move what waits under one need behind what waits under another."""
        return int(self._eval("pass_on", keys, *words))

    def refuse(
        self, queue: str, messages: Sequence[bytes], ttl: int, answers: Sequence[Answer]
    ) -> int:
        """Answer the oldest calls of a shared queue; 0, or -11 where it has moved on."""
        words = (messages[0], messages[-1], ttl, len(answers), *flatten(answers))
        return int(self._eval("refuse", [queue], *words))

    def group(self, step: str, keys: Sequence[str], *words: Word) -> int:
        """Take one step in the life of a placement group, such as ``group_create``."""
        return int(self._eval(step, keys, *words))

    def group_line(
        self, keys: Sequence[str], prefix: str, mark: str, ids: Iterable[str]
    ) -> tuple[str, list[str], list[str], list[dict[str, str]]]:
        """Return a mark of the line, and where it is new, the ids in it and those being reserved.

        The last is what is known of the groups of ``ids``.
        """
        new, line_ids, reserving, found = self._eval("group_line", keys, prefix, mark, *ids)
        return (
            _text(new),
            texts(line_ids),
            texts(reserving),
            [fields_of(flat) for flat in found],
        )

    def group_records(self, prefix: str, ids: Iterable[str]) -> list[dict[str, str]]:
        """Return what is known of placement groups: their fields, none for an unknown one."""
        return [fields_of(flat) for flat in self._eval("group_records", [], prefix, *ids)]

    def save_for(self, key: str, incarnation: str, milliseconds: int) -> bool:
        """Tell whether this node is the one that keeps free what a need waits for."""
        return bool(self._eval("save_for", [key], incarnation, milliseconds))

    def mark(self, meta: str, epoch: str, owner: str, fields: dict[str, Word]) -> bool:
        """Write fields of a record while (epoch, owner) holds it; False when fenced."""
        flat = [word for pair in fields.items() for word in pair]
        return int(self._eval("mark", [meta], epoch, owner, *flat)) == 0

    def born(
        self, keys: Sequence[str], state: bytes, position: int, epoch: str, owner: str,
        fields: dict[str, Word],
    ) -> bool:  # fmt: skip
        """Mark a durable actor as alive and store its state at a position; False when fenced."""
        flat = [word for pair in fields.items() for word in pair]
        return int(self._eval("born", keys, state, position, epoch, owner, *flat)) == 0

    def keep_step(
        self, meta: str, steps: str, epoch: str, owner: str, field: str, value: bytes
    ) -> bool:
        """Keep what an outside step of a running call gave; False when fenced."""
        return int(self._eval("keep_step", [meta, steps], epoch, owner, field, value)) == 0

    def release(
        self,
        keys: Sequence[str],
        *,
        epoch: str,
        owner: str,
        position: int,
        settled: int,
        next_state: str,
        cause: str,
        init_failed: bool,
        creation: bytes,
        need: str,
        actor_id: str,
        ttl: int,
        answers: Sequence[Answer],
        returned: Sequence[bytes],
        aside: Sequence[tuple[str, bytes]],
        seen: Seen,
    ) -> str | int:
        """Settle or return the started calls of a lost process; restart or end its actor.

        ``next_state``: "1" it restarts, "move" too, and that uses up no restart, "frozen" it stands
        still, "" it is dead.
        ``returned`` are messages to run again, newest first; ``aside`` pairs of a position out of
        line and its message for the next run, empty to drop it. ``seen``: where the store says
        otherwise, nothing is done.
        """
        begun = "*" if seen.begun is None else " ".join(sorted(seen.begun))
        reply = self._eval(
            "release", keys, epoch, owner, position, settled, next_state, cause,
            "1" if init_failed else "", creation, need, actor_id, ttl, len(answers),
            len(returned), len(aside), seen.go, seen.state, begun, seen.oldest, seen.newest,
            *flatten(answers), *returned,
            *(word for pair in aside for word in pair),
        )  # fmt: skip
        return reply if isinstance(reply, int) else _text(reply)

    def passivate(self, keys: Sequence[str], epoch: str, owner: str, actor_id: str) -> int:
        """Let an actor be without a process until its next call; 1, 0 (a call waits) or -10."""
        return int(self._eval("passivate", keys, epoch, owner, actor_id))

    def sweep(self, keys: Sequence[str], cursor: str, count: int, seconds: int) -> tuple[str, int]:
        """Wake passive actors on whose queue something waits; the next cursor, and how many."""
        following, roused = self._eval("sweep", keys, cursor, count, routing.PREFIX, seconds)
        return _text(following), int(roused)

    def remind(self, keys: Sequence[str], *words: Word) -> int:
        """Keep a reminder; 0, -1 (no such actor) or -2 (it is dead)."""
        return int(self._eval("remind", keys, *words))

    def forget(self, keys: Sequence[str], name: str, member: str) -> bool:
        """Forget a reminder; False where there is none."""
        return bool(self._eval("forget", keys, name, member))

    def ring(self, due: str, count: int) -> int:
        """Send the calls of reminders that are due; return how many were."""
        return int(self._eval("ring", [due], routing.PREFIX, count))

    def kill(
        self, keys: Sequence[str], actor_id: str, cause: str, node_prefix: str, remember: int
    ) -> bool:
        """Declare an actor dead, free its name; True when it was alive."""
        return bool(self._eval("kill", keys, actor_id, cause, node_prefix, remember))

    def end_process(self, meta: str, actor_id: str, node_prefix: str) -> bool:
        """Have an actor's process killed by its node; one that stands still gets a new one.

        False where there is no process.
        """
        return bool(self._eval("end_process", [meta], actor_id, node_prefix))

    def cancel(
        self, queue: str, meta: str, mark: str, call_id: str, seconds: int, ttl: int,
        answer: Answer,
    ) -> bytes:  # fmt: skip
        """Cancel a call that no worker has fetched; its message, or b"" where one may have it."""
        words = (call_id, seconds, ttl, *flatten([answer]))
        return bytes(self._eval("cancel", [queue, meta, mark], *words))

    def commit(
        self, mailbox: str, meta: str, epoch: str, owner: str, position: int, ttl: int,
        answers: Sequence[Answer],
    ) -> int:  # fmt: skip
        """Settle the oldest calls without fetching; 0, -10 (fenced) or -11 (moved on)."""
        words = (epoch, owner, position, len(answers), 0, ttl, *flatten(answers))
        return int(self._eval("commit", [mailbox, meta, ""], *words)[0])

    def settle_aside(
        self, keys: Sequence[str], epoch: str, owner: str, position: int, ttl: int, answer: Answer,
        left: Sequence[Word], durable: Durable | None = None,
    ) -> tuple[list[bytes], list[Any]] | None:  # fmt: skip
        """Settle a call that had stepped out of line; None when fenced.

        ``left``: what it leaves (see ``dropping``). Returns records of freed values, and the
        replies of a durable actor's steps.
        """
        words: tuple[Word, ...] = (epoch, owner, 0, 0, ttl, 1, position, *flatten([answer]), *left)
        if durable is None:
            reply = self._eval("take", keys, *words)
        else:
            words = (*durable.words("take"), *words)
            reply = self._eval("commit_state", [*keys, durable.key], *words)
        if int(reply[0]) != 0:
            return None
        freed, replies = [*reply[3:], [], []][:2]
        return list(freed), list(replies)

    def begin(self, meta: str, begun: str, epoch: str, owner: str, positions: list[int]) -> bool:
        """Note that calls out of line may have started; False when fenced."""
        return int(self._eval("begin", [meta, begun], epoch, owner, *positions)) == 0

    def unpark(self, queue: str, meta: str, parked: str, begun: str, epoch: str) -> int:
        """Put a dead actor's parked calls back in line."""
        return int(self._eval("unpark", [queue, meta, parked, begun], epoch))

    def bury(self, keys: Sequence[str], actor_id: str, remember: int, most: int) -> bool:
        """Free a dead actor's name and keys; False while calls remain."""
        return bool(self._eval("bury", keys, actor_id, remember, most))

    def settled(self, meta: str, dying: str, actor_id: str, epoch: str) -> bool:
        """Take an actor off the dying; False where it has lived again since."""
        return bool(self._eval("settled", [meta, dying], actor_id, epoch))

    def disown(self, owned: str, meta: str, name: str, incarnation: str) -> bool:
        """Take a name from what a node run owns; False where its record names that node run."""
        return bool(self._eval("disown", [owned, meta], name, incarnation))

    def recover(
        self,
        keys: Sequence[str],
        *,
        epoch: str,
        owner: str,
        seen: int,
        worker_id: str,
        need: str,
        bell: str,
        ttl: int,
        position: str,
        go: str,
        answers: Sequence[Answer],
        returned: Sequence[bytes],
    ) -> int:
        """Answer or return the calls of a lost shared worker; 0, -10 or -11.

        ``position`` and ``go`` are where it was when its calls were looked at.
        """
        words = (epoch, owner, seen, worker_id, need, bell, ttl, position, go, len(answers))
        return int(self._eval("recover", keys, *words, *flatten(answers), *returned))

    def give_back(
        self, keys: Sequence[str], epoch: str, owner: str, keep: int, need: str, bell: str
    ) -> int:
        """Return calls that were taken and not started."""
        return int(self._eval("give_back", keys, epoch, owner, keep, need, bell))

    def answer(self, ttl: int, answers: Sequence[Answer]) -> int:
        """Store results that no worker will store, overwriting none."""
        return int(self._eval("answer", [""], "", "", ttl, *flatten(answers)))

    def enlist(self, keys: Sequence[str], session: str, worker_id: Word = "", *meta: Word) -> bool:
        """Enter a process in the books of its node, a shared worker with its record.

        False where the node run is over.
        """
        return bool(self._eval("enlist", keys, session, worker_id, *meta))

    def values(self, fence: Fence, ttl: int, answers: Sequence[Answer]) -> bool:
        """Store values of a call that runs, overwriting none; False when fenced."""
        words = (fence.epoch, fence.owner, ttl, *flatten(answers))
        return int(self._eval("answer", [fence.meta], *words)) >= 0

    @staticmethod
    def pack_values(fence: Fence, ttl: int, answers: Sequence[Answer]) -> bytes:
        """Return the same as a packed command; its reply is negative when fenced."""
        words = (fence.epoch, fence.owner, ttl, *flatten(answers))
        return Scripts.pack("answer", [fence.meta], *words)

    def tick(
        self, keys: Sequence[str], incarnation: str, lease_ms: int, description: str, first: bool,
        lease_prefix: str,
    ) -> Tick:  # fmt: skip
        """Renew a node's lease; hear what needs attention."""
        words = (incarnation, lease_ms, description, "1" if first else "", lease_prefix)
        alive, kills, dead, expired, dying = self._eval("tick", keys, *words)
        return Tick(bool(alive), texts(kills), texts(dead), texts(expired), fields_of(dying))

    def seize(self, lease: str, gone: str, seconds: int) -> bool:
        """Keep a node run whose lease is over from coming back; False where it lives."""
        return bool(self._eval("seize", [lease, gone], seconds))

    def tell(self, key: str, seconds: int, *words: Word) -> int:
        """Append words to a list that expires, for the one that reads it; return its length."""
        return int(self._eval("tell", [key], seconds, *words))

    def keep_lines(self, keys: Sequence[str], *words: Word) -> bool:
        """Tell a driver what its worker printed, and keep it; False where nobody remembers it."""
        return bool(self._eval("keep_lines", keys, *words))

    def drop(self, prefixes: tuple[str, str], remember: int, ties: Sequence[str]) -> list[bytes]:
        """Drop ties; the records of freed values that may have buffers beside them."""
        return list(self._eval("drop", [], *prefixes, remember, *ties))

    def leave(
        self, prefixes: tuple[str, str], remember: int, session: str, ttl: int, gone: int,
        count: int,
    ) -> tuple[int, list[bytes]]:  # fmt: skip
        """Drop some ties of a session that is over; (ties left, records as from ``drop``)."""
        words = (*prefixes, remember, session, ttl, gone, count)
        left, freed = self._eval("leave", [], *words)
        return int(left), list(freed)

    def begin_session(self, sessions: str, session: str, milliseconds: int) -> None:
        """Begin a driver's session; `renew_session` keeps it alive."""
        self._eval("renew_session", [sessions], session, milliseconds, "1")


def flatten(answers: Iterable[Answer]) -> list[Word]:
    """Return answers as the words that ``post_results`` reads."""
    return [word for answer in answers for word in answer]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def fields_of(found: Any) -> dict[str, str]:
    """Return names and values, as the server has sent them: a flat list, or a map in RESP3."""
    if isinstance(found, dict):
        return {_text(key): _text(value) for key, value in found.items()}
    return {_text(found[i]): _text(found[i + 1]) for i in range(0, len(found), 2)}


def entries_of(found: Iterable[Any]) -> list[tuple[str, dict[str, str]]]:
    """Return the entries of a stream, as the server has sent them: (id, fields)."""
    return [(_text(entry), fields_of(fields)) for entry, fields in found]


def texts(values: Iterable[Any]) -> list[str]:
    """Return the texts in a list or set that the server has sent."""
    return [_text(value) for value in values]
