"""What has happened in one schedule, seen from outside, and what must be true of it.

Every command and its reply pass here, every result as its caller hears it, and every beginning of
a call. A check that fails raises ``Violation`` at once, so the last line of a trace is the culprit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from .kept import Durable
from .network import Words

__all__ = ["Call", "History", "Timeline", "Violation"]

REAPER = "@reaper"
#: What errors say of calls that never began.
_UNSTARTED = ("before this call started", "before it started")


class Violation(AssertionError):  # noqa: N818 - what it is called in every text on invariants
    """Raised where something happened that must never happen."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call: who makes it, to whom, the how manieth it is, and its message."""

    call_id: str
    caller: str
    actor: str
    sequence: int
    message: bytes


@dataclass(slots=True)
class Timeline:
    """What the store knows. Goes back with it where it is rolled back."""

    accepted: dict[tuple[str, str], set[int]] = field(default_factory=dict)  # (actor, caller)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)  # by actor; "": nobody
    positions: dict[str, int] = field(default_factory=dict)  # by actor: calls out of its line
    states: dict[str, list[str]] = field(default_factory=dict)  # durable: what it has kept
    applied: dict[str, dict[int, str]] = field(default_factory=dict)  # durable: by actor, number
    withdrawn: set[str] = field(default_factory=set)  # cancelled before a worker had them


