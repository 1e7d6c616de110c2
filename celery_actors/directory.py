"""Actors as records in the store: created, found by name, ended, buried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from . import groups, records, routing
from .actor_state import ties_of
from .broker.remains import queue_remains
from .buffers import free_commands
from .errors import DeadLetterError, FencedError, RayError, actor_ended
from .messages import Message, outline
from .methods import TERMINATE
from .need import Need
from .serialization import Sealer
from .store import Answer, Store
from .tokens import REMEMBER_SECONDS, discard, drop, leave

__all__ = [
    "ActorRecord",
    "Creator",
    "actors",
    "buried",
    "create",
    "end",
    "end_created",
    "end_process",
    "find",
    "passivate",
    "reap",
    "spec_context",
]

_REAP_CHUNK = 200
#: How many dead actors are listed at most, the newest: a program may make and end any number.
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class ActorRecord:
    """One actor as the store knows it."""

    actor_id: str
    meta: dict[str, str]

    @property
    def keys(self) -> routing.ActorKeys:
        """The keys of the actor."""
        return routing.ActorKeys(self.meta["queue"], self.actor_id)

    @property
    def class_name(self) -> str:
        """The name of its class."""
        return self.meta.get("class", "Actor")

    @property
    def title(self) -> str:
        """What messages to the user call it."""
        return f"actor {self.class_name}({self.name or self.actor_id[:8]})"

    @property
    def name(self) -> str:
        """Its name, or ''."""
        return routing.split_name_field(self.meta.get("name", ""))[1]

    @property
    def state(self) -> str:
        """Ray's word for the state; FROZEN where a durable one stands still, see its cause.

        PASSIVE: a durable one has no process until its next call.
        """
        words = {
            "pending": "PENDING_CREATION", "starting": "PENDING_CREATION", "alive": "ALIVE",
            "restarting": "RESTARTING", "frozen": "FROZEN",
            "passive": "PASSIVE", "dead": "DEAD", "buried": "DEAD",
        }  # fmt: skip
        return words[self.meta["st"]]

    @property
    def restarts_left(self) -> bool:
        """Tell whether it may start again; moves from a node that ended do not count."""
        limit = int(self.meta.get("max_restarts", 0))
        return limit < 0 or int(self.meta["restarts"]) - int(self.meta.get("moves", 0)) < limit

    @property
    def incarnation(self) -> str:
        """The node run that owns it, or ''."""
        owner = self.meta.get("own", "")
        return owner.partition("|")[0] if "|" in owner else ""


def spec_context(actor_id: str) -> tuple[str, ...]:
    """Return what a creation record is signed for."""
    return ("spec", actor_id)


def creation_message(actor_id: str, queue: str, class_name: str) -> bytes:
    """Return the protocol-2 message that asks a node to start an actor.

    It does not say what the actor needs: it may be passed on to another queue. That of an actor
    that is woken is made by ``store/lua/rouse.lua``.
    """
    return json.dumps({
        "body": '[[],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]',
        "content-encoding": "utf-8", "content-type": "application/json",
        "headers": {"lang": "py", "task": f"{class_name}.__init__", "id": actor_id,
                    "ca_create": [actor_id, queue]},
        "properties": {"delivery_mode": 2, "priority": 0, "correlation_id": actor_id,
                       "delivery_tag": actor_id, "delivery_info": {
                           "exchange": "", "routing_key": queue}},
    }, ensure_ascii=False).encode()  # fmt: skip


def last_message(actor_id: str, queue: str, class_name: str) -> bytes:
    """Return the call that ends an actor once nobody holds it; nobody waits for its result."""
    return json.dumps({
        "body": '[[],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]',
        "content-encoding": "utf-8", "content-type": "application/json",
        "headers": {"lang": "py", "task": routing.task_name(class_name, TERMINATE),
                    "id": actor_id, "ignore_result": True},
        "properties": {"delivery_mode": 2, "priority": 0, "correlation_id": actor_id,
                       "delivery_tag": actor_id, "delivery_info": {
                           "exchange": "", "routing_key": queue}},
    }).encode()  # fmt: skip


@dataclass(frozen=True, slots=True)
class Creator:
    """What a process is to the actors that it creates.

    ``actor_id``: the actor that lives here, and with which they end; "": none. ``outlives_driver``:
    they do not end with the driver; so for a detached actor, and for what it has created. Its
    placement groups end with it, too.
    """

    actor_id: str = ""
    outlives_driver: bool = False


def create(
    store: Store,
    *,
    actor_id: str,
    queue: str,
    name_field: str,
    spec: bytes,
    need: Need,
    job: str,
    detached: bool,
    fields: dict[str, str | int],
    creator: Creator = Creator(),
    tie: str = "",
    carried: Sequence[str] = (),
) -> str | None:
    """Create an actor; return the id of the one that already has the name, or None.

    ``tie`` is the first one that keeps it alive, ``carried`` what its arguments keep alive.
    """
    keys = routing.ActorKeys(queue, actor_id)
    label = need.label
    session = tie.rpartition(" ")[2].split(":")[1] if tie else ""
    with_driver = not (detached or creator.outlives_driver)
    owner = "" if detached else creator.actor_id
    names = [keys.meta, keys.spec, routing.NAMES, routing.creation_queue(label),
             routing.job_key(job) if with_driver else "", routing.ACTORS, routing.BELL,
             routing.NEEDS, keys.tokens, routing.held_key(session),
             routing.job_key(owner) if owner else "", routing.gone_key(session)]  # fmt: skip
    class_name = str(fields["class"])
    message = creation_message(actor_id, queue, class_name)
    about = {**fields, "job": job, "owner": owner, "free": "" if with_driver else "1",
             "carried": json.dumps(carried)}  # fmt: skip
    if tie:
        about["bye"] = last_message(actor_id, queue, class_name).decode()
    pairs = [word for pair in about.items() for word in pair]
    words: list[Any] = [
        actor_id,
        queue,
        name_field,
        spec,
        message,
        label,
        need.encode(),
        tie,
        *pairs,
    ]
    return store.scripts.create(names, words)


def find(store: Store, actor_id: str, queue: str | None = None) -> ActorRecord | None:
    """Return an actor's record; a dead one is found for a day if its queue is known."""
    if queue is None:
        found = store.run("HGET", routing.ACTORS, actor_id)
        if found is None:
            return None
        queue = found.decode()
    meta = store.hash(routing.ActorKeys(queue, actor_id).meta)
    return ActorRecord(actor_id, meta) if meta else None


