"""One schedule from its seed: what there is, what happens to it, what is left."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from celery_actors import routing

from .clients import Actor, Caller, Canceller, Client, Driver, Killer, Reader
from .history import Call, History, Timeline, Violation
from .kept import Durable, Memory
from .network import Server, simulated
from .node import Node
from .world import LEASE_SECONDS, World

__all__ = ["CHANNELS", "MODES", "Mode", "Outcome", "run"]

Mode = Literal["once", "again", "state", "resting", "journal"]
#: ``once``: ordinary calls, which run at most once. ``again``: calls with ``max_task_retries=-1``.
#: ``state``: those of durable actors, whose state, results and sent calls commit together.
#: ``resting``: of durable actors, too, which become passive wherever no call waits.
#: ``journal``: of such that keep their calls, and their state now and then.
MODES: tuple[Mode, ...] = ("once", "again", "state", "resting", "journal")
_DURABLE: dict[Mode, Durable] = {"state": "state", "resting": "state", "journal": "journal"}
_CALLERS = ("alice", "bob", "carol")
_NODES = 40
#: What the simulation listens to.
CHANNELS = (routing.BELL, routing.reply_channel("*"), routing.node_channel("*"))
#: The keys that do not go by themselves.
_WITHOUT_END = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('TTL', key) < 0 then found[#found + 1] = key end
end
return found"""


@dataclass(frozen=True)
class Outcome:
    """What a schedule came to."""

    violation: str
    counts: Counter[str]
    steps: int
    trace: list[str]


def run(server: Server, seed: int, mode: Mode, *, trace: bool = False) -> Outcome:
    """Run one schedule."""
    schedule = Schedule(server, seed, mode, trace=trace)
    violation = ""
    world = schedule.world
    with simulated(world.clock):
        try:
            schedule.run()
        except Violation as error:
            violation = str(error)
        except Exception as error:  # noqa: BLE001 - a reply that the product cannot understand
            violation = f"{type(error).__name__}: {error}"
            world.say("python", traceback.format_exc())
    return Outcome(violation, world.history.counts, world.steps, world.trace or [])


