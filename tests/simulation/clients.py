"""Those outside the nodes: the driver, callers, and who cancels, kills and reads."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from celery_actors import directory, routing, tokens
from celery_actors.errors import TaskCancelledError
from celery_actors.messages import MessageTemplate, encode_body
from celery_actors.need import Need
from celery_actors.node.recovery import end_session
from celery_actors.records import error_record
from celery_actors.store import Answer, Scripts
from celery_actors.streams import Stream

from .history import Call, Violation
from .kept import SEALER
from .network import Steps
from .worker import TTL
from .world import Role, World

__all__ = ["Actor", "Caller", "Canceller", "Driver", "Killer", "Reader"]

DRIVER = "driver"


@dataclass
class Actor:
    """One actor, as those who use it know it."""

    actor_id: str
    max_restarts: int
    is_created: bool = False

    @property
    def keys(self) -> routing.ActorKeys:
        """Its keys."""
        return routing.ActorKeys(routing.actor_queue("default", self.actor_id), self.actor_id)

    @property
    def tie(self) -> str:
        """What keeps it alive: the driver's handle."""
        return f"{self.keys.thing} p:{DRIVER}:h"

    def call(self, caller: str, sequence: int, args: tuple[float, bool], retries: int) -> Call:
        """Return one call; ``args``: how long its argument is not ready, whether it sends one."""
        template = MessageTemplate(
            task="Counter.add", queue=self.keys.queue, caller=caller, job=DRIVER,
            origin="1@driver", max_retries=retries,
        )  # fmt: skip
        call_id = f"{caller}.{self.actor_id}.{sequence}"
        body = encode_body([json.dumps(arg).encode() for arg in args], {})
        message = template.build(call_id.encode(), sequence, body)
        return Call(call_id, caller, self.actor_id, sequence, message)


class Client(Role):
    """A process that is no node's."""

    def end(self, actor: Actor) -> Steps[None]:
        """End an actor, as ``kill`` does."""
        self.world.history.doomed.add(actor.actor_id)
        store, queue = self.port.store, actor.keys.queue
        words = (store, actor.actor_id, queue, "it was killed", TTL)
        yield from self.patiently(directory.end, *words)


class Driver(Client):
    """Creates the actors, lets the callers begin, and ends everything at last."""

    mortal = False

    def __init__(
        self, world: World, actors: list[Actor], is_idle: Callable[[], bool],
        look: Callable[[], None],
    ) -> None:  # fmt: skip
        self._actors = actors
        self._is_idle = is_idle
        self._look = look
        self.is_ending = False
        self.way = world.draw.choice(("kill", "drop", "leave", "stay", "stay"))
        super().__init__(world, DRIVER)

    def body(self) -> Steps[None]:
        """Create, wait, end."""
        store = self.port.store
        for actor in self._actors:
            taken = yield from self.patiently(self._create, actor)
            if taken is not None:
                raise Violation(f"the name of {actor.actor_id} is taken by {taken}")
            actor.is_created = True
        while not self._is_idle():
            yield self.world.clock.now + 0.1
        self._look()
        self.is_ending = True
        if self.way == "stay":
            return
        if self.way == "kill":
            for actor in self._actors:
                yield from self.end(actor)
        elif self.way == "drop":
            ties = [actor.tie for actor in self._actors]
            yield from self.patiently(tokens.drop, store, ties)
            while (yield from self.patiently(store.run, "EXISTS", routing.ACTORS)):
                yield self.world.clock.now + 0.2
        self.world.history.doomed.update(actor.actor_id for actor in self._actors)
        yield from self.patiently(end_session, store, DRIVER, TTL)

    def _create(self, actor: Actor) -> str | None:
        context = directory.spec_context(actor.actor_id)
        return directory.create(
            self.port.store,
            actor_id=actor.actor_id,
            queue=actor.keys.queue,
            name_field=routing.name_field("default", actor.actor_id),
            spec=SEALER.seal(((), {}), context, "spec", "the arguments"),
            need=Need(),
            job=DRIVER,
            detached=False,
            fields={"class": "Counter", "namespace": "default", "concurrent": 0,
                    "durable": self.world.history.durable,
                    "max_restarts": actor.max_restarts, "max_task_retries": 0},
            tie=actor.tie,
        )  # fmt: skip


