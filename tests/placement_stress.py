"""Give out devices for dear life and look for one that is given out twice: ``make stress N=10000``.

Three real nodes with eight logical GPUs; actors and tasks of all sizes are created, killed, killed
by ``kill -9``, dropped and left, and so are nodes. Each process reads its own environment and says
what it holds (``tests/integration/claims.py``); a checker looks all the while, and compares with
what the nodes say of themselves. What is done in which order is drawn from the seed alone.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

import celery_actors as ca
from celery_actors.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.integration import claims
from tests.integration.claims import UNIT, Claim, claim
from tests.integration.support import (
    Node,
    Server,
    is_alive,
    node_on,
    redis_server,
    wait_until,
)

#: Nodes and their logical GPUs.
PLACES = {"four": 4, "two": 2, "pair": 2}
SIZES = [0.1, 0.25, 0.3333, 0.5, 1, 2, 4]
#: How often each step is taken, of all of them.
STEPS = {
    "create": 420, "call": 250, "kill": 65, "restart": 40, "kill -9": 85, "exit": 65, "drop": 65,
    "kill -9 of a node": 6, "SIGTERM of a node": 4,
}  # fmt: skip
ENDS = ("kill", "restart", "kill -9", "exit", "drop")
ACTORS, CALLS = 24, 16  # at once, the waiting ones too
LEAK_SECONDS = 5.0
#: Seconds without any progress after which what still waits counts as starved.
PATIENCE_SECONDS = 60.0


@ca.remote
class Holder:
    """Holds its devices as long as it lives."""

    def __init__(self, folder: str, gpus: int, ask_child: bool) -> None:
        self.mine = claim(folder, gpus, ask_child=ask_child)

    def where(self) -> Claim:
        """Return what it holds."""
        return self.mine

    def leave(self) -> None:
        """End."""
        ca.exit_actor()


@ca.remote
def hold(folder: str, gpus: int, ask_child: bool, seconds: float) -> Claim:
    """Hold devices for a moment."""
    mine = claim(folder, gpus, ask_child=ask_child)
    time.sleep(seconds)
    return mine


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do; ``number`` picks to whom."""

    kind: str
    number: int
    gpus: float
    cpus: float
    strategy: str
    restarts: int
    ask_child: bool
    seconds: float


