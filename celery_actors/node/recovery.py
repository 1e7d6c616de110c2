"""What becomes of the work of a process, a node or a driver that is gone.

Every step is fenced by (epoch, owner) and may be repeated, so any supervisor may help.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
from collections.abc import Collection
from dataclasses import dataclass

from .. import directory, groups, records, routing
from ..errors import (
    ActorUnavailableError,
    DeadLetterError,
    RayError,
    StoreRolledBackError,
    TaskCancelledError,
    WorkerCrashedError,
    actor_ended,
)
from ..messages import call_id_of, decode_envelope, outline
from ..methods import TERMINATE
from ..store import Answer, Seen, Store, StoreError
from ..tokens import discard, leave

__all__ = [
    "Lost",
    "actor_lost",
    "describe_exit",
    "end_session",
    "node_lost",
    "session_lost",
    "shared_lost",
]

logger = logging.getLogger(__name__)

#: Seconds for which a lost node cannot come back, from the last time that somebody took it over.
_GONE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Lost:
    """How a process ended.

    ``progress`` is the position of the last call that began, None where nobody saw: then what the
    store has marked counts as begun.
    """

    cause: str
    progress: int | None = None
    init_failed: bool = False
    frozen: str = ""  # why the actor must stand still: its state is there and cannot be used
    left: bool = False  # it ended by its own wish or for want of handles: it stays ended
    tries: int = 0  # how often the last call had run again because of what it raised
    rolled_back: bool = False  # the store has lost writes: it knows less than was done
    seen: Collection[str] | None = None  # then: the calls in the queue that had begun, if known
    moved: bool = False  # its node ends, nothing was wrong with it: no restart is used up


def describe_exit(status: int, pid: int, host: str) -> str:
    """Return what a process's exit status says, for people."""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = "a signal"
        return f"its process {pid} on {host} was killed by {name}"
    return f"its process {pid} on {host} exited with status {status}"


def actor_lost(store: Store, actor_id: str, queue: str, owner: str, lost: Lost, ttl: int) -> None:
    """Settle the calls an actor's lost process had begun; restart the actor or end it."""
    keys = routing.ActorKeys(queue, actor_id)
    while True:
        meta = store.hash(keys.meta)
        if meta.get("own") != owner:
            if meta.get("st") == "dead":
                directory.reap(store, actor_id, queue, ttl)
            elif meta.get("st") == "buried":
                directory.end_created(store, actor_id, ttl)  # made while its death was on the way
            return
        if lost.progress is None:
            _cut_off(store, meta)
        outcome = _release(store, directory.ActorRecord(actor_id, meta), lost, ttl)
        if outcome in ("dead", "frozen"):
            directory.reap(store, actor_id, queue, ttl)
        if outcome != -11:
            return


def _cut_off(store: Store, meta: dict[str, str]) -> None:
    """Close the connection of a process that nobody can see: its peek must get no further call."""
    if meta.get("cid"):
        with contextlib.suppress(StoreError):  # it is closed already
            store.run("CLIENT", "KILL", "ID", meta["cid"])


def _release(store: Store, actor: directory.ActorRecord, lost: Lost, ttl: int) -> str | int:
    meta, keys = actor.meta, actor.keys
    position = int(meta["ap"])
    restart = not (lost.init_failed or lost.left) and actor.restarts_left
    way = "move" if lost.moved else "1"
    next_state = "frozen" if lost.frozen else way if restart else ""
    error: RayError
    if restart:
        effect = "was rolled back" if meta.get("durable") else "may or may not have taken effect"
        text = (
            f"{actor.title} restarts: {lost.cause}. This call had begun and {effect}; give it "
            "max_task_retries to run it again"
        )
        error = ActorUnavailableError(text, actor.actor_id)
        if lost.rolled_back:
            error = StoreRolledBackError(text)
    else:
        what = "" if lost.init_failed else " while it ran this call"
        text = f"{actor.title} died{what}: {lost.cause}"
        error = actor_ended(text, lost.cause, actor.actor_id, lost.init_failed)
    begun = _begun(store, keys.queue, meta, lost)
    default = int(meta.get("max_task_retries", 0))
    answers: list[Answer] = []
    returned: list[bytes] = []
    aside: list[tuple[str, bytes]] = []
    ended: list[bytes] = []
    for raw in begun:
        if lost.seen is not None and call_id_of(raw) not in lost.seen:
            returned.append(raw)
            continue
        again = _again(store, raw, default, lost.tries if raw is begun[-1] else 0)
        if restart and again is not None:
            returned.append(again)
        else:
            ended.append(raw)
    marked, begun_aside = _begun_aside(store, keys, meta)
    for place, raw in begun_aside:
        again = _again(store, raw, default, 0)
        if restart and again is not None:
            aside.append((place, again))
        else:
            aside.append((place, b""))
            ended.append(raw)
    answers += [_ended(store, raw, error) for raw in ended]
    need = meta["need"]
    outcome = store.scripts.release(
        [keys.queue, keys.meta, keys.parked, routing.owned_key(actor.incarnation),
         routing.creation_queue(need), routing.BELL, keys.begun, routing.NEEDS, routing.DYING],
        epoch=meta["ep"], owner=meta["own"], position=position, settled=len(begun),
        next_state=next_state, cause=lost.frozen or lost.cause, init_failed=lost.init_failed,
        need=need, actor_id=actor.actor_id, ttl=ttl, answers=answers, returned=returned[::-1],
        aside=aside,
        creation=directory.creation_message(actor.actor_id, keys.queue, actor.class_name),
        seen=Seen(meta["go"], meta["st"], marked, *(begun[0], begun[-1]) if begun else ()),
    )  # fmt: skip
    if isinstance(outcome, str):
        discard(store, ended)
    return outcome