class Caller(Client):
    """Submits its calls in order, some at a time, and waits for their results."""

    def __init__(self, world: World, name: str, streams: list[tuple[Actor, list[Call]]]) -> None:
        self._posts: list[tuple[Actor, list[Call]]] = []
        draw = world.draw
        left = [(actor, calls.copy()) for actor, calls in streams if calls]
        while left:
            actor, calls = draw.choice(left)
            count = draw.choice((1, 1, 2, 3))
            self._posts.append((actor, calls[:count]))
            del calls[:count]
            left = [(actor, calls) for actor, calls in left if calls]
        self._open: set[str] = set()
        self._streams: defaultdict[str, Stream] = defaultdict(Stream)
        super().__init__(world, name)

    def body(self) -> Steps[None]:
        """Submit and wait."""
        for actor, calls in self._posts:
            while not actor.is_created:
                yield self.world.clock.now + 0.1
            keys = (actor.keys.queue, actor.keys.meta, actor.keys.callers)
            messages = [call.message for call in calls]
            stream, first, last = self._streams[actor.actor_id], calls[0], calls[-1]
            after = stream.send(last.sequence)
            command = Scripts.words("submit", keys, self.name, first.sequence, after, *messages)
            reply = yield from self.patiently(self.port.store.run, *command)
            if reply[0] == 0:
                stream.accepted = last.sequence
                self._open.update(call.call_id for call in calls)
            else:  # the next ones go behind what the store knows
                known = reply[1] if reply[0] == -3 else stream.accepted
                stream.after = stream.accepted = min(known, stream.accepted)
            if self.world.draw.random() < self.world.weather.calm:
                yield self.world.clock.now + self.world.draw.randrange(40) * self.world.second
        while self._waiting():
            yield float("inf")

    def _waiting(self) -> bool:
        return not all(self.world.history.is_over(call_id) for call_id in self._open)


class Canceller(Client):
    """Cancels a call, as ``Canceller.cancel`` does."""

    def __init__(self, world: World, actor: Actor, call: Call, when: float) -> None:
        self._actor = actor
        self._call = call
        self._when = when
        super().__init__(world, "canceller")

    def body(self) -> Steps[None]:
        """Wait for the moment; withdraw the call, or let its worker know."""
        history, call, keys = self.world.history, self._call, self._actor.keys
        yield self._when
        while not history.is_accepted(call):
            if history.is_over(call.call_id) or self.world.draw.random() < 0.2:
                return
            yield self.world.clock.now + 0.2
        error = TaskCancelledError("the call was cancelled before it started")
        answer = Answer(
            routing.result_key(call.call_id), error_record(error, call.call_id),
            routing.reply_channel(call.caller),
        )  # fmt: skip
        scripts, mark = self.port.store.scripts, routing.cancelled_key(call.call_id)
        for remember in (TTL, 0):
            words = (keys.queue, keys.meta, mark, call.call_id, remember, TTL, answer)
            taken = yield from self.patiently(scripts.cancel, *words)
            if taken:
                return
            word = msgspec.json.encode({"queues": [keys.queue], "cancel": call.call_id})
            yield from self.patiently(self.port.store.run, "PUBLISH", routing.BELL, word)


class Killer(Client):
    """Ends an actor, or its process alone."""

    def __init__(self, world: World, actor: Actor, when: float, *, restart: bool) -> None:
        self._actor = actor
        self._when = when
        self._restart = restart
        super().__init__(world, "killer")

    def body(self) -> Steps[None]:
        """Wait for the moment, then kill."""
        actor, store = self._actor, self.port.store
        yield self._when
        if not self._restart:
            yield from self.end(actor)
        else:
            words = (store, actor.actor_id, actor.keys.queue)
            yield from self.patiently(directory.end_process, *words)


class Reader(Client):
    """Reads results that may be there."""

    def __init__(self, world: World, calls: list[Call]) -> None:
        self._calls = calls
        super().__init__(world, "reader")

    def body(self) -> Steps[None]:
        """Read now and then; what is there must be what its caller has heard."""
        history, draw = self.world.history, self.world.draw
        for call in draw.sample(self._calls, min(2, len(self._calls))):
            yield self.world.clock.now + draw.choice((0.1, 1.0))
            key = routing.result_key(call.call_id)
            raw: Any = yield from self.patiently(self.port.store.get, key)
            told = history.now.results.get(call.call_id)
            if raw is not None and told is not None and json.loads(raw) != told:
                raise Violation(f"{call.call_id} was told {told}, and stored is {raw!r}")