def plan(seed: int, count: int) -> Iterator[Step]:
    """Draw the steps: the same ones from the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        yield Step(
            kind=draw.choices([*STEPS], [*STEPS.values()])[0],
            number=draw.randrange(2**31),
            gpus=draw.choice(SIZES),
            cpus=draw.choice([0, 0, 0, 0.01]),
            strategy=draw.choice(["DEFAULT", "SPREAD", "soft"]),
            restarts=draw.choice([0, 0, 1, -1]),
            ask_child=draw.random() < 0.1,
            seconds=draw.choice([0, 0, 0.02, 0.1]),
        )


class Checker(threading.Thread):
    """Looks all the while: at the locks of the living, and at what the nodes say."""

    def __init__(self, folder: Path, is_up: Callable[[str], bool]) -> None:
        super().__init__(name="checker")
        self.faults: list[str] = []
        self.processes = self.looks = self.most = 0
        self._folder = folder
        self._is_up = is_up
        self._over = threading.Event()
        self._since: dict[object, float] = {}

    def run(self) -> None:
        """Look until told to stop."""
        try:
            while not self._over.wait(0.1):
                self.look()
        except Exception as error:  # noqa: BLE001 - a checker that is blind has found a fault
            self.faults.append(f"the checker failed: {error!r}")

    def stop(self) -> None:
        """Stop, with a last look."""
        self._over.set()
        self.join()
        self.look()
        self.faults = [*dict.fromkeys([*self.faults, *claims.faults(self._folder)])]

    def look(self) -> None:
        """Look once."""
        living = claims.living(self._folder)
        self.processes += claims.clear_dead(self._folder)
        self.looks += 1
        self.most = max(self.most, sum(each.share * len(each.devices) for each in living))
        self.faults += claims.overcommitted(living)
        told = [node for node in ca.nodes() if node["Alive"] and self._is_up(node["NodeID"])]
        doubts: dict[object, str] = {}
        for node in told:
            self._add_up(node)
            doubts |= self._compare(node, living)
        now = time.monotonic()
        self._since = {key: self._since.get(key, now) for key in doubts}
        for key, when in list(self._since.items()):
            if now - when > LEAK_SECONDS:
                self.faults.append(f"for {LEAK_SECONDS:g} s: {doubts[key]}")
                self._since[key] = float("inf")  # said once

    def _add_up(self, node: dict[str, Any]) -> None:
        """Hold what a node says against itself: exact, at every moment."""
        free = [units(device["free"]) for device in node["Devices"]]
        for device, left in zip(node["Devices"], free, strict=True):
            taken = sum(units(holder["share"]) for holder in device["holders"])
            if left + taken != UNIT:
                self.faults.append(f"{node['NodeID']}: {left} free and {taken} taken of {device}")
        if units(node["Available"]["GPU"]) != sum(free):
            self.faults.append(f"{node['NodeID']}: {node['Available']} and devices {free}")

    @staticmethod
    def _compare(node: dict[str, Any], living: list[Claim]) -> dict[object, str]:
        """Return what may differ for a moment: what a node says, and what processes hold."""
        name = node["NodeID"]
        booked = {
            (holder["pid"], str(device["id"]), units(holder["share"]))
            for device in node["Devices"] for holder in device["holders"]
        }  # fmt: skip
        held = {
            (each.pid, device, each.share)
            for each in living if each.node == name for device in each.devices
        }  # fmt: skip
        leaked = {
            (name, *entry): f"{name} keeps device {entry[1]} for the dead process {entry[0]}"
            for entry in booked - held if entry[0] and not is_alive(entry[0])
        }  # fmt: skip
        unbooked = {
            (name, *entry): f"{name} does not know that process {entry[0]} has {entry[2]} units "
            f"of device {entry[1]}"
            for entry in held - booked
        }  # fmt: skip
        return {**leaked, **unbooked}


def units(amount: float) -> int:
    """Return an amount that was read from units as units again."""
    return round(amount * UNIT)


@dataclass(slots=True)
class Lodger:
    """An actor as its driver holds it; ``ref`` is done when it has started, or never will."""

    actor: Any
    ref: ca.ObjectRef[Claim]


class StarvedError(Exception):
    """Raised when what waits does not come to its turn, or what is free does not come back."""


@dataclass
class Stress:
    """One run."""

    server: Server
    folder: Path
    progress: Callable[[str], None] = lambda _: None
    counts: Counter[str] = field(default_factory=Counter)
    _actors: list[Lodger] = field(default_factory=list)
    _calls: list[ca.ObjectRef[Claim]] = field(default_factory=list)
    _nodes: dict[str, Node] = field(default_factory=dict)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def run(self, seed: int, count: int) -> list[str]:
        """Take the steps, let everything that waits have its turn, and return what is wrong."""
        with self._stack:
            for place in PLACES:
                self._start_node(place)
            ca.init(self.server.url, keys=self.server.key)
            checker = Checker(self.folder, self._is_up)
            checker.start()
            try:
                for number, step in enumerate(plan(seed, count), 1):
                    self._take(step)
                    if number % 250 == 0:
                        self.progress(f"{number} of {count}: {dict(self.counts)}")
                self._finish()
                self._wait_for_nothing()
            except StarvedError as error:
                checker.faults.append(str(error))
            finally:
                checker.stop()
                ca.shutdown()
        self.counts |= {"processes with devices": checker.processes, "looks": checker.looks}
        self.counts["most units in use at once"] = checker.most
        for place, node in self._nodes.items():
            if node.process.returncode != 0:
                checker.faults.append(f"{place} ended with {node.process.returncode}")
        return checker.faults

    # -- nodes -----------------------------------------------------------------------------

    def _start_node(self, place: str) -> None:
        node = node_on(self.server, "--num-gpus", str(PLACES[place]), name=place, cpus=1)
        self._nodes[place] = self._stack.enter_context(node)

    def _is_up(self, node_id: str) -> bool:
        node = self._nodes.get(node_id.rpartition("-")[0])
        return node is not None and node.process.poll() is None

    def _end_node(self, step: Step) -> None:
        place = [*PLACES][step.number % len(PLACES)]
        node = self._nodes[place]
        if step.kind == "kill -9 of a node":
            node.kill()
        else:
            node.process.terminate()
            wait_until(lambda: node.process.poll() is not None, f"{place} ends by SIGTERM", 40)
        self._start_node(place)

    # -- steps -----------------------------------------------------------------------------

    def _take(self, step: Step) -> None:
        self._collect()
        kind = step.kind
        full = (kind == "create" and len(self._actors) >= ACTORS) or (
            kind == "call" and len(self._calls) >= CALLS
        )
        if full:  # the devices are taken: make room
            kind = ENDS[step.number % len(ENDS)]
        if kind == "create":
            self._actors.append(self._create(step))
        elif kind == "call":
            work = hold.options(**self._options(step))
            words = (str(self.folder), units(step.gpus), step.ask_child, step.seconds)
            self._calls.append(work.remote(*words))
        elif kind.endswith("node"):
            self._end_node(step)
        elif not self._actors:
            kind = "nobody to end"
        elif kind == "kill -9":
            kind = self._kill_process(step.number)
        else:
            self._end(kind, step.number)
        self.counts[kind] += 1

    def _options(self, step: Step) -> dict[str, Any]:
        strategy: Any = step.strategy
        if strategy == "soft":
            names = [node["NodeID"] for node in ca.nodes()] or ["gone"]  # dead ones, too
            strategy = NodeAffinitySchedulingStrategy(names[step.number % len(names)], soft=True)
        return {
            "num_gpus": step.gpus, "num_cpus": step.cpus, "scheduling_strategy": strategy,
            "wait_for_resources": True,
        }  # fmt: skip

    def _create(self, step: Step) -> Lodger:
        cls = Holder.options(**self._options(step), max_restarts=step.restarts)
        actor = cls.remote(str(self.folder), units(step.gpus), step.ask_child)
        return Lodger(actor, actor.where.options(max_task_retries=-1).remote())

    def _end(self, how: str, number: int) -> None:
        """End an actor: most often one that has started, so that others come to their turn."""
        waiting = [each.ref for each in self._actors if not is_done(each.ref)]
        if len(waiting) == ACTORS:
            self._wait_for_progress(waiting)
        elif len(waiting) > ACTORS / 2:  # devices are to be in use: let one more start, if one can
            ca.wait(waiting, timeout=0.3)
        started = [each for each in self._actors if is_done(each.ref)]
        among = started if started and number % 5 else self._actors
        chosen = among[number % len(among)]
        if chosen not in started and how != "restart":
            how = "kill"  # else it would start only to end, and fewer and fewer others come to it
        if how == "exit":
            chosen.actor.leave.remote()
        elif how != "drop":
            with contextlib.suppress(ca.exceptions.ActorHandleNotFoundError):  # it has died
                ca.kill(chosen.actor, no_restart=how == "kill")
        if how != "restart":
            self._actors.remove(chosen)

    def _kill_process(self, number: int) -> str:
        """Kill a process that has devices, as the kernel would for want of memory."""
        living = claims.living(self.folder)
        if not living:
            return "nobody to kill"
        chosen = living[number % len(living)]
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(chosen.pid)
            try:
                if chosen in claims.living(self.folder):  # else its number may be another's
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)
        return "kill -9"

    def _collect(self) -> None:
        """Take in what has ended."""
        done = [ref for ref in self._calls if is_done(ref)]
        self._calls = [ref for ref in self._calls if ref not in done]
        for ref in done:
            self.counts["calls that ran" if outcome(ref) else "calls that died"] += 1
        for each in self._actors[:]:
            if is_done(each.ref) and not outcome(each.ref):
                self.counts["actors that died"] += 1
                self._actors.remove(each)

    # -- the end ---------------------------------------------------------------------------

    def _finish(self) -> None:
        """Let everything that waits have its turn: nothing starves."""
        while self._actors or self._calls:
            self._wait_for_progress([*self._calls, *(each.ref for each in self._actors)])
            self._collect()
            waiting = [each for each in self._actors if not is_done(each.ref)]
            self.counts["actors at the end"] += len(self._actors) - len(waiting)
            self._actors = waiting  # nobody holds the others any more

    def _wait_for_progress(self, refs: list[ca.ObjectRef[Any]]) -> None:
        """Wait until something starts; tell what waits where nothing does.

        Raises:
            StarvedError: nothing did.
        """
        if not ca.wait(refs, timeout=PATIENCE_SECONDS)[0]:
            with contextlib.closing(self.server.client()) as client:
                needs = client.hgetall("ca:needs")
                queues = {
                    key: client.llen(key)
                    for key in client.scan_iter("ca*", _type="list") if client.llen(key)
                }  # fmt: skip
            raise StarvedError(
                f"{len(refs)} requests wait and none started for {PATIENCE_SECONDS:g} s; needs: "
                f"{needs}; queues: {queues}; nodes: {ca.nodes()}"
            )

    def _wait_for_nothing(self) -> None:
        """Wait until every node has all that it ever had, to the last unit.

        Raises:
            StarvedError: one has not.
        """

        ends = time.monotonic() + 30
        while True:
            alive = [node for node in ca.nodes() if node["Alive"]]
            short = [node for node in alive if node["Available"] != node["Resources"]]
            living = claims.living(self.folder)
            if len(alive) == len(PLACES) and not short and not living:
                return
            if time.monotonic() > ends:
                raise StarvedError(f"not all is free at the end: {short}, held by {living}")
            time.sleep(0.05)


def is_done(ref: ca.ObjectRef[Any]) -> bool:
    """Tell whether a reference has its value or its error."""
    return bool(ca.wait([ref], timeout=0)[0])


def outcome(ref: ca.ObjectRef[Claim]) -> Claim | None:
    """Return a value, or None where its process was killed."""
    try:
        return ca.get(ref, timeout=0)
    except (ca.ActorDiedError, ca.ActorUnavailableError, ca.WorkerCrashedError):
        return None


@click.command()
@click.argument("count", type=click.IntRange(min=1))
@click.option("--seed", type=int, help="Take the steps of an earlier run.")
def main(count: int, seed: int | None) -> None:
    """Take COUNT random steps; fail if a device was ever given out twice, leaked or starved."""
    seed = random.randrange(2**32) if seed is None else seed
    click.echo(f"{count} steps, seed {seed}")
    began = time.monotonic()
    with redis_server() as server, tempfile.TemporaryDirectory() as folder:
        stress = Stress(server, Path(folder), click.echo)
        found = stress.run(seed, count)
    for what, times in stress.counts.items():
        click.echo(f"  {what}: {times}")
    for fault in found:
        click.echo(f"FAULT {fault}")
    click.echo(f"{len(found)} faults in {time.monotonic() - began:.0f} s, seed {seed}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    from tests.placement_stress import main  # as nodes import it, so that nothing travels by value

    main()