def _begun_aside(
    store: Store, keys: routing.ActorKeys, meta: dict[str, str]
) -> tuple[list[str] | None, list[tuple[str, bytes]]]:
    """Return which are marked, and (position, message) of the calls that may have begun.

    Out of line, oldest first. A worker whose calls overlap marks beginnings only where a restart
    could run them again: else all may have begun, and no mark counts.
    """
    everything = meta.get("concurrent") == "1" and meta.get("max_restarts", "0") == "0"
    command = ("HKEYS", keys.parked) if everything else ("SMEMBERS", keys.begun)
    places = sorted(store.texts(*command), key=int)
    marked = None if everything else places
    if not places or meta["st"] != "alive":
        return marked, []
    messages = store.run("HMGET", keys.parked, *places)
    found = zip(places, messages, strict=True)
    return marked, [(place, raw) for place, raw in found if raw is not None]


def _ended(store: Store, raw: bytes, error: RayError) -> Answer:
    """Return the answer to a call that its actor's end has hit."""
    if _was_cancelled(store, raw):
        error = TaskCancelledError("the call was cancelled; its actor's process died meanwhile")
    return directory.failure_answer(raw, error)


def _was_cancelled(store: Store, raw: bytes) -> bool:
    try:
        call_id = decode_envelope(raw).headers.id
    except DeadLetterError:
        return False
    return bool(store.run("EXISTS", routing.cancelled_key(call_id)))


def _begun(store: Store, mailbox: str, meta: dict[str, str], lost: Lost) -> list[bytes]:
    """Return the messages that may have begun, oldest first.

    None in line where calls overlap: there a call begins out of line. Where the store has lost
    writes, calls may be in line again that had begun, and others between them.
    """
    if lost.seen is not None:
        oldest = list(reversed(store.run("LRANGE", mailbox, 0, -1)))
        had = [call_id_of(raw) in lost.seen for raw in oldest]
        return oldest[: len(had) - had[::-1].index(True)] if any(had) else []
    if meta.get("concurrent") == "1":
        return []
    position = int(meta["ap"])
    last = lost.progress
    if last is None:
        # A lone peek is marked for actors that may restart. Elsewhere the oldest call may always
        # have begun.
        marked = meta.get("max_restarts", "0") != "0"
        last = max(int(meta.get("go", 0)), position + (not marked))
        if meta["st"] != "alive":
            last = position
    count = last - position
    if count <= 0 or lost.init_failed:
        return []
    return list(reversed(store.run("LRANGE", mailbox, -count, -1)))


def shared_lost(store: Store, worker_id: str, owner: str, lost: Lost, ttl: int) -> None:
    """Return a lost shared worker's calls to their queue; run the begun ones again or fail them."""
    keys = routing.worker_keys(worker_id)
    while True:
        meta = store.hash(keys.meta)
        if meta.get("own") != owner:
            return
        if lost.progress is None:
            _cut_off(store, meta)
        taken: list[bytes] = list(reversed(store.run("LRANGE", keys.queue, 0, -1)))
        begun = len(_begun(store, keys.queue, meta, lost))
        answers: list[Answer] = []
        returned: list[bytes] = []
        ended: list[bytes] = []
        for index, raw in enumerate(taken):
            if index < begun:
                again = _again(store, raw, 0, lost.tries if index == begun - 1 else 0)
            else:
                again = None if _was_cancelled(store, raw) else raw
            if again is None:
                answers.append(_crashed(store, raw, lost.cause, index < begun))
                ended.append(raw)
            else:
                returned.append(again)
        source = meta["source"]
        need = "" if meta["resident"] == "1" else routing.need_of_queue(source)
        names = [keys.queue, keys.meta, source, routing.owned_key(owner.partition("|")[0]),
                 routing.NEEDS]  # fmt: skip
        done = store.scripts.recover(
            names, epoch=meta["ep"], owner=owner, seen=len(taken), worker_id=worker_id, need=need,
            bell=routing.BELL, ttl=ttl, position=meta["ap"], go=meta["go"], answers=answers,
            returned=returned[::-1],
        )  # fmt: skip
        if done == 0:
            discard(store, ended)
        if done != -11:
            return


