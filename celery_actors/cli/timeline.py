"""``celery_actors timeline``."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click

from .reach import address_option, find_address

__all__ = ["timeline"]


@click.command()
@address_option
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, such as trace.json.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="Default: until Ctrl-C."
)
def timeline(address: str | None, output: Path, seconds: float | None) -> None:
    """Record the calls of a cluster, for https://ui.perfetto.dev or chrome://tracing.

    One track a worker, one slice a call, an arrow from a call to those that it made. Only what ends
    meanwhile is seen. Workers that send no events are asked to, for this time.
    """
    from ..broker.app import close_app, make_app
    from ..broker.listening import EventListener
    from ..config import KeyRing, new_key
    from ..serialization import Sealer
    from ..store import Store
    from ..trace_events import Timeline

    found = find_address(address)
    Store.probe(found)
    # Events are plain JSON. No value is opened, so no key of the cluster is asked for.
    app = make_app(found, Sealer(KeyRing.parse(new_key())), result_seconds=60)
    recorded = Timeline()
    listener = EventListener(app, recorded.take)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: listener.stop())
    listener.on_round = _Rounds().tell
    with output.open("w") as file:  # before anything is recorded: a bad path fails early
        click.echo(
            f"recording {found.public}"
            + (f" for {seconds:g} s" if seconds is not None else "; Ctrl-C ends it"), err=True,
        )  # fmt: skip
        try:
            listener.run(seconds)
        finally:
            close_app(app)
        trace = recorded.trace()
        json.dump({"traceEvents": trace, "displayTimeUnit": "ms"}, file)
    calls = sum(event["ph"] == "X" for event in trace)
    click.echo(f"{calls} calls in {output}: open it at https://ui.perfetto.dev", err=True)


class _Rounds:
    """Tells how many workers send events, where that has changed."""

    told = -1

    def tell(self, workers: int) -> None:
        if workers != self.told:
            self.told = workers
            click.echo(f"{workers} workers send events", err=True)
