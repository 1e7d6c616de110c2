"""One caller of a chaos run: a driver of its own that calls actors and writes down what happens.

It says ``ready`` when every actor has answered it. Then it is told what to do on its standard
input: ``call``, then ``stop``, with which it waits for what is under way and says ``stopped``, then
``leave``, with which it ends.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celery_actors as ca
from celery_actors.runtime import current
from celery_actors.store import Scripts

from .cast import KINDS
from .history import FAIL, INFO, OK, Writer
from .model import METHODS, TELL

__all__ = ["NAMESPACE", "Orders", "main"]

NAMESPACE = "chaos"
#: Seconds for which a caller waits, at the end, for what nobody disturbs any more.
PATIENCE_SECONDS = 90.0
#: Calls that one caller has under way to one actor at most: what a mortal one takes with it.
DEPTH = 3
#: Of so many calls, one is followed by the end of its actor, by ``kill``.
ENDS_ONE_IN = 3000
#: Of so many calls of a lasting actor, one is cancelled at once: it must leave no effect.
CANCELS_ONE_IN = 100


@dataclass(frozen=True)
class Orders:
    """What a caller is to do, as JSON in its arguments."""

    name: str
    address: str
    folder: str
    seed: int
    slots: dict[str, str]  # slot -> kind of the actor in it
    window: int  # calls under way at once
    pause: float  # seconds between two calls


@dataclass
class _Pending:
    ref: ca.ObjectRef[Any]
    slot: str
    actor: str
    method: str
    number: int
    cancelled: bool = False  # somebody asked for that


class _Caller:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._draw = random.Random(orders.seed)
        self._writer = Writer(Path(orders.folder) / f"calls-{orders.name}.jsonl", orders.name)
        self._actors: dict[str, Any] = {}  # by slot: the one that this caller knows
        self._numbers: Counter[str] = Counter()  # by actor id: calls made
        self._pending: list[_Pending] = []
        self._heard = threading.Event()
        self.sent_again = 0  # submissions whose answers were lost with a connection

    def count_what_is_sent_again(self) -> None:
        """Count from now on: whether the store refuses doubles was tried only where there are."""
        mux: Any = current().mux
        reconnect = mux._reconnect
        digest = str(Scripts.words("submit", ())[1]).encode()

        def counting() -> None:
            self.sent_again += sum(digest in command for command, _ in [*mux.pending])
            reconnect()

        mux._reconnect = counting

    def begin(self) -> None:
        """Have an answer of every actor."""
        for slot in self._orders.slots:
            self._call(slot, "read")
        self._wait_for_all()

    def run(self) -> None:
        """Call until told to stop, then ask every actor for what it has, and wait for that."""
        threading.Thread(target=self._listen, daemon=True).start()
        while not self._heard.is_set():
            if len(self._pending) < self._orders.window:
                slot = self._draw.choice([*self._orders.slots])
                lasting = KINDS[self._orders.slots[slot]].lasting
                self._call(slot, self._draw.choice((*METHODS, TELL) if lasting else METHODS))
                time.sleep(self._orders.pause)
            self._collect(0 if len(self._pending) < self._orders.window else 0.5)
        self._wait_for_all()
        for slot in self._orders.slots:
            self._call(slot, "read")
        self._wait_for_all()
        self._writer.write("again", "", "", self.sent_again)
        self._writer.close()

    def _wait_for_all(self) -> None:
        ends = time.monotonic() + PATIENCE_SECONDS
        while self._pending and time.monotonic() < ends:
            self._collect(0.5)

    def _listen(self) -> None:
        sys.stdin.readline()
        self._heard.set()

    def _call(self, slot: str, method: str) -> None:
        operand = self._draw.randint(1, 1_000_000)
        if sum(each.slot == slot for each in self._pending) >= DEPTH:
            return
        actor = self._actor_in(slot)
        told = [self._actor_in(self._another(slot))] if method == TELL else []
        if actor is None or None in told:
            return
        who = actor._identity.actor_id
        self._numbers[who] += 1
        number = self._numbers[who]
        self._writer.write("invoke", who, method, operand, number=number)
        try:
            ref = getattr(actor, method).remote(self._orders.name, number, operand, *told)
        except ca.exceptions.RayError as error:
            self._writer.write(FAIL, who, method, _named(error), number=number)
            return
        self._pending.append(_Pending(ref, slot, who, method, number))
        lasting = KINDS[self._orders.slots[slot]].lasting
        if lasting and method != TELL and self._draw.randrange(CANCELS_ONE_IN) == 0:
            self._cancel(self._pending[-1])
        if self._draw.randrange(ENDS_ONE_IN) == 0:
            self._end(actor)

    def _another(self, slot: str) -> str:
        """Return the next slot with a lasting actor."""
        slots = [each for each, kind in self._orders.slots.items() if KINDS[kind].lasting]
        return slots[(slots.index(slot) + 1) % len(slots)]

    def _cancel(self, call: _Pending) -> None:
        call.cancelled = True
        try:
            ca.cancel(call.ref)
        except ca.exceptions.RayError as error:
            self._writer.write("trouble", "", "cancel", _named(error))

    def _end(self, actor: Any) -> None:
        self._writer.write("ended", actor._identity.actor_id, "kill", "")
        try:
            ca.kill(actor)
        except ca.exceptions.RayError as error:
            self._writer.write("trouble", "", "kill", _named(error))

    def _actor_in(self, slot: str) -> Any:
        """Return the actor of a slot, made if there is none; None while the store is away."""
        if slot not in self._actors:
            kind = KINDS[self._orders.slots[slot]]
            cls = kind.cls.options(
                name=slot, get_if_exists=True, scheduling_strategy="SPREAD", **kind.options
            )
            try:
                self._actors[slot] = actor = cls.remote(self._orders.folder, slot)
            except (ca.exceptions.ClusterUnreachableError, ca.exceptions.RayError) as error:
                self._writer.write("trouble", "", "create", _named(error))
                return None
            kind_name = self._orders.slots[slot]
            self._writer.write("knows", actor._identity.actor_id, kind_name, slot)
        return self._actors[slot]

    def _collect(self, seconds: float) -> None:
        """Take in what has come to an end, within some seconds."""
        if not self._pending:
            return
        refs = [each.ref for each in self._pending]
        try:
            ca.wait(refs, timeout=seconds)
            done = {ref.id for ref in ca.wait(refs, num_returns=len(refs), timeout=0)[0]}
        except ca.exceptions.ClusterUnreachableError as error:
            self._writer.write("trouble", "", "wait", _named(error))
            return
        for each in self._pending:
            if each.ref.id in done:
                outcome, value = self._outcome(each)
                self._writer.write(outcome, each.actor, each.method, value, number=each.number)
        self._pending = [each for each in self._pending if each.ref.id not in done]

    def _outcome(self, call: _Pending) -> tuple[str, Any]:
        try:
            return OK, ca.get(call.ref, timeout=0)
        except ca.ActorDiedError as error:
            known = self._actors.get(call.slot)
            if known is not None and known._identity.actor_id == call.actor:
                del self._actors[call.slot]
            return INFO, _named(error)
        except ca.exceptions.TaskCancelledError as error:
            return FAIL if call.cancelled else INFO, _named(error)
        except Exception as error:  # noqa: BLE001 - the checker tells which may be
            return INFO, _named(error)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"


def main() -> None:
    """Follow the orders."""
    orders = Orders(**json.loads(sys.argv[1]))
    ca.init(orders.address, namespace=NAMESPACE)
    caller = _Caller(orders)
    caller.count_what_is_sent_again()
    caller.begin()
    _say("ready")
    sys.stdin.readline()
    caller.run()
    _say("stopped")
    sys.stdin.readline()
    ca.shutdown()


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
