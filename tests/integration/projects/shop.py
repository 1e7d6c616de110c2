"""A Celery project with tasks, a handler of signals, and a few actors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from celery import Celery, signals

from celery_actors import Actors

app = Celery("shop")
app.conf.update(
    **json.loads(os.environ["SHOP_SETTINGS"]),
    broker_connection_retry_on_startup=True,
    beat_schedule={
        "count": {
            "task": "Counter.add",
            "schedule": 0.2,
            "args": (1,),
            "options": {"queue": "ca.actor.default.beaten"},
        }
    },
)
actors = Actors(app)


def note(word: str) -> None:
    """Write a line to the file of notes, where there is one."""
    if path := os.environ.get("SHOP_NOTES"):
        with Path(path).open("a") as file:
            file.write(f"{word}\n")


@signals.task_prerun.connect
def on_prerun(sender: Any, task_id: str, args: Any, **_: Any) -> None:
    same = sender.request.id == task_id
    note(f"prerun {sender.name} {list(args)} {same}")


@signals.task_postrun.connect
def on_postrun(sender: Any, state: str, retval: Any, **_: Any) -> None:
    note(f"postrun {sender.name} {state} {retval}")


@signals.task_failure.connect
def on_failure(sender: Any, exception: BaseException, **_: Any) -> None:
    note(f"failure {sender.name} {exception!r}")


@app.task(shared=False)  # two of this module, for two brokers, are in one test run
def add(x: int, y: int) -> int:
    return x + y


@app.task(shared=False)
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(shared=False)
def on_error(request: Any, error: BaseException, _traceback: Any) -> None:
    note(f"errback {request.task} {error!r}")


@app.task(shared=False)
def call_till(amount: int) -> int:
    """A plain task that calls an actor by name."""
    till: Any = actors.get_actor("till")
    return int(actors.get(till.add.remote(amount), timeout=20))


@app.task(rate_limit="1/m", shared=False)
def limited() -> None:
    return None


@actors.remote
class Counter:
    """Counts, and tells what it was given."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    def fail(self, word: str) -> None:
        raise ValueError(word)

    def describe(self, given: Any) -> list[Any]:
        return [type(given).__name__, given]

    def child(self) -> Any:
        return Counter.remote(100)


@actors.remote
def square(number: int) -> int:
    return number * number


@actors.remote
def tell(value: Any, numbers: list[int] | None = None) -> tuple[str, Any, int]:
    """Tell which kind of worker runs this, and what it was given."""
    if value is None:
        raise ValueError("nothing was given")
    kind = "stock" if os.environ.get("SHOP_STOCK") else "node"
    return kind, value, len(numbers or ())
