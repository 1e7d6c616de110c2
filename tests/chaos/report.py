"""What a chaos run came to, in words and as markdown."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .cast import KINDS
from .checker import Verdict
from .history import OK, TOLD, Event
from .record import Record

__all__ = ["Report", "report"]

#: Of all calls, how many must have a result for a run to say anything.
FLOOR_OF_CALLS = 0.95
#: Of all planned faults, how many must truly have hit something.
FLOOR_OF_FAULTS = 0.9
#: Seconds after which a run must have tried the fence and the refusal of doubles.
LONG_SECONDS = 300.0
#: Seconds for which a fault of a node or of the store may still be felt after its end.
_FELT_SECONDS = 1.0


@dataclass
class Report:
    """The figures of one run."""

    title: str
    seconds: float
    calls: int
    succeeded: int
    by_kind: Mapping[str, tuple[int, int]]  # kind -> calls, of which succeeded
    errors: Mapping[str, int]
    hits: Mapping[str, int]
    missed: Mapping[str, int]
    recoveries: list[float]  # seconds from the kill of an actor's process to the next one
    undisturbed: list[float]  # … while nothing else was broken
    longest: float  # seconds that the slowest successful call took
    fenced: int  # processes that met the fence: another one had taken their actor over
    sent_again: int  # submissions whose answers were lost with a connection
    verdict: Verdict
    notes: list[str] = field(default_factory=list)

    @property
    def invalid(self) -> list[str]:
        """Say why the run shows nothing, if so: too little worked, or too little was broken."""
        share = self.succeeded / max(1, self.calls)
        hit, planned = sum(self.hits.values()), sum(self.hits.values()) + sum(self.missed.values())
        found = []
        if share < FLOOR_OF_CALLS:
            found.append(f"{share:.1%} of the calls succeeded, and {FLOOR_OF_CALLS:.0%} are needed")
        if hit < FLOOR_OF_FAULTS * planned or not hit:
            found.append(f"{hit} of {planned} planned faults hit something")
        if self.seconds >= LONG_SECONDS and not (self.fenced and self.sent_again):
            found.append("no process met the fence, or nothing was sent again")
        return found

    @property
    def status(self) -> int:
        """Return the exit status: 1 a promise was broken, 2 the run shows nothing, else 0."""
        return 1 if self.verdict.faults else 2 if self.invalid else 0

    def lines(self) -> Iterator[str]:
        """Return it as markdown, which reads well as it is."""
        yield f"## {self.title}"
        yield ""
        yield f"- {self._judgement()}"
        share = self.succeeded / max(1, self.calls)
        rate = self.calls / self.seconds
        yield (f"- {self.calls:,} calls in {self.seconds:.0f} s ({rate:.0f}/s), {share:.2%} "
               f"succeeded; the slowest of these took {self.longest:.1f} s")  # fmt: skip
        yield (f"- {self.verdict.replayed:,} runs of methods replayed against the model; an order "
               f"found for {self.verdict.slices:,} slices seen from outside only "
               f"({self.verdict.undecided:,} had too many calls of unknown outcome)")  # fmt: skip
        yield f"- killed actors came back in {_times(self.recoveries)}"
        yield f"- … while no node and no store was disturbed, in {_times(self.undisturbed)}"
        yield (f"- {self.fenced:,} processes met the fence; {self.sent_again:,} submissions were "
               "sent again")  # fmt: skip
        yield from (f"- {note}" for note in self.notes)
        yield ""
        yield from _table(("actors", "calls", "succeeded"), [
            (kind, f"{calls:,}", f"{good / max(1, calls):.2%}")
            for kind, (calls, good) in sorted(self.by_kind.items())
        ])  # fmt: skip
        yield ""
        yield from _table(("fault", "hit", "missed"), [
            (kind, str(self.hits.get(kind, 0)), str(self.missed.get(kind, 0)))
            for kind in sorted({*self.hits, *self.missed})
        ])  # fmt: skip
        yield ""
        yield from _table(("error", "calls"), [
            (error, str(number)) for error, number in sorted(self.errors.items())
        ])  # fmt: skip

    def _judgement(self) -> str:
        if self.verdict.faults:
            return f"**{len(self.verdict.faults)} broken promises**"
        if self.invalid:
            return f"INVALID: {'; '.join(self.invalid)}"
        return "every promise was kept"


def report(
    title: str, seconds: float, record: Record, verdict: Verdict, hits: Counter[str],
    missed: Counter[str], fenced: int,
) -> Report:  # fmt: skip
    """Add up a run."""
    calls: Counter[str] = Counter()
    good: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    longest = 0
    for actor in record.actors.values():
        for call in actor.calls:
            if call.outcome == TOLD:
                continue  # counted where it was sent
            calls[actor.kind] += 1
            if call.outcome == OK:
                good[actor.kind] += 1
                longest = max(longest, call.returned - call.invoked)
            else:
                errors[str(call.value).partition(":")[0] or "no end"] += 1
    ended = sum(event.method == "actor ended" for event in record.faults)
    recoveries = list(_recoveries(record))
    return Report(
        title, seconds, calls.total(), good.total(),
        {kind: (calls[kind], good[kind]) for kind in KINDS if calls[kind]}, errors,
        hits + Counter({"actor ended": ended}), missed,
        [lasted for lasted, _ in recoveries],
        [lasted for lasted, alone in recoveries if alone], longest / 1e9,
        fenced, record.sent_again, verdict,
    )  # fmt: skip


def _recoveries(record: Record) -> Iterator[tuple[float, bool]]:
    """Return (seconds, nothing else was wrong) for each kill of the process of a lasting actor."""
    signs = [(ns, pid, actor) for actor in record.actors.values() for ns, pid in actor.signs]
    owners: dict[int, list[tuple[int, str]]] = {}
    for ns, pid, actor in sorted(signs, key=lambda sign: sign[0]):
        owners.setdefault(pid, []).append((ns, actor.actor))
    wide = [(event.ns, event.ns + int((event.value.get("seconds", 0) + _FELT_SECONDS) * 1e9))
            for event in record.faults if _is_wide(event)]  # fmt: skip
    for event in record.faults:
        if event.method != "actor killed":
            continue
        before = [name for ns, name in owners.get(event.value["pid"], ()) if ns < event.ns]
        killed = record.actors[before[-1]] if before else None
        if killed is None or not KINDS[killed.kind].restarts or killed.ended:
            continue
        later = [ns for ns, pid in killed.signs if ns > event.ns and pid != event.value["pid"]]
        if later:
            back = min(later)
            alone = not any(start < back and end > event.ns for start, end in wide)
            yield (back - event.ns) / 1e9, alone


def _is_wide(event: Event) -> bool:
    return event.method.startswith(("store", "node", "fork", "cut"))


def _times(found: list[float]) -> str:
    if not found:
        return "no time: none was killed"
    ordered = sorted(found)
    most = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    median = statistics.median(ordered)
    return f"{median * 1000:.0f} ms (median), {most * 1000:.0f} ms (p99), of {len(ordered)}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(head)} |"
        yield f"|{' --- |' * len(head)}"
        yield from (f"| {' | '.join(row)} |" for row in rows)
