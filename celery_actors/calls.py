"""The sending side of one process: ordered streams of calls, gathered into few round trips."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from . import recording, routing, tracing
from .buffers import Buffers
from .contents import collecting
from .errors import PendingCallsLimitExceeded, RayError
from .holdings import Holdings
from .messages import Lineage, MessageTemplate, encode_body
from .need import Need
from .object_ref import ObjectRef
from .recording import step
from .results import Results
from .serialization import SEALED, Sealer, encode_plain, is_sealed
from .store import Mux, Scripts, Step
from .store.wire import pack
from .streams import Acknowledge, Known, Stream
from .tokens import thing_of
from .tracing import Sent
from .waiting import WaitingWork

__all__ = ["Calls", "Held", "Target"]

#: Calls that one caller may be ahead of an actor before ``.remote()`` slows it down. At the
#: slowest measured rate (about 10,000 small calls a second) a read behind them takes half a second.
AHEAD_CALLS = 5_000
#: Calls submitted and not yet acknowledged before ``.remote()`` waits for the store.
UNACKNOWLEDGED_CALLS = 2_000
#: Submissions gathered into one script call while earlier ones are under way.
_BATCH = 48
_EMPTY = encode_body([], {})
_NOTHING = Need()


#: A step of a commit, and who takes the reply to it; None: nobody.
Held = tuple[Step, Callable[[Any], None] | None]


class Target:
    """An actor's queue or a shared queue, with this process's stream of calls to it."""

    __slots__ = (
        "acknowledged",
        "actor_id",
        "ahead",
        "bell",
        "blocks",
        "buffer",
        "first",
        "ids",
        "keys",
        "limit",
        "name",
        "need",
        "order",
        "owner",
        "pending",
        "queue",
        "sequence",
        "stream",
        "unlimited",
    )

    def __init__(
        self, queue: str, name: str, keys: Sequence[str], actor_id: str = "",
        need: Need = _NOTHING, *, registered: bool = False,
    ) -> None:  # fmt: skip
        self.queue = queue
        self.name = name  # for messages to the user
        self.keys = keys
        self.actor_id = actor_id  # empty for a shared queue
        self.need = need  # what calls of a shared queue need
        # What arguments are signed for: the actor, or the shared queue, whichever node takes it.
        self.owner = actor_id or routing.shared_queue(need.anywhere.label)
        # Shared queues: what to ring for.
        self.bell = (need.label, need.encode()) if registered else ("", "")
        self.order = threading.RLock()
        self.sequence = 0
        self.acknowledged = 0
        self.stream = Stream()
        self.first = 0
        self.buffer: list[bytes] = []
        self.ids: list[str] = []
        self.ahead = 0
        self.limit = 0  # calls that may be under way; 0: any number
        self.blocks = False  # wait at the limit instead of raising
        self.pending = 0  # calls under way, counted where there is a limit
        self.unlimited = False  # a call to oneself must never wait for oneself


class Calls:
    """Every stream of calls of one process. Thread-safe."""

    mux: Mux  # set once the connection exists
    waiting: WaitingWork

    def __init__(
        self, session: str, sealer: Sealer, buffers: Buffers, results: Results,
        lock: threading.RLock, seconds: int, holdings: Holdings,
    ) -> None:  # fmt: skip
        self._holdings = holdings
        self._session = session
        self._sealer = sealer
        self._buffers = buffers
        self._results = results
        self._lock = lock
        self._seconds = seconds
        #: Where calls that are made now come from; asked inside other calls only.
        self.lineage: Callable[[], Lineage] | None = None
        self.self_queue = ""  # the queue of the actor that runs in this process, if any
        self._id_prefix = routing.call_prefix(session).encode()
        self._count = 0
        self._targets: dict[str, Target] = {}
        self._dirty: list[Target] = []
        self._buffered = 0
        #: A durable actor's call runs: what it sends stays here and goes with its commit.
        self.held = False
        self._held_ties: list[str] = []
        self.held_steps: list[Step] = []
        #: Commits the calls before the running one: something that it has sent is needed now.
        self.before_early: Callable[[], None] = lambda: None
        self._renewed = time.monotonic()

    def next_id(self) -> bytes:
        """Return a fresh call id in the form of a UUID: a random session and a count."""
        with self._lock:
            self._count += 1
            return b"%b%012x" % (self._id_prefix, self._count)

    def actor(self, queue: str, actor_id: str, name: str) -> Target:
        """Return this process's stream of calls to an actor; one, however many handles."""
        with self._lock:
            target = self._targets.get(actor_id)
            if target is None:
                keys = routing.ActorKeys(queue, actor_id)
                words = (queue, keys.meta, keys.callers)
                target = self._targets[actor_id] = Target(queue, name, words, actor_id)
                target.unlimited = queue == self.self_queue
            return target

    def shared(self, name: str, need: Need, *, registered: bool) -> Target:
        """Return this process's stream of calls to the shared queue of a need.

        ``registered``: the need is told to nodes with every call; no workers are kept ready for it.
        """
        queue = routing.shared_queue(need.label)
        with self._lock:
            target = self._targets.get(queue)
            if target is None:
                words = (queue, routing.CALLERS + self._session, routing.BELL, routing.NEEDS)
                target = Target(queue, name, words, need=need, registered=registered)
                self._targets[queue] = target
            return target

    def submit(
        self,
        target: Target,
        template: MessageTemplate,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        """Send one call; return at once, unless this caller is far ahead of the target.

        Returns what the call's options promise: a reference, several, none, or a generator.

        Raises:
            SerializationError: an argument cannot be pickled; nothing was sent.
            PendingCallsLimitExceeded: as many calls are under way as there may be.
        """
        # The call path: no closure for those who record nothing.
        if recording.current is None and tracing.current is None:
            return self._submit(target, template, args, kwargs)
        return step("a call", lambda: self._traced(target, template, args, kwargs))

    def _traced(
        self,
        target: Target,
        template: MessageTemplate,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        tracer = tracing.current
        if tracer is None:
            return self._submit(target, template, args, kwargs)
        with tracer.sending(template.task, target.queue) as sent:
            return self._submit(target, template, args, kwargs, sent)

    def _submit(
        self,
        target: Target,
        template: MessageTemplate,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        sent: Sent | None = None,
    ) -> Any:
        if target.limit:
            self._make_room(target)
        with target.order:
            sequence = target.sequence + 1
            call_id = self.next_id()
            name = call_id.decode()
            body, carried = _EMPTY, None
            if args or kwargs:
                body, carried = self._body(target, template.task, sequence, name, args, kwargs)
            ref = promised = self._results.new(name)
            lineage = self.lineage() if ref._parent and self.lineage is not None else None
            labels = None if sent is None else sent(name)
            message = template.build(call_id, sequence, body, carried, lineage, labels)
            ref._target, ref._sequence = target, sequence
            if template.repeatable:
                things = [thing_of(tie) for tie in carried or ()]
                # Our own references, not only holds: with one its value can be made again, too.
                holds = [self._results.held(t) or self._holdings.hold(t) for t in things]
                ref._lineage = (target, message, holds)
            if template.returns != 1:
                promised = self._results.several.promise(ref, template.options)
            if target.limit:
                self._results.count(name, target)
            self._enqueue(target, sequence, message, name)
        if target.ahead > AHEAD_CALLS or sequence - target.acknowledged > UNACKNOWLEDGED_CALLS:
            self._throttle(target)
        return promised

    def _enqueue(self, target: Target, sequence: int, message: bytes, name: str) -> None:
        target.sequence = sequence
        with self._lock:
            if not target.buffer:
                target.first = sequence
                self._dirty.append(target)
            target.buffer.append(message)
            target.ids.append(name)
            self._buffered += 1
            if not self.held and (self._buffered >= _BATCH or not self.mux.pending):
                self._flush()

    def submit_again(self, target: Target, raw: bytes) -> bytes:
        """Send a call of ours once more, under its id, and return the new message."""
        message = json.loads(raw)
        headers = message["headers"]
        call_id, task, tag = headers["id"], headers["task"], headers["ca"]
        headers["retries"] += 1
        args, kwargs, embed = json.loads(message["body"])
        with target.order:
            sequence = target.sequence + 1
            values = [*args, *kwargs.values()]
            for position, value in enumerate(values):
                if is_sealed(value):
                    old, new = (
                        ("argument", str(position), target.owner, self._session, str(number),
                         call_id, task) for number in (tag[1], sequence)
                    )  # fmt: skip
                    values[position] = self._sealer.sign_again(value, old, new)
            named = dict(zip(kwargs, values[len(args) :], strict=True))
            message["body"] = json.dumps([values[: len(args)], named, embed])
            tag[1] = sequence
            if len(tag) > 6:
                self._holdings.carry([thing_of(tie) for tie in tag[6]], "m", call_id)
            again = json.dumps(message).encode()
            if (ref := self._results.held(call_id)) is not None:
                ref._sequence = sequence
            self._enqueue(target, sequence, again, call_id)
        return again

    def _make_room(self, target: Target) -> None:
        if target.pending < target.limit:
            return
        self.flush()
        if not target.blocks or target.unlimited:
            cure = "create the actor with on_full='block'"
            raise PendingCallsLimitExceeded(
                f"{target.pending} calls to {target.name} are under way and max_pending_calls is "
                f"{target.limit}: wait for some of them, or "
                + (cure if not target.unlimited else "call it from elsewhere: it waits for itself")
            )
        self.mux.wait(lambda: target.pending < target.limit, None)

    def _body(
        self, target: Target, task: str, sequence: int, call_id: str,
        args: Sequence[Any], kwargs: dict[str, Any],
    ) -> tuple[bytes, list[str] | None]:  # fmt: skip
        """Return the body and the ties of what the arguments refer to."""
        names = [str(position) for position in range(len(args))] + [repr(name) for name in kwargs]
        encoded: list[bytes] = []
        things: dict[str, None] = {}
        try:
            for position, value in enumerate([*args, *kwargs.values()]):
                plain = encode_plain(value)
                if plain is None:
                    place = ("argument", str(position), target.owner, self._session, str(sequence),
                             call_id, task)  # fmt: skip
                    describe = f"argument {names[position]} of {task}()"
                    plain = self._argument(value, place, f"{call_id}.{position}", describe, things)
                encoded.append(plain)
        except BaseException:
            sealed = [one for one in encoded if one.startswith(SEALED)]
            self._buffers.free([blob for one in sealed for blob in Sealer.blobs(one)])
            raise
        named = dict(zip(kwargs, encoded[len(args) :], strict=True))
        return encode_body(encoded[: len(args)], named), self._carry(things, call_id)

    def _carry(self, things: Collection[str], call_id: str) -> list[str] | None:
        """Keep alive what the arguments of a call refer to."""
        if not things:
            return None
        ties = self._holdings.ties(things, "m", call_id)
        with self._lock:
            if self.held:
                self._held_ties += ties
            else:
                self._holdings.add(ties)
        return ties

    def _argument(
        self, value: Any, place: tuple[str, ...], blob_id: str, describe: str,
        things: dict[str, None],
    ) -> bytes:  # fmt: skip
        if isinstance(value, ObjectRef):
            known = value.plain_json()
            if known is not None:
                return known  # small and plain: the value travels instead of the reference
            self._results.share(value)
            things[value.id] = None
            if value._call is not None:
                things[value._call.id] = None  # its failure is what the value may come to
            stored = b"+" if value.is_stored else b""
            return b'{"__type__":"ca-ref","__value__":"%b%b"}' % (value.id.encode(), stored)
        with collecting() as inside:
            raw = self._sealer.seal(value, place, blob_id, describe)
        things.update(inside)
        return raw

    def flush(self) -> None:
        """Send everything that is still gathered here: somebody needs it now."""
        if self.held:
            if not self._dirty:
                return
            self.before_early()
        with self._lock:
            if self._held_ties:
                self._holdings.add(self._held_ties)
                self._held_ties = []
            if self._dirty or self._holdings.added:
                self._flush()
            if self._holdings.dropped:
                self._holdings.post_dropped()

    def tick(self) -> None:
        """Send what has waited here for company."""
        if not self.held:
            self.flush()
            self._results.tick()

    def settle(self) -> None:
        """Send everything but what is held, and wait until the store has accepted it."""
        if self.held:
            with self._lock:
                self._holdings.post_added()
        elif self._dirty or self._holdings.added:
            self.flush()
        cut = bool(self._dirty) and not self.held  # it goes on when all of it is answered
        self.mux.settle()
        if cut:
            self.mux.settle()

    def collect(self) -> list[Held]:
        """Return what is held here, as steps of a commit and who takes the reply to each."""
        with self._lock:
            first = [self._holdings.adding(self._held_ties)] if self._held_ties else []
            steps: list[Held] = [(step, None) for step in (*first, *self.held_steps)]
            self._held_ties, self.held_steps = [], []
            dirty = self._take_dirty()
            self._dirty = [target for target in dirty if target.stream.cut is not None]
            return steps + [self._gathered(t) for t in dirty if t.stream.cut is None]

    def discard(self, error: RayError) -> None:
        """Drop what is held here: the call that sent it is rolled back."""
        for target in self._dirty.copy():
            with target.order, self._lock:
                messages, ids = target.buffer, target.ids
                target.buffer, target.ids = [], []
                self._acknowledge(target, ids, messages).fail(error)
        with self._lock:
            self._take_dirty()
            self._held_ties, self.held_steps = [], []

    def _take_dirty(self) -> list[Target]:
        dirty, self._dirty = self._dirty, []
        self._buffered = 0
        return dirty

    def _flush(self) -> None:
        if self._holdings.added:
            self._holdings.post_added()
        for target in self._take_dirty():
            if target.stream.cut is not None:  # until what failed before these has been answered
                self._dirty.append(target)
                continue
            step, handler = self._gathered(target)
            self.mux.post(Scripts.pack(step.script, step.keys, *step.words), handler)
        self._results.flush_released()

    def _gathered(self, target: Target) -> tuple[Step, Acknowledge]:
        """Return what sends the gathered calls to a target, and who takes the reply."""
        messages, ids = target.buffer, target.ids
        target.buffer, target.ids = [], []
        after = target.stream.send(target.first + len(ids) - 1)
        words: tuple[Any, ...] = (self._session, target.first, after, *messages)
        script = "submit"
        if not target.actor_id:
            self.waiting.sent(target.queue, target.need)
            words = (target.first, after, self._seconds, *target.bell, *messages)
            script = "submit_shared"
        return Step(script, target.keys, words), self._acknowledge(target, ids, messages)

    def _acknowledge(self, target: Target, ids: list[str], messages: list[bytes]) -> Acknowledge:
        return Acknowledge(self._results, self._holdings, target, ids, messages, self.tick)

    def check(self) -> None:
        """Ask, after a reconnect, whether the store still knows what waits for its results."""
        waited = {id(ref._target): ref._target for ref in self._results.pending()}
        for target in waited.values():
            if target is None:
                continue
            meta, callers, field = "", target.keys[1], target.queue
            if target.actor_id:
                meta, callers, field = target.keys[1], target.keys[2], self._session
            command = Scripts.pack("known", [meta, callers], field)
            self.mux.post(command, Known(self._results, target, self.tick))

    def renew(self) -> None:
        """Keep the store from forgetting how far this process's calls of functions have come."""
        if time.monotonic() - self._renewed > self._seconds / 4:
            self._renewed = time.monotonic()
            self.mux.post(pack(("EXPIRE", routing.CALLERS + self._session, self._seconds)))

    def _throttle(self, target: Target) -> None:
        if target.sequence - target.acknowledged > UNACKNOWLEDGED_CALLS:
            self.flush()
            half = UNACKNOWLEDGED_CALLS // 2
            self.mux.wait(lambda: target.sequence - target.acknowledged <= half, None)
        if target.ahead > AHEAD_CALLS and not target.unlimited:
            # Never blocks for good: cycles of actors must be able to pass, slowly.
            excess = (target.ahead - AHEAD_CALLS) / AHEAD_CALLS
            time.sleep(min(0.010, 0.002 * excess))