def find_named(store: Store, namespace: str, name: str) -> ActorRecord | None:
    """Return the living actor of this name."""
    found = store.run("HGET", routing.NAMES, routing.name_field(namespace, name))
    record = find(store, found.decode()) if found is not None else None
    return record if record is not None and record.state != "DEAD" else None


def names(store: Store, namespace: str | None = None) -> list[tuple[str, str]]:
    """Return the (namespace, name) of every living named actor, or of those in one namespace."""
    found = []
    for field, actor_id in store.hash(routing.NAMES).items():
        space, name = routing.split_name_field(field)
        if namespace is None or namespace == space:
            record = find(store, actor_id)
            if record is not None and record.state != "DEAD":
                found.append((space, name))
    return found


def actors(store: Store) -> list[ActorRecord]:
    """Return every actor that is not buried."""
    listed = store.hash(routing.ACTORS)
    found = (find(store, actor_id, queue) for actor_id, queue in listed.items())
    return [record for record in found if record is not None]


def buried(store: Store) -> list[ActorRecord]:
    """Return the actors that died of late, the newest first: why, and where their lines are."""
    things = store.texts("ZREVRANGE", routing.BURIED, 0, -1)
    found = (find(store, *thing.split("|")[::-1]) for thing in things)
    return [record for record in found if record is not None]


def just_buried(store: Store, seconds: float) -> dict[str, str]:
    """Return the ids and queues of the actors that died within the last seconds."""
    since = float(store.run("TIME")[0]) - seconds
    things = store.texts("ZRANGEBYSCORE", routing.BURIED, since, "+inf")
    return {actor_id: queue for queue, _, actor_id in (thing.rpartition("|") for thing in things)}


def end(store: Store, actor_id: str, queue: str, cause: str, ttl: int) -> None:
    """End an actor for good: fence its process, answer its calls, free its name."""
    keys = routing.ActorKeys(queue, actor_id)
    words = (actor_id, cause, f"{routing.PREFIX}:node:", REMEMBER_SECONDS)
    store.scripts.kill([keys.meta, routing.NAMES, routing.DYING], *words)
    reap(store, actor_id, queue, ttl)


def end_process(store: Store, actor_id: str, queue: str) -> None:
    """Have an actor's process killed by its node; the actor restarts by its rules.

    One that stands still is started again.
    """
    meta = routing.ActorKeys(queue, actor_id).meta
    store.scripts.end_process(meta, actor_id, f"{routing.PREFIX}:node:")


def passivate(store: Store, record: ActorRecord, incarnation: str, epoch: str, owner: str) -> bool:
    """Let an idle actor be without a process until its next call; False where one waits.

    Raises:
        FencedError: another process owns it.
    """
    keys = record.keys
    spec = store.get(keys.spec)
    needed = spec is not None and Sealer.blobs(spec)  # its buffers are freed with the actor
    names = [keys.queue, keys.meta, keys.parked, routing.owned_key(incarnation), routing.PASSIVE,
             "" if needed else keys.spec]  # fmt: skip
    found = store.scripts.passivate(names, epoch, owner, record.actor_id)
    if found == -10:
        raise FencedError
    return found == 1