@dataclass
class History:
    """One schedule."""

    at_most_once: bool
    durable: Durable
    calls: dict[str, Call] = field(default_factory=dict)
    now: Timeline = field(default_factory=Timeline)
    rolled_back: bool = False
    lost: set[str] = field(default_factory=set)  # accepted by a store that was rolled back later
    runs: dict[str, list[str]] = field(default_factory=dict)  # by call: the owners that ran it
    ran: dict[str, list[str]] = field(default_factory=dict)  # by owner: the calls that it ran
    refused: dict[str, set[str]] = field(default_factory=dict)  # by owner, too
    claims: dict[str, list[str]] = field(default_factory=dict)  # by owner: what the store gave it
    epochs: dict[str, int] = field(default_factory=dict)  # by actor: the last one
    cancelled: dict[str, int] = field(default_factory=dict)  # marked, by call: owners until then
    doomed: set[str] = field(default_factory=set)  # actors that somebody ended
    seized: set[str] = field(default_factory=set)  # node runs that others have taken over
    state: Callable[[str], list[str] | None] = lambda _actor: None  # what an actor has kept
    lives: Callable[[str], bool] = lambda _owner: False  # has this owner a healthy process?
    counts: Counter[str] = field(default_factory=Counter)

    # -- commands ------------------------------------------------------------------------------

    def observe(self, name: str, words: Words, reply: Any) -> None:
        """Take in one script and its reply."""
        look = getattr(self, "_" + name, None)
        if look is None or isinstance(reply, Exception):
            return
        keys = int(words[2])
        look([key.decode() for key in words[3 : 3 + keys]], words[3 + keys :], reply)

    def _submit(self, keys: list[str], words: Words, reply: list[Any]) -> None:
        stream = (_actor_of(keys[1]), words[0].decode())
        first, after, last = int(words[1]), int(words[2]), int(words[1]) + len(words) - 4
        accepted = self.now.accepted.setdefault(stream, set())
        known = max(accepted, default=0)
        if reply[0] == 0:
            if after > known:
                raise Violation(f"calls behind {after} were accepted, though {known} was the last")
            self.counts["submitted again"] += known >= first
            accepted.update(range(max(first, known + 1), last + 1))
            self.lost = {each for each in self.lost if not self.is_accepted(self.calls[each])}
        self.counts["gap"] += reply[0] == -3

    def _claim(self, keys: list[str], words: Words, reply: list[Any]) -> None:
        if not reply:
            return
        actor, epoch, owner = reply[0].decode(), int(reply[2]), words[0].decode()
        given = self.claims.setdefault(owner, [])
        if self.now.owners.get(actor) == owner:
            self.counts["claimed again"] += 1
            return
        given.append(actor)
        if self.now.owners.get(actor):
            raise Violation(f"{owner} claimed {actor}, which {self.now.owners[actor]} owns")
        if epoch <= self.epochs.get(actor, 0) and not self.rolled_back:
            raise Violation(f"epoch {epoch} of {actor} came after {self.epochs[actor]}")
        self.epochs[actor] = epoch
        self.now.positions[actor] = int(_fields(reply[4])[b"ap"])
        self.now.owners[actor] = owner
        self.counts["claims"] += 1

    def check_claim(self, owner: str, heard: str) -> None:
        """Check what an owner has heard of its claim; "": nothing."""
        held = [a for a in self.claims.get(owner, []) if self.now.owners.get(a) == owner]
        if held not in ([], [heard]):
            raise Violation(
                f"the store gave {held} to {owner}, which heard of {heard or 'nothing'}"
            )

    def _fenced(self, meta: str, words: Words, code: int, what: str) -> None:
        actor, owner = _actor_of(meta), words[1].decode()
        if code == -10:
            self.counts["fenced"] += 1
        elif code == -11:
            self.counts["moved on"] += 1
        elif self.now.owners.get(actor) != owner:
            held = self.now.owners.get(actor)
            raise Violation(f"{what} of {owner} counted, but {actor} belongs to {held!r}")

    def _commit(self, keys: list[str], words: Words, reply: list[Any]) -> None:
        self._fenced(keys[1], words, reply[0], "a commit")
        if reply[0] == 0:
            self._move(_actor_of(keys[1]), int(words[2]), int(words[3]))

    def _take(self, keys: list[str], words: Words, reply: list[Any]) -> None:
        self._fenced(keys[1], words, reply[0], "a take")
        actor, position, count = (
            _actor_of(keys[1]),
            int(words[2]),
            len(reply[1]) if reply[0] == 0 else 0,
        )
        again = position + count <= self.now.positions.get(actor, 0)  # it tells once more what left
        if reply[0] == 0 and words[3] != b"0" and not again:
            self._move(actor, position, count)

    def _move(self, actor: str, position: int, count: int) -> None:
        """Take in that so many calls left the line; they may have left it before."""
        known = self.now.positions.get(actor, 0)
        if known not in {position, position + count}:
            raise Violation(f"{count} calls left at {position} of {actor}, which is at {known}")
        self.now.positions[actor] = position + count

    def _commit_state(self, keys: list[str], words: Words, reply: list[Any]) -> None:
        count = int(words[2])
        inner = self._take if words[0] == b"take" else self._commit
        inner(keys, words[3 + count :], reply)
        self._check_growth(keys[4])
        if reply[0] == 0:
            steps = list(words[3 : 3 + count])
            for answer in reply[4]:
                name, *sizes = steps.pop(0), int(steps.pop(0))
                step_keys = [steps.pop(0).decode() for _ in range(sizes[0])]
                step_words = tuple(steps.pop(0) for _ in range(int(steps.pop(0))))
                if name == b"submit" and answer:
                    self._submit(step_keys, step_words, answer)

    def _born(self, keys: list[str], words: Words, reply: int) -> None:
        self._fenced(keys[0], words[2:], reply, "a birth")
        self._check_growth(keys[1])

    def _check_growth(self, key: str) -> None:
        """Check that a state only grows: it is the list of the calls that took effect."""
        actor = _actor_of(key)
        state = self.state(actor)
        if state is not None:
            before = self.now.states.get(actor, [])
            if state[: len(before)] != before:
                raise Violation(f"{actor} had kept {before}, and now {state}")
            self.now.states[actor] = state

    def _mark(self, keys: list[str], words: Words, reply: int) -> None:
        self._fenced(keys[0], words, reply, "a mark")

    def _begin(self, keys: list[str], words: Words, reply: int) -> None:
        self._fenced(keys[0], words, reply, "a beginning")

    def _passivate(self, keys: list[str], words: Words, reply: int) -> None:
        actor = _actor_of(keys[1])
        if reply == 1 and not self.now.owners.get(actor):
            return  # it hears so once more
        self._fenced(keys[1], words, reply, "the rest")
        if reply == 1:
            self.now.owners[actor] = ""
            self.counts["rested"] += 1

    def _release(self, keys: list[str], words: Words, reply: Any) -> None:
        code = reply if isinstance(reply, int) else 0
        actor, owner = _actor_of(keys[1]), words[1].decode()
        self._fenced(keys[1], words, code, "the release")
        if code == 0:
            if self.lives(owner):
                raise Violation(f"{actor} was released, though {owner} lives")
            self.now.owners[actor] = "" if reply == b"restarting" else REAPER
            self.now.positions[actor] = int(words[2]) + int(words[3]) - int(words[12])
            self.counts[reply.decode()] += 1

    def _unpark(self, keys: list[str], words: Words, reply: int) -> None:
        if reply:
            actor = _actor_of(keys[1])
            self.now.positions[actor] = self.now.positions.get(actor, 0) - reply

    def _kill(self, keys: list[str], words: Words, reply: int) -> None:
        if reply == 1:
            self.now.owners[_actor_of(keys[0])] = REAPER
            self.counts["killed"] += 1

    def _seize(self, keys: list[str], words: Words, reply: int) -> None:
        if reply == 1:
            self.seized.add(keys[0].rpartition(":")[2])

    def _tick(self, keys: list[str], words: Words, reply: list[Any]) -> None:
        node = words[0].decode()
        if reply[0] == 1 and node in self.seized and not self.rolled_back:
            raise Violation(f"{node} goes on, and others take over what it owns")

    def _cancel(self, keys: list[str], words: Words, reply: bytes) -> None:
        call_id = words[0].decode()
        if reply and self.now.owners.get(_actor_of(keys[1])) == REAPER:
            raise Violation(f"{call_id} was withdrawn from a dead actor, which answers it, too")
        if reply:
            self.now.withdrawn.add(call_id)
            self.counts["withdrawn"] += 1
            if self.runs.get(call_id) and not self.rolled_back:
                raise Violation(f"{call_id} was withdrawn, though it had begun")
        else:
            if words[1] != b"0":
                self.cancelled.setdefault(call_id, len(self.claims))
            self.counts["cancelled too late"] += 1

    # -- results and runs ----------------------------------------------------------------------

    def heard(self, record: dict[str, Any]) -> Call | None:
        """Take in a result as its caller hears it."""
        call = self.calls.get(record["task_id"])
        if call is None:
            return None
        call_id = call.call_id
        if call_id in self.now.results:
            before = self.now.results[call_id]
            raise Violation(f"{call_id} was answered twice: {before} and then {record}")
        if not self.is_accepted(call):
            raise Violation(f"{call_id} was answered and never accepted")
        self.now.results[call_id] = record
        if record["status"] == "SUCCESS":
            self._check_model(call, *record["result"])
        elif self.runs.get(call_id) and not self.rolled_back:
            self._check_said(call, record["ca"]["m"])
        return call

    def _check_model(self, call: Call, owner: str, number: int) -> None:
        """Check a result against the model: it tells the how manieth call its actor has seen."""
        if self.durable:
            applied = self.now.applied.setdefault(call.actor, {})
            if number in applied:
                both = f"{applied[number]} and {call.call_id}"
                raise Violation(f"{both} are both call {number} of {call.actor}")
            applied[number] = call.call_id
        elif self.ran[owner][number - 1] != call.call_id:
            raise Violation(f"{call.call_id} has the result of call {number} of {owner}")

    def check_state(self, actor: str, state: list[str]) -> None:
        """Check what a durable actor has kept: the calls that took effect, in their order."""
        applied = self.now.applied.get(actor, {})
        told = [applied.get(number) for number in range(1, len(applied) + 1)]
        if told != state:
            raise Violation(f"{actor} has kept {state}, and its callers were told {told}")
        last: dict[str, int] = {}
        for call in map(self.calls.__getitem__, state):
            if call.sequence < last.get(call.caller, 0):
                raise Violation(f"{actor} has kept {state}, which is not its callers' order")
            last[call.caller] = call.sequence

    def check_sent(self, sent: dict[str, list[str]]) -> None:
        """Check what durable calls have sent, by origin: each once, if the call took effect."""
        accepted = {
            origin: [call_id for call_id in ids if self.is_accepted(self.calls[call_id])]
            for origin, ids in sent.items()
        }
        for origin, ids in accepted.items():
            result = self.now.results.get(origin)
            wanted = result is not None and result["status"] == "SUCCESS"
            if len(ids) != wanted:
                raise Violation(f"{origin} came to {result}, and it has sent {ids}")

    def _check_said(self, call: Call, text: str) -> None:
        if (
            self.at_most_once
            and call.actor not in self.doomed
            and any(words in text for words in _UNSTARTED)
        ):
            raise Violation(f"{call.call_id} had begun, and its error says: {text}")

    def is_accepted(self, call: Call) -> bool:
        """Tell whether the store has ever accepted a call that it still knows."""
        return call.sequence in self.now.accepted.get((call.actor, call.caller), ())

    def is_over(self, call_id: str) -> bool:
        """Tell whether a call has its result, or was lost with writes of the store."""
        return call_id in self.now.results or call_id in self.lost

    def refuses(self, call_id: str, owner: str) -> None:
        """Take in that a process answers a call without running it."""
        self.refused.setdefault(owner, set()).add(call_id)

    def begins(self, call_id: str, owner: str) -> None:
        """Take in that a process begins a call."""
        call = self.calls[call_id]
        before = self.runs.setdefault(call_id, [])
        mine = self.ran.setdefault(owner, [])
        before.append(owner)
        mine.append(call_id)
        if self.rolled_back:
            return
        is_owner = self.now.owners.get(call.actor) == owner
        result = self.now.results.get(call_id)
        if call_id in self.now.withdrawn:
            raise Violation(f"{call_id} was cancelled, and {owner} runs it")
        if self.at_most_once and len(before) > 1:
            raise Violation(f"{call_id} ran twice: by {' and '.join(before)}")
        good = result is not None and result["status"] == "SUCCESS"
        if (is_owner and result is not None) or (self.at_most_once and good):
            raise Violation(f"{owner} runs {call_id}, which has its result: {result}")
        if result is not None and not good:
            self._check_said(call, result["ca"]["m"])
        known = self.cancelled.get(call_id)
        if known is not None and owner in list(self.claims)[known:]:
            raise Violation(f"{call_id} was cancelled before {owner} began, and it runs there")
        self._check_order(call, mine, owner)

    def _check_order(self, call: Call, mine: list[str], owner: str) -> None:
        for other in self.calls.values():
            if (
                (other.actor, other.caller) == (call.actor, call.caller)
                and other.sequence < call.sequence
                and self.is_accepted(other)
                and other.call_id not in self.now.results
                and other.call_id not in mine
                and other.call_id not in self.refused.get(owner, ())
            ):
                raise Violation(f"{owner} runs {call.call_id} before {other.call_id}")

    # -- the store's own history -----------------------------------------------------------------

    def remember(self) -> Timeline:
        """Return what the store knows now."""
        return deepcopy(self.now)

    def roll_back(self, to: Timeline) -> None:
        """Go back with the store."""
        before, self.now = self.now, to
        self.rolled_back = True
        for call in self.calls.values():
            known = call.sequence in before.accepted.get((call.actor, call.caller), ())
            if known and not self.is_accepted(call):
                self.lost.add(call.call_id)

    def finish(self, stored: dict[str, bytes | None]) -> None:
        """Check what must be true at the end; ``stored``: the results that the store has."""
        for call in self.calls.values():
            if not self.is_accepted(call):
                continue
            result, raw = self.now.results.get(call.call_id), stored.get(call.call_id)
            if result is None or raw is None:
                raise Violation(f"{call.call_id} was accepted and has no result")
            if json.loads(raw) != result:
                raise Violation(f"{call.call_id} was told {result}, and stored is {raw!r}")
            good = result["status"] == "SUCCESS"
            self.counts["calls"] += 1
            self.counts["successes"] += good


def _fields(found: Any) -> dict[bytes, bytes]:
    """Return a hash that a script has read: a map, or a flat list."""
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))


def _actor_of(key: str) -> str:
    """Return the actor that a key is of."""
    return key.rpartition("}:")[2].partition(":")[0]
