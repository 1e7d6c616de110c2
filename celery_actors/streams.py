"""What the store has accepted of a stream of calls, what it refused, and what it has forgotten.

Where the store refuses calls, or has lost some that it had accepted, the stream is cut: those calls
fail, and so do all that were sent after them and are under way. Then it goes on behind them. A
sequence number is never used twice, so a submission that is repeated after a lost reply cannot be
taken for another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .errors import (
    REPLAY_DIFFERS,
    STATE_REFUSED,
    ActorDiedError,
    RayError,
    StoreFullError,
    StoreRolledBackError,
    actor_ended,
)
from .holdings import Holdings
from .messages import outline
from .results import Results
from .tokens import remains_of

if TYPE_CHECKING:
    from .calls import Target

__all__ = ["Acknowledge", "Known", "Stream"]


class Stream:
    """How far one caller's calls to one target have come."""

    __slots__ = ("accepted", "after", "cut", "sent")

    def __init__(self) -> None:
        self.sent = 0  # sequence number of the last call that was sent
        self.accepted = 0  # … and of the last one that the store has said to have
        self.after = 0  # … and of the one behind which the next batch belongs
        #: Why calls under way fail: a call before them was refused or is lost. None: they do not.
        self.cut: RayError | None = None

    def send(self, last: int) -> int:
        """Note that a batch is sent; return the sequence number behind which it belongs."""
        after, self.after, self.sent = self.after, last, last
        return after

    def go_on(self, acknowledged: int) -> bool:
        """Go on behind what failed, if nothing of it is under way; tell whether that began now."""
        if self.cut is None or acknowledged < self.sent:
            return False
        self.cut, self.after = None, self.accepted
        return True


class Acknowledge:
    """Handles the store's answer to one batch of submissions."""

    __slots__ = ("first", "holdings", "ids", "messages", "results", "resume", "target")

    def __init__(
        self, results: Results, holdings: Holdings, target: Target, ids: list[str],
        messages: list[bytes], resume: Callable[[], None],
    ) -> None:  # fmt: skip
        self.results, self.holdings, self.target = results, holdings, target
        self.first, self.ids, self.messages = target.first, ids, messages
        self.resume = resume

    def __call__(self, reply: Any) -> None:
        """Take in the answer."""
        target, stream = self.target, self.target.stream
        last = self.first + len(self.ids) - 1
        target.acknowledged = max(target.acknowledged, last)
        if not isinstance(reply, Exception) and reply[0] == 0:
            target.ahead = reply[1]
            stream.accepted = last
        else:
            target.ahead = 0
            self.fail(self._error(reply))
        if stream.go_on(target.acknowledged):
            self.resume()

    def fail(self, error: RayError) -> None:
        """Let the calls fail that were not accepted."""
        self.results.fail(self.ids, error)
        for message in self.messages:
            if (remains := remains_of(outline(message))) is not None:
                self.holdings.discard(remains)

    def _error(self, reply: Any) -> RayError:
        target, stream = self.target, self.target.stream
        if isinstance(reply, Exception):
            stream.cut = stream.cut or _refusal(target, len(self.ids), str(reply))
            return stream.cut
        if reply[0] == -2:
            cause = reply[1].decode() or "it was ended"
            frozen = cause.startswith((STATE_REFUSED, REPLAY_DIFFERS))
            text = f"{target.name} {'stands still' if frozen else 'is dead'}: {cause}"
            return actor_ended(text, cause, target.actor_id, reply[2] == b"1")
        if reply[0] == -1:
            return ActorDiedError(
                f"{target.name} is not known to this store: it ended long ago, or the store was "
                "emptied or has lost writes. Create it again",
                target.actor_id,
            )
        if stream.cut is None or reply[1] < stream.accepted:
            stream.cut = forget(self.results, target, reply[1])
        return stream.cut


class Known:
    """Handles the store's answer to what it knows of a stream: asked after each reconnect."""

    __slots__ = ("results", "resume", "target")

    def __init__(self, results: Results, target: Target, resume: Callable[[], None]) -> None:
        self.results, self.target, self.resume = results, target, resume

    def __call__(self, reply: Any) -> None:
        """Take in the answer."""
        target, stream = self.target, self.target.stream
        if isinstance(reply, Exception):
            return
        # A buried actor has forgotten its callers. All their calls were answered: what has no
        # result by now was lost.
        known = 0 if reply[0] == b"buried" else reply[1]
        if known < stream.accepted and _lost(self.results, target, known):
            stream.cut = forget(self.results, target, known)
            if stream.go_on(target.acknowledged):
                self.resume()
        # Where no call waits, nobody would hear of it now: the next call does.


def _lost(results: Results, target: Target, known: int) -> Sequence[str]:
    """Return the accepted calls behind a sequence number whose results are not here."""
    return [
        ref.id for ref in results.pending()
        if ref._target is target and known < ref._sequence <= target.stream.accepted
    ]  # fmt: skip


def forget(results: Results, target: Target, known: int) -> StoreRolledBackError:
    """Fail the calls that the store had accepted and does not know any more; return the error."""
    stream = target.stream
    what = (
        f"it had accepted the calls of this process to {_name(target)} up to number "
        f"{stream.accepted}, and now knows them up to number {known}"
    )
    if silent := results.lapse():
        why = (
            f"this driver was silent for {silent:.0f} s and its lease ran out: nodes took it for "
            f"ended, ended its actors, and the store forgot its calls: {what}. Code that keeps "
            "Python's other threads from running does that, and a process that was stopped"
        )
    else:
        why = (
            f"the store has lost writes: {what}. A failover to a replica that was behind, or an "
            "older copy of its data, does that"
        )
    error = StoreRolledBackError(
        f"{why}. The calls after that number may have taken effect or not, and effects may be "
        "gone; calls from now on are accepted as usual. Look what state you need, and send again "
        "what is missing"
    )
    results.fail(_lost(results, target, known), error)
    stream.accepted = known
    results.on_rollback()
    return error


def _name(target: Target) -> str:
    """Return what people call a target; many functions share a queue."""
    return target.name if target.actor_id else f"functions (queue {target.queue})"


def _refusal(target: Target, count: int, words: str) -> RayError:
    """Return the error for calls that the store did not accept."""
    text = f"the store refused {count} calls to {_name(target)}"
    if words.startswith("OOM"):
        return StoreFullError(
            f"{text}, for it is full (maxmemory): they will not run, and neither will those sent "
            "behind them meanwhile. What was accepted before is still worked off: call again when "
            "it is, drop results that nobody needs, or give the server more memory"
        )
    return RayError(f"{text}: {words}")
