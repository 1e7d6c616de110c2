"""An actor and a shared worker as the scripts see them: records in a real store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from celery_actors import directory, routing
from celery_actors.need import Need
from celery_actors.store import Answer, Claim, Seen, Store
from celery_actors.store.scripts import flatten

NODE = "node-1"
NODE_PREFIX = f"{routing.PREFIX}:node:"
TTL = 60
CHANNEL = routing.reply_channel("caller-1")


def answer(number: int, channel: str = "") -> Answer:
    """Return the answer to call number so-and-so."""
    call_id = f"call-{number}"
    record = json.dumps({"task_id": call_id, "result": number}).encode()
    return Answer(routing.result_key(call_id), record, channel)


def answers(*numbers: int) -> list[Answer]:
    return [answer(number) for number in numbers]


def start_node(store: Store, incarnation: str = NODE) -> None:
    store.run("SET", routing.lease_key(incarnation), "1")


@contextmanager
def full(store: Store) -> Iterator[None]:
    """Let the store be out of memory."""
    store.run("CONFIG", "SET", "maxmemory", 1)
    try:
        yield
    finally:
        store.run("CONFIG", "SET", "maxmemory", 0)


@dataclass
class StoredActor:
    """One actor: its record, its queue and what a node would do with it."""

    store: Store
    actor_id: str = "actor-1"
    name: str = "counter"
    epoch: str = "0"
    owner: str = ""

    @property
    def keys(self) -> routing.ActorKeys:
        return routing.ActorKeys(routing.actor_queue("default", self.name), self.actor_id)

    @property
    def meta(self) -> dict[str, str]:
        return self.store.hash(self.keys.meta)

    @property
    def creations(self) -> str:
        return routing.creation_queue(Need().label)

    @property
    def waiting(self) -> list[str]:
        """The calls in the queue, oldest first."""
        return self.store.texts("LRANGE", self.keys.queue, 0, -1)[::-1]

    @property
    def parked(self) -> dict[str, str]:
        return self.store.hash(self.keys.parked)

    def create(self, *, detached: bool = False) -> str | None:
        return directory.create(
            self.store,
            actor_id=self.actor_id,
            queue=self.keys.queue,
            name_field=routing.name_field("default", self.name),
            spec=b"the spec",
            need=Need(),
            job="job-1",
            detached=detached,
            fields={"class": "Counter", "max_restarts": 1},
        )

    def claim(self, incarnation: str = NODE, nonce: str = "n1") -> Claim | None:
        """Become the owner as a node does."""
        names = [self.creations, routing.owned_key(incarnation), routing.lease_key(incarnation),
                 routing.DEAD_LETTERS]  # fmt: skip
        claim = self.store.scripts.claim(names, f"{incarnation}|{nonce}", routing.PREFIX)
        if claim is not None:
            self.epoch, self.owner = claim.epoch, f"{incarnation}|{nonce}"
        return claim

    def start(self, nonce: str = "n1") -> StoredActor:
        """Create the actor and let a node claim it."""
        self.create()
        start_node(self.store)
        assert self.claim(nonce=nonce) is not None
        return self

    def submit(
        self, first: int, *messages: str, caller: str = "caller-1", after: int | None = None
    ) -> list[Any]:
        names = [self.keys.queue, self.keys.meta, self.keys.callers]
        after = first - 1 if after is None else after
        words: list[str | int] = [caller, first, after, *messages]
        reply: list[Any] = self.store.scripts._eval("submit", names, *words)
        return reply

    def commit(self, position: int, settled: Sequence[Answer], want: int = 0) -> list[Any]:
        """Settle and fetch; the raw reply."""
        words = [word for one in settled for word in one]
        reply: list[Any] = self.store.scripts._eval(
            "commit", [self.keys.queue, self.keys.meta, ""],
            self.epoch, self.owner, position, len(settled), want, TTL, *words,
        )  # fmt: skip
        return reply

    def park(self, position: int) -> int:
        """Let the owner move the oldest call out of line; return the script's code."""
        return int(self.take(position, 1)[0])

    def take(
        self, position: int, want: int, settled: Sequence[tuple[int, Answer]] = ()
    ) -> list[Any]:
        """Let the owner move calls out of line, and settle some that are."""
        keys = self.keys
        positions = [number for number, _ in settled]
        found = flatten(found for _, found in settled)
        words = (self.epoch, self.owner, position, want, TTL, len(settled), *positions, *found)
        names = [keys.queue, keys.meta, keys.parked, keys.begun]
        reply: list[Any] = self.store.scripts._eval("take", names, *words)
        return reply

    def release(self, position: int, answered: Sequence[Answer], **changed: Any) -> str | int:
        """Let the node report that the actor's process is gone."""
        names = [self.keys.queue, self.keys.meta, self.keys.parked, routing.owned_key(NODE),
                 self.creations, routing.BELL, self.keys.begun, routing.NEEDS,
                 routing.DYING]  # fmt: skip
        given: dict[str, Any] = {
            "epoch": self.epoch, "owner": self.owner, "position": position,
            "settled": len(answered), "next_state": "1", "cause": "killed", "init_failed": False,
            "creation": directory.creation_message(
                self.actor_id, self.keys.queue, "Counter"),
            "need": "none", "actor_id": self.actor_id, "ttl": TTL,
            "answers": answered, "returned": [], "aside": [],
        }  # fmt: skip
        given.update(changed)
        taken = [text.encode() for text in self.waiting[: given["settled"]]]
        ends = (taken[0], taken[-1]) if taken else ()
        given.setdefault("seen", Seen(self.meta["go"], self.meta["st"], None, *ends))
        return self.store.scripts.release(names, **given)

    def passivate(self, incarnation: str = NODE) -> bool:
        """Let the owner say that it has been idle for long."""
        record = directory.ActorRecord(self.actor_id, self.meta)
        return directory.passivate(self.store, record, incarnation, self.epoch, self.owner)

    def kill(self, cause: str = "ray.kill") -> bool:
        words = (self.actor_id, cause, NODE_PREFIX, 100)
        return self.store.scripts.kill([self.keys.meta, routing.NAMES, routing.DYING], *words)

    def bury(self) -> bool:
        keys = self.keys
        names = [keys.queue, keys.meta, keys.callers, keys.parked, keys.spec, routing.NAMES,
                 routing.ACTORS, routing.job_key("job-1"), keys.tokens,
                 routing.job_key(""), routing.PASSIVE, keys.reminders, routing.REMINDERS,
                 keys.log, routing.BURIED, keys.state, keys.journal, keys.steps]  # fmt: skip
        return self.store.scripts.bury(names, self.actor_id, 100, 10)


def results(store: Store) -> dict[str, int]:
    """Return every stored result, by call id."""
    found = {}
    for key in store.texts("KEYS", routing.RESULT_PREFIX + "*"):
        raw = store.get(key)
        assert raw is not None
        assert int(store.run("TTL", key)) > 0
        found[key.removeprefix(routing.RESULT_PREFIX)] = json.loads(raw)["result"]
    return found


def messages_on(subscription: Any, count: int) -> list[str]:
    """Return the next messages of a subscription, which ends with them."""
    with subscription:
        return [found["data"].decode() for found in islice(subscription.listen(), count)]