def _again(store: Store, raw: bytes, default: int, tries: int) -> bytes | None:
    """Return the message for another try, or None where no try is left or wanted.

    ``default`` is the limit of a message that states none, ``tries`` what its lost process had
    spent on exceptions.
    """
    try:
        headers = decode_envelope(raw).headers
    except DeadLetterError:
        return raw  # the next worker sets it aside
    if headers.ignore_result and headers.task.rpartition(".")[2] == TERMINATE:
        return raw  # nobody holds the actor: it ends, if not in this process, then in the next
    limit = headers.ca.max_retries if headers.ca else default
    if 0 <= limit <= headers.retries + tries or _was_cancelled(store, raw):
        return None
    message = json.loads(raw)
    message["headers"]["retries"] = headers.retries + tries + 1
    return json.dumps(message).encode()


def _crashed(store: Store, raw: bytes, cause: str, had_begun: bool) -> Answer:
    message = outline(raw)
    task = message.task
    error: RayError
    if not had_begun:
        error = TaskCancelledError(f"{task} was cancelled before it started")
    elif _was_cancelled(store, raw):
        error = WorkerCrashedError(f"{task} was cancelled with force=True: {cause}")
    else:
        error = WorkerCrashedError(
            f"the worker died while it ran {task}: {cause}. No retry was left "
            f"(max_retries={message.tag.max_retries})"
        )
    return directory.answer_to(message, records.error_record(error, message.call_id))


def node_lost(store: Store, incarnation: str, ttl: int) -> None:
    """Take over what a dead node run owned, then forget it; not where it has its lease again."""
    lease, gone = routing.lease_key(incarnation), routing.gone_key(incarnation)
    if not store.scripts.seize(lease, gone, _GONE_SECONDS):
        return
    lost = Lost(f"its node {incarnation} was lost")
    for owned in store.texts("SMEMBERS", routing.owned_key(incarnation)):
        if owned.startswith("w-"):
            owner = store.hash(routing.worker_keys(owned).meta).get("own", "")
            shared_lost(store, owned, owner, lost, ttl)
            continue
        record = directory.find(store, owned)
        if record is not None and record.incarnation == incarnation:
            actor_lost(store, owned, record.keys.queue, record.meta["own"], lost, ttl)
    for session in store.texts("SMEMBERS", routing.sessions_key(incarnation)):
        session_lost(store, incarnation, session, ttl)
    groups.lost(store, incarnation)
    store.run("UNLINK", routing.owned_key(incarnation), routing.kill_key(incarnation),
              routing.asks_key(incarnation))  # fmt: skip
    # Last: where this process stops before, others find the node and do it all again.
    store.run("HDEL", routing.NODES, incarnation)
    if store.run("HLEN", routing.NODES) == 0:  # nobody else looks whether anything waits
        store.scripts.look(
            routing.NEEDS, routing.GROUPS_WAITING, (routing.creation_queue(""),
            routing.shared_queue("")),
        )  # fmt: skip


def session_lost(store: Store, incarnation: str, session: str, ttl: int) -> None:
    """Drop what a worker's process kept alive: it has ended."""
    leave(store, session, ttl)
    store.run("SREM", routing.sessions_key(incarnation), session)


def end_session(store: Store, session: str, ttl: int) -> None:
    """End the actors of a driver that is gone, unless they are detached."""
    job = routing.job_key(session)
    for actor_id in store.texts("SMEMBERS", job):
        record = directory.find(store, actor_id)
        if record is not None:
            cause = "the driver that created it ended"
            directory.end(store, actor_id, record.keys.queue, cause, ttl)
    leave(store, session, ttl)
    groups.end_job(store, session)  # now that no further group can be made
    store.run("ZREM", routing.SESSIONS, session)
    store.run("UNLINK", job, routing.session_key(session), routing.CALLERS + session)
