"""One schedule: roles, a scheduler that draws who goes on, and the faults that it lets happen."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from celery_actors import routing
from celery_actors.store import StoreUnreachableError

from .history import History, Violation
from .network import Clock, Line, Port, Server, Steps, Words

__all__ = ["Role", "World"]

#: Steps after which something hangs. A schedule has some hundred.
LIMIT = 4_000
_REMEMBER = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = key
  found[#found + 1] = math.max(0, redis.call('PTTL', key))
  found[#found + 1] = redis.call('DUMP', key)
end
return found"""
_ROLL_BACK = """
redis.call('FLUSHDB')
for i = 1, #ARGV, 3 do redis.call('RESTORE', ARGV[i], ARGV[i + 1], ARGV[i + 2]) end"""
#: Seconds for which a node's lease lasts.
LEASE_SECONDS = 3.0


@dataclass(frozen=True)
class Weather:
    """What goes wrong in a schedule: how many faults, and how likely each is in one step.

    ``losses``: a request or its answer is lost, or whoever waits for it dies. ``stalls``: a node
    stands still, or is stopped. ``calm``: of the pauses between a caller's submissions. ``parks``:
    of calls whose argument is not ready. ``hiccups``: somebody stands still for some steps.
    """

    often: int
    faults: tuple[int, ...]
    losses: float = 0.0
    stalls: float = 0.0
    calm: float = 0.3
    parks: float = 0.15
    hiccups: float = 0.0


WEATHERS = (
    Weather(1, (0,)),
    Weather(3, (1, 2, 4, 8), losses=0.03, stalls=0.01, hiccups=0.01),
    Weather(3, (4, 8), losses=0.15, stalls=0.003, parks=0.5),
    Weather(2, (2, 3, 5), losses=0.01, stalls=0.04, calm=0.8, hiccups=0.05),
    Weather(2, (3, 5), losses=0.01, stalls=0.04, calm=0.5, parks=0.6, hiccups=0.05),
)


#: How much more often something goes wrong in these steps: what is lost there matters.
_WORTH_LOSING = {
    "born": 3, "claim": 2, "commit": 3, "commit_state": 12, "release": 3, "submit": 3, "take": 3,
}  # fmt: skip


class Role:
    """Something that acts: a process, mostly. ``body`` says what it does."""

    name = "role"
    mortal = True  # a fault may end it

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.port = Port(world)
        self.weight = world.draw.choice((1, 2, 4, 8))
        self.awake = False
        self.frozen = 0.0  # until when it does not run
        self.over = False
        self.waits: Line | float | None = None
        self._body = self.body()

    def body(self) -> Steps[None]:
        """Yield what it waits for: a line, a moment (woken or not), or None: its next turn."""
        raise NotImplementedError

    def patiently(self, function: Callable[..., Any], *words: Any) -> Steps[Any]:
        """Run a function of the product, again where the store did not answer."""
        while True:
            try:
                return (yield from self.port.steps(lambda: function(*words)))
            except StoreUnreachableError:
                yield self.world.clock.now + 0.5

    def wake(self) -> None:
        """Let it look around."""
        self.awake = True

    def is_ready(self, now: float) -> bool:
        """Tell whether it can go on."""
        if self.frozen > now:
            return False
        waits = self.waits
        if isinstance(waits, Line):
            return waits.has_news or bool(waits.asked and not waits.blocked)
        return waits is None or self.awake or now >= waits

    def go_on(self) -> None:
        """Act until it waits for something again."""
        if isinstance(self.waits, float):
            self.awake = False
        try:
            self.waits = next(self._body)
        except StopIteration:
            self._end()

    def crash(self) -> None:
        """End at once, wherever it is."""
        self._body.close()
        self._end()

    def _end(self) -> None:
        self.over = True
        self.world.roles.remove(self)
        self.world.ends += 1
        self.ended()

    def ended(self) -> None:
        """Take note of its own end."""


