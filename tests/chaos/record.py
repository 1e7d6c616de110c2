"""The files of a chaos run, read and sorted by actor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .history import OK, TOLD, Birth, Call, Event, Run, read_calls, read_events
from .model import TELL

__all__ = ["ActorRecord", "Record", "read"]


@dataclass
class ActorRecord:
    """All that is known of one actor."""

    actor: str
    kind: str = ""
    slot: str = ""
    ended: int = 0  # ns at which somebody ended it on purpose; 0: nobody did
    gone: frozenset[str] = frozenset()  # all actors that somebody has ended
    calls: list[Call] = field(default_factory=list)
    births: list[Birth] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)  # its record in the store, as it changed
    signs: list[tuple[int, int]] = field(default_factory=list)  # (ns, pid) of whatever it wrote


@dataclass
class Record:
    """All that is known of one run."""

    actors: dict[str, ActorRecord]
    faults: list[Event]  # what was broken
    troubles: list[Event]  # what callers could not do at once, and did later
    flaws: list[str]  # what is wrong with the files themselves
    sent_again: int = 0  # submissions whose answers were lost with a connection

    def calls(self) -> Iterator[Call]:
        """Return every call."""
        for actor in self.actors.values():
            yield from actor.calls


def read(folder: Path) -> Record:
    """Read what a run has left."""
    actors: defaultdict[str, ActorRecord] = defaultdict(lambda: ActorRecord(""))
    record = Record(actors, [], [], [])
    for path in sorted(folder.glob("calls-*.jsonl")):
        calls, flaws = read_calls(path)
        record.flaws += flaws
        for call in calls:
            actors[call.actor].calls.append(call)
        _read_about(path, record)
    for path in sorted(folder.glob("runs-*.jsonl")):
        for event in read_events(path):
            _read_run(event, actors[event.actor])
    for event in read_events(folder / "faults.jsonl"):
        record.faults.append(event)
    for event in read_events(folder / "seen.jsonl"):
        actors[event.actor].seen.append(event)
    for call in [*record.calls()]:
        if call.method == TELL and call.outcome == OK:
            other, number = call.value[3:]
            actors[other].calls.append(call._replace(
                caller=call.actor, number=number, actor=other, method="add", returned=0,
                outcome=TOLD, value="",
            ))  # fmt: skip
    gone = frozenset(name for name, actor in actors.items() if actor.ended)
    for name, actor in actors.items():
        actor.actor, actor.gone = name, gone
        actor.births.sort(key=lambda birth: birth.ns)
    return record


def _read_about(path: Path, record: Record) -> None:
    for event in read_events(path):
        if event.type == "knows":
            actor = record.actors[event.actor]
            actor.kind, actor.slot = event.method, event.value
        elif event.type == "ended":
            actor = record.actors[event.actor]
            actor.ended = min(actor.ended or event.ns, event.ns)
            record.faults.append(event._replace(method="actor ended"))
        elif event.type == "again":
            record.sent_again += event.value
        elif event.type == "trouble":
            record.troubles.append(event)


def _read_run(event: Event, actor: ActorRecord) -> None:
    pid = int(event.process)
    actor.signs.append((event.ns, pid))
    if event.type == "born":
        actor.births.append(Birth(event.actor, event.value, pid, event.ns))
    if event.type != "run":
        return
    incarnation, ordinal, caller, operand, result = event.value
    actor.runs.append(
        Run(incarnation, ordinal, caller, event.number, event.method, operand, result, event.ns)
    )
