"""Celery's events as a trace for Perfetto."""

from __future__ import annotations

from typing import Any

from celery_actors.trace_events import Timeline

BEGIN = 1_700_000_000.0


def events_of(
    call_id: str, begun: float, ended: float, *, worker: str = "C-a@host", parent: str = "",
    failed: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    common = {"uuid": call_id, "hostname": worker, "pid": 7}
    received = {"type": "task-received", "name": "C.add", "root_id": parent or call_id,
                "parent_id": parent or None, "timestamp": BEGIN + begun, **common}  # fmt: skip
    kind = "task-failed" if failed else "task-succeeded"
    last = {"type": kind, "timestamp": BEGIN + ended, "exception": "oh" if failed else None}
    return [
        received, {"type": "task-started", "timestamp": BEGIN + begun, **common},
        {**last, **common},
    ]  # fmt: skip


def trace_of(*calls: list[dict[str, Any]], most: int = 100) -> list[dict[str, Any]]:
    timeline = Timeline(most)
    for events in calls:
        for event in events:
            timeline.take(event)
    return timeline.trace()


def of_phase(trace: list[dict[str, Any]], phase: str) -> list[dict[str, Any]]:
    return [event for event in trace if event["ph"] == phase]


def tracks(trace: list[dict[str, Any]]) -> dict[tuple[int, int], str]:
    return {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in of_phase(trace, "M")
        if event["name"] == "thread_name"
    }


def test_a_worker_is_a_track_of_its_node_and_a_call_a_slice_on_it() -> None:
    trace = trace_of(
        events_of("1", 0.0, 0.25), events_of("2", 0.25, 0.5),
        events_of("3", 0.0, 0.1, worker="D-b@other"),
    )  # fmt: skip

    assert [(e["name"], e["ts"], e["dur"]) for e in of_phase(trace, "X")] == [
        ("C.add", BEGIN * 1e6, 250_000), ("C.add", BEGIN * 1e6, 100_000),
        ("C.add", (BEGIN + 0.25) * 1e6, 250_000),
    ]  # fmt: skip
    assert sorted(tracks(trace).values()) == ["C-a", "D-b"]
    nodes = [e["args"]["name"] for e in of_phase(trace, "M") if e["name"] == "process_name"]
    assert nodes == ["node host", "node other"]


def test_calls_that_overlap_lie_beside_each_other() -> None:
    trace = trace_of(
        events_of("1", 0.0, 1.0), events_of("2", 0.5, 1.5), events_of("3", 1.0, 2.0)
    )  # fmt: skip

    first, second, third = of_phase(trace, "X")
    assert first["tid"] == third["tid"] != second["tid"]
    assert sorted(tracks(trace).values()) == ["C-a", "C-a (at the same time, 2)"]


def test_arrows_lead_from_a_call_to_those_that_it_made() -> None:
    trace = trace_of(
        events_of("1", 0.0, 1.0), events_of("2", 0.5, 0.6, worker="D-b@other", parent="1"),
        events_of("3", 5.0, 6.0, worker="D-b@other", parent="1"),
        events_of("4", 0.7, 0.8, parent="unseen"),
    )  # fmt: skip

    starts, ends = of_phase(trace, "s"), of_phase(trace, "f")
    # The third was sent before the first had ended, whenever it ran.
    assert [e["ts"] - BEGIN * 1e6 for e in starts] == [500_000, 999_999]
    assert [e["ts"] - BEGIN * 1e6 for e in ends] == [500_000, 5_000_000]
    assert [e["id"] for e in starts] == [e["id"] for e in ends]
    names = tracks(trace)
    assert {names[e["pid"], e["tid"]] for e in starts} == {"C-a"}
    assert {names[e["pid"], e["tid"]] for e in ends} == {"D-b"}


def test_a_failed_call_is_marked() -> None:
    (event,) = of_phase(trace_of(events_of("1", 0.0, 1.0, failed=True)), "X")

    assert event["cat"] == "call,failed"
    assert event["args"]["state"] == "FAILURE"
    assert event["args"]["error"] == "oh"


def test_a_call_whose_begin_was_not_seen_begins_where_its_runtime_says() -> None:
    _received, _started, last = events_of("1", 0.0, 1.0)

    (event,) = of_phase(trace_of([{**last, "runtime": 0.25}]), "X")
    assert (event["name"], event["ts"], event["dur"]) == ("?", (BEGIN + 0.75) * 1e6, 250_000)


def test_what_has_not_ended_and_what_is_no_call_is_left_out() -> None:
    beat = {"type": "worker-heartbeat", "hostname": "C-a@host", "timestamp": BEGIN}

    assert trace_of(events_of("1", 0.0, 1.0)[:2], [beat, {}, {"type": "task-started"}]) == []


def test_only_the_last_calls_are_kept() -> None:
    trace = trace_of(*(events_of(str(n), n, n + 0.5) for n in range(10)), most=3)

    assert [e["args"]["call_id"] for e in of_phase(trace, "X")] == ["7", "8", "9"]
