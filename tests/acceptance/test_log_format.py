"""``celery_actors worker --log-format json``: one object a line, which says where it comes from."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.log_format import LOG_MARK
from celery_actors.node.console import console_of
from tests.integration.support import Server, node_on, run_script, wait_until

PROGRAM = """
import logging
import celery_actors as ca
from celery import Celery
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger("shop")

def provide():
    trace.set_tracer_provider(TracerProvider())

@ca.remote(runtime_env={{"worker_process_setup_hook": provide}})
class Clerk:
    def sell(self, what):
        print("sold")
        log.warning("sold %s to redis://ann:{password}@shop/0", what)
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("broken")
        actor_id = ca.get_runtime_context().get_actor_id()
        return f"{{actor_id}} {{trace.get_current_span().get_span_context().trace_id:032x}}"

@ca.remote
def count():
    log.info("counted by a function")

ca.init({url!r}, keys={key!r})
clerk = Clerk.options(name="tom").remote()
sold = clerk.sell.remote({key!r})
print("IDS", sold.id, ca.get(sold, timeout=30))
ca.get(count.remote(), timeout=30)
ca.shutdown()
Celery(broker="redis+socket://{socket}").send_task("plain.say", queue="ca.tasks.cpu1")
"""
APP = """
from celery import Celery
app = Celery("plain")

@app.task(name="plain.say")
def say():
    print("nobody listens")
"""


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Return the log; every line of it must be an object."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(type(line) is dict for line in found)
    return found


def test_each_line_of_a_nodes_log_is_an_object_with_call_actor_and_trace(
    server: Server, tmp_path: Path
):
    (server.folder / "plain_app.py").write_text(APP)
    with node_on(server, "--log-format", "json", "--otel", "-A", "plain_app") as node:
        text = PROGRAM.format(
            url=server.url, key=server.key, password="secr3t", socket=server.folder / "redis.sock"
        )
        run = run_script(tmp_path, text)
        assert run.returncode == 0, run.stderr
        said = wait_until(
            lambda: [e for e in lines_of(node.log) if e["message"] == "nobody listens"],
            "a line printed without a driver",
        )
    lines = lines_of(node.log)

    (printed,) = said
    assert (printed["logger"], printed["node"], printed["level"]) == ("stdout", "test", "INFO")
    (ids,) = [line for line in run.stdout.splitlines() if line.startswith("IDS ")]
    _word, call_id, actor_id, trace_id = ids.split()
    sold, broken = [line for line in lines if line["logger"] == "shop" and "actor_id" in line]
    common = {
        "node": "test", "worker": "Clerk-tom", "actor_class": "Clerk", "actor_id": actor_id,
        "call_id": call_id, "task": "Clerk.sell", "trace_id": trace_id, "logger": "shop",
    }  # fmt: skip
    assert sold.items() >= {**common, "level": "WARNING"}.items()
    assert broken.items() >= {**common, "level": "ERROR", "message": "broken"}.items()
    assert "ZeroDivisionError: division by zero" in broken["exc_info"]
    assert sold["message"] == "sold *** to redis://ann:***@shop/0"
    assert int(trace_id, 16)
    assert len(sold["span_id"]) == 16
    assert datetime.fromisoformat(sold["time"]).utcoffset() is not None
    (counted,) = [line for line in lines if line["message"] == "counted by a function"]
    assert (counted["task"], counted["worker"].partition("-")[0]) == ("count", "tasks")
    assert "actor_id" not in counted
    assert lines[0]["message"].startswith("node on unix://")
    assert server.key not in node.log.read_text()
    # The driver sees what it always does.
    assert "(Clerk pid=" in run.stdout
    assert ") WARNING shop: sold *** to" in run.stderr
    assert ") ZeroDivisionError: division by zero" in run.stderr


def test_what_looks_like_a_record_and_is_none_is_wrapped(
    capsys: pytest.CaptureFixture[str],
):
    console = console_of("json", "here", ["secret"])
    forged = [f"{LOG_MARK}no json, secret", f"{LOG_MARK}[1]", f'before{LOG_MARK}{{"message": "m"}}']
    seen = console.take("C", 7, 2, ["said", *forged], alone=True)

    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    said, first, _second, record, before = found
    assert [line["logger"] for line in (said, first, before)] == ["stderr"] * 3
    assert (said["message"], said["worker"], said["pid"]) == ("said", "C", 7)
    assert first["message"] == f"{LOG_MARK}no json, ***"
    assert record == {"message": "m"}
    assert seen == ["said", *forged[:2], "before", " : m"]


def test_text_is_the_format_where_nothing_else_is_asked_for(server: Server):
    with node_on(server) as node, ca.init(server.url, keys=server.key):
        lines = node.log.read_text().splitlines()
    assert lines[0].startswith("node on unix://")
    assert any(line.startswith("WARNING celery_actors.store_check: ") for line in lines)
