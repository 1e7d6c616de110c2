"""``celery_actors timeline`` and ``celery_actors.timeline``, as people use them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Caller, Counter
from tests.integration.support import ROOT, Server, node_on, run_script, wait_until


def recording(server: Server, output: Path) -> subprocess.Popen[str]:
    """Start the command; return once the workers that run have been asked for events."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery_actors", "timeline", "--address", server.url,
         "-o", str(output)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline().startswith("recording unix://")
    while not (line := process.stderr.readline()).endswith("workers send events\n"):
        assert line, "the command ended"
    return process


def slices(trace: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in trace if event["ph"] == "X"]


def test_the_calls_of_a_while_become_a_trace_and_workers_send_no_events_after_it(
    server: Server, tmp_path: Path
):
    output = tmp_path / "trace.json"
    with node_on(server, cpus=4), ca.init(server.url, keys=server.key) as context:
        counter, caller = Counter.options(name="seen").remote(), Caller.remote()
        ca.get([counter.add.remote(), caller.call.remote(counter, "add")], timeout=30)
        control = context.app.control
        names = lambda: {name for reply in control.ping(timeout=0.3) for name in reply}  # noqa: E731
        wait_until(lambda: "Counter-seen@test" in names(), "the actor's Celery side")

        process = recording(server, output)
        seen = counter.add.remote()
        ca.get([seen, caller.call.remote(counter, "add")], timeout=30)
        with pytest.raises(ValueError, match="seen"):
            ca.get(counter.fail.remote("seen"), timeout=30)
        process.send_signal(signal.SIGINT)
        _out, said = process.communicate(timeout=30)
        counts = control.broadcast("enable_events", reply=True, timeout=1.0)
    assert process.returncode == 0, said
    assert "calls in" in said
    trace = json.loads(output.read_text())["traceEvents"]
    found = sorted((event["name"], event["args"]["state"]) for event in slices(trace))
    assert found == [
        ("Caller.call", "SUCCESS"), ("Counter.add", "SUCCESS"), ("Counter.add", "SUCCESS"),
        ("Counter.fail", "FAILURE"),
    ]  # fmt: skip
    names_of_tracks = {e["args"]["name"] for e in trace if e["name"] == "thread_name"}
    assert "Counter-seen" in names_of_tracks
    assert len(names_of_tracks) == 2
    (start,) = [event for event in trace if event["ph"] == "s"]
    (end,) = [event for event in trace if event["ph"] == "f"]
    of_track = {e["tid"]: e["args"]["name"] for e in trace if e["name"] == "thread_name"}
    assert of_track[end["tid"]] == "Counter-seen"
    assert of_track[start["tid"]] != "Counter-seen"
    assert seen.id in {event["args"]["call_id"] for event in slices(trace)}
    words = [word["ok"] for reply in counts for word in reply.values()]
    assert words
    assert all("already" not in word for word in words)


PROGRAM = """
import json, sys
import celery_actors as ca

@ca.remote
def double(value):
    return 2 * value

ca.init(num_cpus=1)
ca.get([double.remote(n) for n in range(20)])
{what}
ca.shutdown()
"""


def test_timeline_gives_the_calls_since_init_where_profiling_is_on(tmp_path: Path):
    path = tmp_path / "trace.json"
    what = f"print(len(ca.timeline())); assert ca.timeline({str(path)!r}) is None"
    on = {**os.environ, "RAY_PROFILING": "1"}

    run = run_script(tmp_path, PROGRAM.format(what=what), on)

    assert run.returncode == 0, run.stderr
    trace = json.loads(path.read_text())
    assert len(trace) == int(run.stdout)
    assert [event["name"] for event in slices(trace)] == ["double"] * 20


def test_timeline_says_how_to_record_one_where_none_was():
    with pytest.raises(ca.RayError, match=r"set CELERY_ACTORS_PROFILING=1 before init\(\)"):
        ca.timeline()
