"""``celery_actors timeline``."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .examples import examples
from .reach import address_option, checked, find_address, given_app

if TYPE_CHECKING:
    from ..config import Address

__all__ = ["timeline"]


@click.command(
    epilog=examples(
        "celery_actors timeline -o trace.json               # until Ctrl-C",
        "celery_actors timeline -o trace.json --seconds 30",
    )
)
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

    A track for each worker, a slice for each call, and an arrow from a call to those that it made.
    Calls are seen that end meanwhile. Workers that send no events are asked to, for this time.
    """
    from ..broker.app import close_app
    from ..broker.listening import EventListener
    from ..trace_events import Timeline

    found = find_address(address)
    checked(found)
    theirs = given_app()
    app = theirs or _app_at(found)
    recorded = Timeline()
    listener = EventListener(app, recorded.take)
    listener.on_round = _Rounds().tell
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: listener.stop())
    with _opened(output) as file:
        until = "; Ctrl-C ends it" if seconds is None else f" for {seconds:g} s"
        click.echo(f"recording {found.public}{until}", err=True)
        try:
            listener.run(seconds)
        finally:
            if theirs is None:
                close_app(app)
        trace = recorded.trace()
        json.dump({"traceEvents": trace, "displayTimeUnit": "ms"}, file)
    calls = sum(event["ph"] == "X" for event in trace)
    click.echo(f"{calls} calls in {output}: open it at https://ui.perfetto.dev", err=True)


def _opened(output: Path) -> Any:
    """Open the file, before anything is recorded for it.

    Raises:
        ConfigurationError: it cannot be written.
    """
    from ..errors import ConfigurationError

    try:
        return output.open("w")
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}") from None


def _app_at(found: Address) -> Any:
    """Return an app that hears events. They are plain JSON, so no key of the cluster is needed."""
    from ..broker.app import make_app
    from ..config import KeyRing, new_key
    from ..serialization import Sealer

    return make_app(found, Sealer(KeyRing.parse(new_key())), result_seconds=60)


class _Rounds:
    """Tells how many workers send events, where that has changed."""

    told = -1

    def tell(self, workers: int) -> None:
        if workers != self.told:
            self.told = workers
            click.echo(f"{workers} workers send events", err=True)