def reap(store: Store, actor_id: str, queue: str, ttl: int) -> None:
    """Answer every waiting call of a dead actor, then free its keys. Any process may help.

    It is among the dying until all of that is done: so others go on where a process has stopped.
    One that stands still keeps its keys.
    """
    meta = _bury(store, actor_id, queue, ttl)
    if meta.get("st") == "buried" and not store.run("HEXISTS", routing.DYING, actor_id):
        return
    if meta.get("st") in {"dead", "buried"}:
        # It may never have been started: nobody will ask for it any more.
        asked = creation_message(actor_id, queue, ActorRecord(actor_id, meta).class_name)
        store.run("LREM", routing.creation_queue(meta["need"]), 0, asked)
        store.run("UNLINK", *queue_remains(queue))
        drop(store, json.loads(meta.get("carried", "[]")))
        end_created(store, actor_id, ttl)
        if meta.get("free"):
            leave(store, actor_id, ttl)
    keys = routing.ActorKeys(queue, actor_id)
    store.scripts.settled(keys.meta, routing.DYING, actor_id, meta.get("ep", ""))


def _bury(store: Store, actor_id: str, queue: str, ttl: int) -> dict[str, str]:
    """Answer the calls of a dead actor and free its keys; return what is known of it."""
    keys = routing.ActorKeys(queue, actor_id)
    bury = [queue, keys.meta, keys.callers, keys.parked, keys.spec, routing.NAMES, routing.ACTORS]
    durable = (keys.state, keys.journal, keys.steps)
    while True:
        meta = store.hash(keys.meta)
        frozen = meta.get("st") == "frozen"
        if meta.get("st") != "dead" and not frozen:
            return meta
        record = ActorRecord(actor_id, meta)
        store.scripts.unpark(queue, keys.meta, keys.parked, keys.begun, meta["ep"])
        meta = store.hash(keys.meta)
        waiting = list(reversed(store.run("LRANGE", queue, -_REAP_CHUNK, -1)))
        if waiting:
            error = actor_ended(
                f"{record.title} {'stands still' if frozen else 'died before this call started'}: "
                f"{meta.get('cause')}",
                meta.get("cause"),
                actor_id,
                meta.get("init_failed") == "1",
            )
            answers = [failure_answer(raw, error) for raw in waiting]
            store.scripts.commit(
                queue, keys.meta, meta["ep"], "@reaper", int(meta["ap"]), ttl, answers
            )
            discard(store, waiting)
            continue
        if frozen:
            return meta
        kept = [store.get(keys.state) or b"", *store.run("LRANGE", keys.journal, 0, -1)]
        drop(store, [tie for stored in kept for tie in ties_of(stored)])
        spec = store.get(keys.spec)
        if spec is not None:
            store.run("UNLINK", keys.spec)
            for command in free_commands(Sealer.blobs(spec)):
                store.run(*command)
        job, owner = routing.job_key(meta.get("job", "")), routing.job_key(meta.get("owner", ""))
        if store.scripts.bury(
            [*bury, job, keys.tokens, owner, routing.PASSIVE, keys.reminders, routing.REMINDERS,
             keys.log, routing.BURIED, *durable], actor_id, REMEMBER_SECONDS, _REMEMBERED,
        ):  # fmt: skip
            return meta


def end_created(store: Store, actor_id: str, ttl: int) -> None:
    """End what an actor has created, actors and placement groups: it is dead for good."""
    for created in store.texts("SMEMBERS", routing.job_key(actor_id)):
        record = find(store, created)
        if record is not None:
            end(store, created, record.keys.queue, "the actor that created it ended", ttl)
    store.run("UNLINK", routing.job_key(actor_id))
    groups.end_job(store, actor_id)


def failure_answer(raw: bytes, error: RayError) -> Answer:
    """Return the answer to a message that will never run; none if it carries no call id."""
    try:
        message = outline(raw)
    except DeadLetterError:
        return Answer("", b"")
    return answer_to(message, records.error_record(error, message.call_id))


def task_of(raw: bytes) -> str:
    """Return the name of the task that a message asks for, for people."""
    try:
        return outline(raw).task
    except DeadLetterError:
        return "the call"


def answer_to(message: Message, record: bytes) -> Answer:
    """Return the answer to a message's caller; an empty one where nobody waits for it."""
    if message.unanswered:
        return Answer("", b"")
    caller = message.tag.caller
    channel = routing.reply_channel(caller) if caller else ""
    return Answer(routing.result_key(message.call_id), record, channel)


def dead_letter(raw: bytes, queue: str, reason: str) -> bytes:
    """Return the record of a message that could not be executed."""
    return msgspec.json.encode(
        {"queue": queue, "reason": reason, "message": raw.decode("utf-8", "backslashreplace")}
    )
