"""An actor's process: the product's mailbox, and around it what ``ActorLoop`` does."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from celery_actors import routing
from celery_actors.actor_loop import Aside
from celery_actors.assignment import Assignment
from celery_actors.directory import ActorRecord, answer_to, passivate
from celery_actors.durable_state import News
from celery_actors.errors import (
    ClusterUnreachableError,
    FencedError,
    StoreRolledBackError,
    TaskCancelledError,
)
from celery_actors.mailbox import Batch, Mailbox
from celery_actors.messages import Message, call_id_of, outline
from celery_actors.methods import TERMINATE
from celery_actors.records import error_record
from celery_actors.store import Answer, Durable, Step, Store, StoreError

from .kept import Memory
from .network import WAKE_FD, Line, Steps, twin
from .world import Role

if TYPE_CHECKING:
    from .node import Node

__all__ = ["TTL", "Worker"]

T = TypeVar("T")
#: Seconds for which results stay.
TTL = 3600
#: Calls that a busy mailbox fetches ahead.
AHEAD = 4


class Parked(NamedTuple):
    """A call out of line."""

    position: int
    message: Message


class Worker(Role):
    """One process of one actor."""

    def __init__(self, node: Node, assignment: Assignment) -> None:
        self.node = node
        self.assignment = assignment
        self.progress = 0  # the position of the call that began last, in memory that outlives it
        self.left = ""
        self.rolled_back = False
        self.seen: set[str] | None = None  # then: the calls in its queue that had begun here
        self.stopping = False
        self.cancelled: set[str] = set()
        self._window: deque[bytes] = deque()
        self._answers: list[Answer] = []
        self._parked: dict[str, deque[Parked]] = {}
        self._inherited = 0
        self._memory: Memory | None = None  # durable: what its calls have done
        self._steps: list[Step] = []  # what they have sent, not committed yet
        self._sent = 0
        self._rests_at = 0.0  # when it becomes passive, if no call has come by then
        self._mailbox: Mailbox
        super().__init__(node.world, assignment.owner)
        mine = assignment
        # What the product's `Aside` needs of the runtime.
        runtime: Any = SimpleNamespace(
            store=self.port.store,
            result_seconds=TTL,
            holdings=SimpleNamespace(clear=lambda *_: None),
        )
        self._aside = Aside(runtime, mine.keys, mine.epoch, mine.owner)

    def forget(self, _store: Store, _host: str) -> None:
        """Remove what its Celery side leaves: it has none here."""

    # -- what others tell it ------------------------------------------------------------------

    def wake(self) -> None:
        """Let its loop look around."""
        self.port.woken = True

    @property
    def is_idle(self) -> bool:
        """True while it waits for a call and has none."""
        waits = self.waits
        return isinstance(waits, Line) and waits.listener is not None and not waits.answers

    def drain(self) -> None:
        """Let it end after the present call."""
        self.stopping = True
        self.wake()

    def cancel(self, call_id: str) -> None:
        """Tell it that a call was cancelled."""
        self.cancelled.add(call_id)
        self.wake()

    def ended(self) -> None:
        """Tell its node."""
        self.node.worker_ended(self)

    # -- its life -----------------------------------------------------------------------------

    def body(self) -> Steps[None]:
        """Start, serve, end."""
        mine, store, steps = self.assignment, self.port.store, self.port.steps
        try:
            if not (yield from self._ready()):
                return
            yield from steps(self._open)
            if mine.meta["restarts"] != "0":
                self._inherited = yield from steps(lambda: store.run("LLEN", mine.queue))
            if self.world.resting:
                self._look_idle()
            while not self.stopping:
                yield from self._turn()
            if not self._mailbox.peeking:
                yield from self._commit()
            yield from self._close()
        except (FencedError, ClusterUnreachableError, StoreError) as error:
            self.world.say(self.name, f"ends: {error}")
        except StoreRolledBackError as error:
            self.world.say(self.name, f"ends: {error}")
            self.rolled_back = True
            waiting = yield from self.patiently(store.run, "LRANGE", mine.queue, 0, -1)
            ran = self.world.history.ran.get(mine.owner, ())
            self.seen = {found for found in map(call_id_of, waiting) if found in ran}

    def _ready(self) -> Steps[bool]:
        """Tell the cluster that the actor lives; False where another process has its place."""
        mine, store, steps = self.assignment, self.port.store, self.port.steps
        fields: dict[str, Any] = {"st": "alive", "pid": 1, "node": self.node.name}
        durable = self.world.history.durable
        if not durable:
            words = (mine.keys.meta, mine.epoch, mine.owner, fields)
            return (yield from steps(lambda: store.scripts.mark(*words)))
        every = self.world.draw.choice((1, 2, 3, 5))
        memory = self._memory = Memory(store, mine.keys, durable, every)
        stored = yield from steps(lambda: store.get(mine.keys.state))
        if stored is not None:
            yield from steps(lambda: memory.kept.load(stored))
        return (yield from self._store(memory.kept.first(), mine.position, fields))

    def _store(self, news: News, position: int, fields: dict[str, Any]) -> Steps[bool]:
        """Store a state beside any commit."""
        mine, scripts = self.assignment, self.port.store.scripts
        keys = (mine.keys.meta, mine.keys.state, mine.keys.journal)
        words = (keys, news.state, position, mine.epoch, mine.owner, fields)
        return (yield from self.port.steps(lambda: scripts.born(*words)))

    def _close(self) -> Steps[None]:
        """Store the state where only calls are: the process ends in order."""
        if self._memory is not None:
            news = self._memory.kept.last()
            if news.state:
                yield from self._store(news, self._mailbox.position, {"st": "alive"})

    def _open(self) -> None:
        mine = self.assignment
        port: Any = self.port
        self._mailbox = Mailbox(
            port, mine.keys, source="", epoch=mine.epoch, owner=mine.owner,
            position=mine.position, ttl=TTL, wake_fd=WAKE_FD,
            mark=mine.meta["max_restarts"] != "0",
            lease_lasts=lambda: self.port.hear(self.node.lease_lasts),
        )  # fmt: skip

    def _mail(self, method: Callable[[Mailbox], T]) -> Steps[T]:
        """Use the mailbox. It changes while it waits, so each attempt begins with a copy."""
        before = self._mailbox

        def attempt() -> T:
            self._mailbox = twin(before)
            return method(self._mailbox)

        return (yield from self.port.steps(attempt))

    def _turn(self) -> Steps[None]:
        if self.port.woken and not self._mailbox.peeking:
            yield from self._commit()
            yield from self._woken()
            if self.stopping:
                return
        if not self._window and not (yield from self._refill()):
            return
        while self._window and not self.stopping:
            if self._answers and self.world.draw.random() < 0.3:  # a millisecond has passed
                yield from self._commit()
            yield from self._one(self._window.popleft())

    def _refill(self) -> Steps[bool]:
        batch = self._take_batch()
        if self._mailbox.backlog:
            calls = yield from self._mail(lambda mailbox: mailbox.commit(batch, AHEAD))
            if calls:
                self._window.extend(calls)
                return True
        elif batch.answers:
            yield from self._mail(lambda mailbox: mailbox.commit_and_peek(batch))
        calls, woken = yield from self._mail(lambda mailbox: mailbox.peek())
        self._window.extend(calls)
        if woken:
            yield from self._woken()
        return bool(calls)

    def _commit(self) -> Steps[None]:
        if self._answers:
            batch = self._take_batch()
            yield from self._mail(lambda mailbox: mailbox.commit(batch, 0))

    def _take_batch(self) -> Batch:
        answers, self._answers = self._answers, []
        return Batch(answers, (), self._durable() if answers else None)

    def _durable(self) -> Durable | None:
        """Return what a durable actor commits with its answers."""
        if self._memory is None:
            return None
        news, steps = self._memory.kept.news(), self._steps
        self._steps = []
        return Durable(self.assignment.keys.state, news.state, [*news.steps, *steps])

    # -- calls --------------------------------------------------------------------------------

    def _one(self, raw: bytes) -> Steps[None]:
        message = outline(raw)
        if self._inherited:
            self._inherited -= 1
            mark = routing.cancelled_key(message.call_id)
            if (yield from self.port.steps(lambda: self.port.store.run("EXISTS", mark))):
                self.cancelled.add(message.call_id)
        line = self._line_of(message)
        if line is None:
            self.progress = self._mailbox.position + len(self._answers) + 1
            answer = yield from self._execute(message)
            if answer is not None:
                self._answers.append(answer)
            return
        yield from self._commit()
        position = self._mailbox.position
        yield from self._mail(lambda mailbox: mailbox.park())
        self.world.history.counts["parked"] += 1
        self._parked.setdefault(line, deque()).append(Parked(position, message))
        self.world.wake_when_due(self, message.call_id)

    def _line_of(self, message: Message) -> str | None:
        """Return the line in which a call must wait; None to run it now."""
        if message.method == TERMINATE:
            return "last" if self._parked else None
        caller, call_id = message.tag.caller, message.call_id
        self.world.hold_back(call_id, message.args[0])
        late = not self.world.is_due(call_id) and call_id not in self.cancelled
        return caller if late or caller in self._parked else None

    def _execute(self, message: Message) -> Steps[Answer | None]:
        """Run a call; return its answer, or None where the process ends with it."""
        if message.method == TERMINATE:
            self.left = "nobody holds it any more"
            self.stopping = True
            yield from self._commit()
            return None
        call_id = message.call_id
        history, owner = self.world.history, self.assignment.owner
        if call_id in self.cancelled:
            history.refuses(call_id, owner)
            return _refusal(message, "was cancelled before it started")
        self.world.say(self.name, f"runs {call_id}")
        history.begins(call_id, owner)
        number = len(history.ran[owner])
        for _ in range(self.world.draw.choice((0, 1, 1, 8))):
            yield None
        if self.world.draw.random() < 0.3:  # it takes long: what is finished is committed
            yield from self._commit()
        stopped = call_id in self.cancelled
        if self._memory is not None:
            number = self._memory.run(message)
            if stopped:
                yield from self._roll_back(self._memory)
            else:
                self._memory.note()
                self._send(message)
        if stopped:
            return _refusal(message, "was cancelled while it ran")
        record = {"status": "SUCCESS", "result": [owner, number], "task_id": call_id}
        return answer_to(message, json.dumps(record).encode())

    def _roll_back(self, memory: Memory) -> Steps[None]:
        """Have the state that the call before has left."""
        yield from self._commit()
        yield from self.port.steps(memory.kept.roll_back)

    def _send(self, message: Message) -> None:
        """Send what a call sends: it goes with the commit."""
        sink = self.world.sink
        if sink is not None and message.args[1]:
            self._sent += 1
            session = self.assignment.session
            call = sink.call(session, self._sent, (0.0, False), -1)
            self.world.sent.setdefault(message.call_id, []).append(call.call_id)
            self.world.history.calls[call.call_id] = call
            keys = (sink.keys.queue, sink.keys.meta, sink.keys.callers)
            words = (session, self._sent, self._sent - 1, call.message)
            self._steps.append(Step("submit", keys, words))

    def _woken(self) -> Steps[None]:
        self.port.woken = False
        for line in list(self._parked):
            waiting = self._parked[line]
            while waiting and self._may_start(line, waiting[0]):
                call = waiting.popleft()
                yield from self._run_parked(call)
                if self.stopping:
                    return
            if not waiting:
                del self._parked[line]
        if self.world.resting and self.world.clock.now >= self._rests_at:
            yield from self._rest()

    def _rest(self) -> Steps[None]:
        """Become passive where no call has come for a while."""
        mine, has_calls = self.assignment, bool(self._window or self._parked)
        record = ActorRecord(mine.actor_id, mine.meta)
        words = (self.port.store, record, self.node.name, mine.epoch, mine.owner)
        if not has_calls:
            yield from self._close()
            if (yield from self.port.steps(lambda: passivate(*words))):
                self.stopping = True
                return
        self._look_idle()

    def _look_idle(self) -> None:
        """Look later whether there is something to do."""
        self._rests_at = (
            self.world.clock.now + self.world.draw.choice((1, 5, 30)) * self.world.second
        )
        self.world.wake_at(self, self._rests_at)

    def _may_start(self, line: str, call: Parked) -> bool:
        if line == "last":
            return len(self._parked) == 1
        call_id = call.message.call_id
        return call_id in self.cancelled or self.world.is_due(call_id)

    def _run_parked(self, call: Parked) -> Steps[None]:
        aside = self._aside
        yield from self.port.steps(lambda: aside.start(call.position))
        answer = yield from self._execute(call.message)
        if answer is not None:
            durable = self._durable()
            yield from self.port.steps(lambda: aside.settle(call.position, answer, [], (), durable))


def _refusal(message: Message, text: str) -> Answer:
    error = TaskCancelledError(f"{message.task} {text}")
    return answer_to(message, error_record(error, message.call_id))