class Schedule:
    """One schedule."""

    def __init__(self, server: Server, seed: int, mode: Mode, *, trace: bool) -> None:
        durable = _DURABLE.get(mode, "")
        self.history = History(at_most_once=mode == "once", durable=durable)
        self.world = world = World(server, seed, self.history, trace=trace)
        draw = world.draw
        limits = draw.choices((-1, 0, 1, 3), (6, 1, 1, 1), k=draw.choice((1, 1, 2)))
        self.actors = [Actor(f"actor-{n}", limit) for n, limit in enumerate(limits)]
        world.resting = mode == "resting" or (mode == "journal" and draw.random() < 0.5)
        if durable:
            world.sink = Actor("sink", -1)
        self._hosts = draw.choice((1, 2, 2, 3))
        self._started = self._ends = 0
        self._past: tuple[list[Any], Timeline] | None = None
        self._rolls_back = draw.random() < 0.1
        self.nodes: list[Node] = []
        calls = self._add_clients(0 if mode == "once" else -1)
        self.history.calls = {call.call_id: call for call in calls}
        self.history.lives = self._lives
        self.history.state = self._kept
        world.on_push = self._on_push

    def _kept(self, actor_id: str) -> list[str] | None:
        """Return the calls that would have taken effect if an actor was recovered now."""
        store = SimpleNamespace(run=self.world.server.call)
        keys = routing.ActorKeys(routing.actor_queue("default", actor_id), actor_id)
        stored = store.run("GET", keys.state)
        if stored is None:
            return None
        memory = Memory(store, keys, self.history.durable)
        memory.kept.load(stored)
        return memory.instance.calls

    # -- what there is ------------------------------------------------------------------------

    def _add_clients(self, retries: int) -> list[Call]:
        world, draw = self.world, self.world.draw
        every: list[Call] = []
        created = ([world.sink] if world.sink is not None else []) + self.actors
        self.driver = Driver(world, created, self._is_idle, self._look)
        self.callers: list[Client] = []
        for name in _CALLERS[: draw.choice((1, 2, 3))]:
            streams = []
            for actor in self.actors:
                count = draw.choice((0, 1, 3, 5))
                parks = 0.0 if self._rolls_back else world.weather.parks
                waits = [
                    draw.randrange(80) * world.second if draw.random() < parks else 0.0
                    for _ in range(count)
                ]
                calls = [
                    actor.call(name, sequence, (wait, draw.random() < 0.5), retries)
                    for sequence, wait in enumerate(waits, 1)
                ]
                streams.append((actor, calls))
                every += calls
            self.callers.append(Caller(world, name, streams))
        others: list[Client] = []
        for call in draw.sample(every, min(len(every), draw.choice((0, 0, 1, 2)))):
            [actor] = [actor for actor in self.actors if actor.actor_id == call.actor]
            others.append(Canceller(world, actor, call, self._soon()))
        for _ in range(draw.choice((0, 0, 0, 1, 2))):
            actor = draw.choice(self.actors)
            others.append(Killer(world, actor, self._soon(), restart=draw.random() < 0.6))
        if draw.random() < 0.3:
            others.append(Reader(world, every))
        self.callers += others
        for client in (self.driver, *self.callers):
            world.add(client)
        for _ in range(self._hosts):
            self._start_node()
        return every

    def _soon(self) -> float:
        return self.world.clock.now + self.world.draw.randrange(120) * self.world.second

    def _start_node(self) -> None:
        node = Node(self.world, f"node-{self._started}")
        self._started += 1
        self.nodes.append(node)
        self.world.add(node)

    def _lives(self, owner: str) -> bool:
        """Tell whether an owner has a process, on a node that has always had its lease."""
        incarnation = owner.partition("|")[0]
        return incarnation not in self.world.suspects and any(
            worker.assignment.owner == owner and not worker.over
            for node in self.nodes
            if node.name == incarnation and not node.over
            for worker in node.workers
        )

    # -- what is published --------------------------------------------------------------------

    def _on_push(self, channel: str, data: bytes) -> None:
        if channel == routing.BELL:
            self._on_bell(data)
        elif channel.startswith(routing.reply_channel("")):
            for record in json.loads(data):
                self.history.heard(record)
            for client in self.callers:
                if channel == routing.reply_channel(client.name):
                    client.wake()
        else:
            for node in self.nodes:
                if routing.node_channel(node.name) == channel and not self.world.may_fail(0.2):
                    node.killing = True
                    node.wake()

    def _on_bell(self, data: bytes) -> None:
        call_id = json.loads(data)["cancel"] if data.startswith(b"{") else ""
        for node in self.nodes:
            if self.world.may_fail(0.1):
                continue  # it was just connecting
            if not call_id:
                node.rung = True
                node.wake()
                continue
            for worker in node.workers:
                if worker.assignment.queue in json.loads(data)["queues"]:
                    worker.cancel(call_id)

    # -- what happens -------------------------------------------------------------------------

    def run(self) -> None:
        """Let everything happen, to the end, and look at what is left."""
        world = self.world
        world.run(self._is_settled)
        world.faults = 0
        world.run(self._is_settled)
        world.deliver_late()
        if self.driver.way == "stay":
            self._check_results()
            return
        in_order = world.draw.random() < 0.3
        if in_order:
            for node in self.nodes:
                node.stop()
            world.run(lambda: not world.roles)
        self._check_results()
        self._check_left(in_order)

    def _is_settled(self) -> bool:
        """Tell whether all is done; meanwhile, replace nodes and let some of them falter."""
        world = self.world
        if world.ends != self._ends:
            self._ends = world.ends
            self.callers = [client for client in self.callers if not client.over]
            self.nodes = [node for node in self.nodes if not node.over]
        if len(self.nodes) < self._hosts and self._started < _NODES:
            self._start_node()
        if world.may_fail(world.weather.stalls):
            busy = [node for node in self.nodes if node.workers]
            self._falter(world.draw.choice(busy or self.nodes))
        if self._rolls_back and not self.driver.is_ending:
            self._travel()
        return self.driver.over and not self.callers and not self._is_waiting()

    def _falter(self, node: Node) -> None:
        """Stop a node, or let it stand still for a while, longer than its lease lasts.

        ``stalled``: only its supervisor does, and its processes go on.
        """
        draw, world = self.world.draw, self.world
        kind = draw.choice(("stopped", "paused", "stalled", "stalled"))
        world.history.counts[kind] += 1
        world.say("fault", f"{node.name} is {kind}")
        if kind == "stopped":
            node.stop()
            return
        if draw.random() < 0.5:  # calls out of line begin not all at once, but while others look
            world.delay(LEASE_SECONDS)
        now = world.clock.now = world.clock.now + LEASE_SECONDS
        for role in (node, *(node.workers if kind == "paused" else ())):
            role.frozen = now + draw.choice((10, 30, 100)) * world.second
        for other in self.nodes:
            if other is not node and other.name in world.leases and other.frozen < now:
                world.leases[other.name] = now + LEASE_SECONDS  # it has gone on meanwhile
                other.renewed(now)
            other.killing = True  # the next tick is not far
            other.wake()
        if kind == "stalled":  # what counts now is who comes first: its workers or the others
            for role in (*self.nodes, *node.workers):
                role.weight = 8

    def _travel(self) -> None:
        """Remember what the store has, and some time later, give it that again.

        In such a schedule no call is set aside: a worker would not notice that the store lists one
        again that it has settled.
        """
        world, history = self.world, self.history
        if world.draw.random() > 0.1 or not all(actor.is_created for actor in self.actors):
            return
        workers = [worker for node in self.nodes for worker in node.workers]
        if self._past is None:
            self._past = world.remember(), history.remember()
            if workers and world.draw.random() < 0.5:  # the store will name one that has ended
                world.draw.choice(workers).crash()
            return
        world.say("fault", "the store is rolled back")
        history.counts["rolled back"] += 1
        world.roll_back(self._past[0])
        history.roll_back(self._past[1])
        self._rolls_back = False
        for client in self.callers:
            client.wake()

    def _is_idle(self) -> bool:
        """Tell whether all calls are over, those too that calls have sent."""
        if self.callers or self.world.has_late:
            return False
        return not any(
            self.history.is_accepted(call) and not self.history.is_over(call.call_id)
            for call in self.history.calls.values()
        )

    def _look(self) -> None:
        """Check what durable actors have kept and sent, before they end."""
        history = self.history
        if not history.durable:
            return
        for actor in (*self.actors, self.world.sink):
            kept = self._kept(actor.actor_id)
            if kept is not None:
                history.check_state(actor.actor_id, kept)
        if not history.rolled_back:
            history.check_sent(self.world.sent)

    def _is_waiting(self) -> bool:
        """Tell whether something waits for a node: an actor, or what a lost node has left."""
        living = {node.name for node in self.nodes}
        known = self.world.server.call("HKEYS", routing.NODES)
        if any(name.decode() not in living for name in known):
            return True
        if self.driver.way == "stay":
            return False
        kills = [routing.kill_key(f"node-{number}") for number in range(self._started)]
        return bool(self.world.server.call("EXISTS", routing.ACTORS, routing.DYING, *kills))

    # -- what is left -------------------------------------------------------------------------

    def _check_results(self) -> None:
        server, history = self.world.server, self.history
        keys = [routing.result_key(call_id) for call_id in history.calls]
        found = server.call("MGET", *keys) if keys else []
        history.finish(dict(zip(history.calls, found, strict=True)))

    def _check_left(self, in_order: bool) -> None:
        """Check that nothing is left but what goes by itself, and what the living nodes are."""
        of_nodes = {routing.NODES, routing.NEEDS}
        for node in self.nodes:
            of_nodes |= {routing.lease_key(node.name), routing.owned_key(node.name)}
        left = [
            key.decode()
            for key in self.world.server.call("EVAL", _WITHOUT_END, 0)
            if in_order or key.decode() not in of_nodes
        ]
        if left:
            raise Violation(f"keys are left: {sorted(left)}")