class World:
    """A store, the roles around it, and time."""

    def __init__(self, server: Server, seed: int, history: History, *, trace: bool = False) -> None:
        self.server = server
        self.draw = random.Random(seed)
        self.clock = Clock()
        self.history = history
        self.roles: list[Role] = []
        self.leases: dict[str, float] = {}  # of node runs: until when
        self.suspects: set[str] = set()  # node runs that were without a lease once
        self.on_push: Callable[[str, bytes], None] = lambda _channel, _data: None
        self.resting = False  # actors become passive where no call waits
        self.sink: Any = None  # the actor to which durable ones send calls
        self.sent: dict[str, list[str]] = {}  # those calls, by the call that has made them
        self.steps = self.ends = 0
        self.trace: list[str] | None = [] if trace else None
        self._lines: dict[int, Line] = {}
        self._alarms: list[tuple[float, Role]] = []
        self._due: dict[str, float] = {}  # by call: when its argument is ready
        self._blocked: list[Line] = []
        self._late: list[Words] = []  # requests that arrive after their sender has given up
        draw = self.draw
        self.second = draw.choice((0.001, 0.01, 0.03))  # of each step
        self._slow = draw.choice((0.0, 0.1, 0.3))  # answers that are under way for a while
        self._lateness = draw.choice((0.01, 0.05, 0.3))  # how soon late requests arrive
        self._aside = False  # a call out of line has just been settled
        self.weather = draw.choices(WEATHERS, [weather.often for weather in WEATHERS])[0]
        self.faults = draw.choice(self.weather.faults)  # that may still happen
        server.call("FLUSHDB")
        server.pushed.clear()

    def say(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.steps:4d} {self.clock.now:8.2f}  {who:12s} {what}")

    def add(self, role: Role) -> None:
        """Let a role act from now on."""
        self.roles.append(role)

    # -- the network -----------------------------------------------------------------------------

    def open(self) -> Line:
        """Return a new line."""
        line = Line(len(self._lines) + 1)
        self._lines[line.number] = line
        return line

    def execute(self, words: Words) -> Any:
        """Let the store execute a command; tell who has to know."""
        if words[:2] == (b"CLIENT", b"KILL"):
            self._lines[int(words[3])].cut()
            return 1
        reply = self.server.execute(words)
        if isinstance(reply, dict):  # a server orders long hashes by a number of its own
            reply = dict(sorted(reply.items()))
        name = ""
        if words[0] == b"EVALSHA":
            name = self.server.names[words[1]]
            self._aside = name == "commit_state" and words[3 + int(words[2])] == b"take"
            if name == "tick" and reply[0] == 1:
                self.leases[words[3 + int(words[2])].decode()] = self.clock.now + LEASE_SECONDS
        if self.trace is not None:
            self.say("  store", f"{_shown(name, words)} -> {reply!r:.150}")
        if self._blocked:
            self._unblock(words if name != "claim" else (line.blocked for line in self._blocked))
        self.history.observe(name, words, reply)
        self._push()
        return reply

    def _unblock(self, words: Iterable[bytes]) -> None:
        """Let those look again that wait on a list which a command may have filled."""
        text = b" ".join(words)
        for line in [line for line in self._blocked if line.blocked in text]:
            line.blocked = b""
            self._blocked.remove(line)

    def _push(self) -> None:
        pushed = self.server.pushed
        while pushed:
            self.on_push(*pushed.pop(0))

    def _answer(self, line: Line) -> None:
        """Let the store answer the oldest request of a line."""
        words = line.asked[0]
        if words[0] == b"BLMOVE":  # the server must not block: there is one connection to it
            reply = self.server.call("LMOVE", *words[1:5])
            if reply is None:
                line.blocked = words[1]
                self._blocked.append(line)
                return
        else:
            reply = self.execute(words)
        line.asked.popleft()
        line.answers.append(reply)

    # -- time ------------------------------------------------------------------------------------

    def _pass_time(self, seconds: float) -> None:
        now = self.clock.now = self.clock.now + seconds
        for incarnation in [name for name, until in self.leases.items() if now >= until]:
            self.expire(incarnation)

        if self._alarms and min(self._alarms, key=lambda alarm: alarm[0])[0] <= now:
            for alarm in [alarm for alarm in self._alarms if alarm[0] <= now]:
                self._alarms.remove(alarm)
                alarm[1].wake()

    def expire(self, incarnation: str) -> None:
        """Let the lease of a node run be over."""
        del self.leases[incarnation]
        self.suspects.add(incarnation)
        self.server.call("UNLINK", routing.lease_key(incarnation))
        self.history.counts["leases lost"] += 1
        self.say("time", f"the lease of {incarnation} is over")

    def wake_at(self, role: Role, when: float) -> None:
        """Wake a role at a moment."""
        self._alarms.append((when, role))

    def wake_when_due(self, role: Role, call_id: str) -> None:
        """Wake a role when the argument of a call is ready."""
        self.wake_at(role, self._due.get(call_id, 0.0))

    def hold_back(self, call_id: str, seconds: float) -> None:
        """Let the argument of a call be ready so long after somebody asked for it first."""
        if seconds:
            self._due.setdefault(call_id, self.clock.now + seconds)

    def is_due(self, call_id: str) -> bool:
        """Tell whether the argument of a call is ready, or it needs none."""
        return self.clock.now >= self._due.get(call_id, 0.0)

    def delay(self, seconds: float) -> None:
        """Let arguments that are not ready yet be so later, by so much, and whatever is awaited."""
        now = self.clock.now
        self._due = {name: when + seconds * (when > now) for name, when in self._due.items()}
        self._alarms = [(when + seconds, role) for when, role in self._alarms]

    def _idle(self) -> None:
        """Nobody can act before some moment: let it come."""
        moments = [role.waits for role in self.roles if isinstance(role.waits, float)]
        moments += [alarm[0] for alarm in self._alarms]
        moments += [role.frozen for role in self.roles]
        later = [moment for moment in moments if self.clock.now < moment < float("inf")]
        if not later:
            raise Violation("nobody has anything to do any more, and it is not over")
        self._pass_time(min(later) - self.clock.now)

    # -- the scheduler ---------------------------------------------------------------------------

    def run(self, is_over: Callable[[], bool]) -> None:
        """Let roles act, one at a time, until it is over."""
        draw, history = self.draw, self.history
        while not is_over():
            self.steps += 1
            if self.steps > LIMIT:
                raise Violation(f"it is not over after {LIMIT} steps")
            self._pass_time(self.second)
            # What arrives late does most harm behind a call out of line, which moves no position.
            likely = 0.5 if self._aside else self._lateness
            self._aside = False
            if self._late and draw.random() < likely:
                words = self._late.pop(draw.randrange(len(self._late)))
                history.counts["late requests"] += 1
                self.say("network", "a request arrives late")
                self.execute(words)
            now = self.clock.now
            ready = [role for role in self.roles if role.is_ready(now)]
            if not ready:
                self._idle()
                continue
            role = self._pick(ready)
            if self.faults and draw.random() < self.weather.hiccups:
                role.frozen = now + draw.randrange(30) * self.second
            else:
                self._advance(role)

    def _pick(self, roles: list[Role]) -> Role:
        left = self.draw.random() * sum([role.weight for role in roles])
        for role in roles:
            left -= role.weight
            if left < 0:
                return role
        return roles[-1]

    def _advance(self, role: Role) -> None:
        line = role.waits
        if isinstance(line, Line) and not line.has_news:
            fault = self._fault(role)
            if fault in {"lost", "crash before"}:
                if self.draw.random() < 0.7 and line.asked[0][0] == b"EVALSHA":
                    self._late.append(line.asked[0])
                line.cut()
                if fault == "crash before":
                    role.crash()
                    return
            else:
                self._answer(line)
                if line.blocked:
                    return
            if fault == "unheard":
                line.answers.clear()
                line.cut()
            if fault == "crash after":
                role.crash()
                return
            if self._slow and self.draw.random() < self._slow:
                return  # its answer is under way
        role.go_on()

    def _fault(self, role: Role) -> str:
        """Return what goes wrong now with this role, mostly nothing."""
        line = role.waits
        assert isinstance(line, Line)
        name = self.server.names.get(line.asked[0][1], "") if line.asked else ""
        likely = self.weather.losses * _WORTH_LOSING.get(name, 0.6)
        if not self.faults or self.draw.random() >= likely:
            return ""
        kinds = ["lost", "unheard"] + ["crash before", "crash after"] * role.mortal
        kind = self.draw.choice(kinds)
        self.faults -= 1
        self.history.counts[kind] += 1
        self.say("fault", f"{kind}: {role.name}")
        return kind

    def may_fail(self, chance: float) -> bool:
        """Tell whether a fault of a role's own happens now; it counts among the others."""
        if not self.faults or self.draw.random() >= chance:
            return False
        self.faults -= 1
        return True

    @property
    def has_late(self) -> bool:
        """Tell whether a request is still under way whose sender has given up."""
        return bool(self._late)

    def remember(self) -> list[Any]:
        """Return everything that the store has."""
        found: list[Any] = self.server.call("EVAL", _REMEMBER, 0)
        return found

    def roll_back(self, to: list[Any]) -> None:
        """Give the store what it had then: a replica that has not heard of the rest takes over.

        That takes longer than anybody repeats one command, so all that is under way fails.
        """
        self.server.call("EVAL", _ROLL_BACK, 0, *to)
        self.suspects |= self.leases.keys()
        names = [name.decode() for name in self.server.call("HKEYS", routing.NODES)]
        held = [name for name in names if self.server.call("EXISTS", routing.lease_key(name))]
        self.leases = dict.fromkeys(held, self.clock.now + LEASE_SECONDS)
        self.suspects |= self.leases.keys()
        self._late.clear()
        self._blocked.clear()
        for line in self._lines.values():
            line.outage = bool(line.asked or line.answers)
            line.answers.clear()
            line.cut()

    def deliver_late(self) -> None:
        """Let every request arrive that is still under way."""
        for words in self._late:
            self.execute(words)
        self._late.clear()


def _shown(name: str, words: Words) -> str:
    """Return a command for people."""
    if not name:
        return " ".join(word.decode(errors="replace")[:40] for word in words)[:160]
    keys = int(words[2])
    shown = [word.decode(errors="replace") for word in words[3 + keys :]]
    return f"{name}({', '.join(text if len(text) < 40 else _id_in(text) for text in shown)})"[:300]


def _id_in(text: str) -> str:
    """Return what tells a long word from others: the id in a message or a result."""
    found = re.search(r'"(?:task_id|id)":"([^"]+)"', text)
    return f"<{found[1]}>" if found else text[:20] + "…"
