"""Takes the pictures of the Actors page for the documentation, and measures it with 500 actors.

    python -m tests.flower_pictures docs/flower

A local cluster, Flower and Chromium are started; the 500 are records that no process stands behind.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

import celery_actors as ca
from celery_actors import runtime
from tests.integration.flower import (
    Flower,
    chromium,
    command,
    many_records,
    serving,
    set_dark,
    set_screen,
)
from tests.integration.support import client_of
from tests.waits import wait_until

COUNT = 500
#: Milliseconds from the begin of the navigation until all rows are painted, and those of them that
#: the first answer took to become rows.
PAINTED = """
const [wanted, done] = arguments;
function look() {
    if (document.querySelectorAll("#ca-rows tr").length < wanted) requestAnimationFrame(look);
    else requestAnimationFrame(() => requestAnimationFrame(() => done([
        performance.now(), performance.getEntriesByName("ca-render")[0].duration])));
}
look();
"""


@ca.remote
class Encoder:
    """Turns texts into numbers."""

    def encode(self, text: str) -> list[int]:
        """Return the numbers of a text."""
        sys.stdout.write(f"encoded {len(text)} characters\n")
        return list(text.encode())


@ca.remote(max_restarts=-1)
class Account:
    """Keeps an amount."""

    def __init__(self) -> None:
        self.amount = 0

    def deposit(self, amount: int) -> int:
        """Add to the amount."""
        if amount <= 0:
            raise ValueError(f"a deposit is positive, not {amount}")
        self.amount += amount
        return self.amount


@contextlib.contextmanager
def staff() -> Iterator[Callable[[], object]]:
    """Some actors: two hold a device, one has failed, one has restarted, one is dead.

    What is given has some of them work.
    """
    encoders = [Encoder.options(name=f"encoder-{number}", num_gpus=1).remote() for number in (1, 2)]
    accounts = {name: Account.options(name=name).remote() for name in ("savings", "rent")}
    closed = Account.options(name="closed").remote()
    ca.get([closed.deposit.remote(1), *(each.deposit.remote(5) for each in accounts.values())])
    ca.kill(accounts["rent"], no_restart=False)
    ca.kill(closed)
    for amount in (20, 35, -1):
        with contextlib.suppress(ValueError):
            ca.get(accounts["savings"].deposit.remote(amount))
    ca.get([each.encode.remote("a few words to encode") for each in encoders for _ in range(4)])
    ca.get(accounts["rent"].deposit.remote(700))

    def work() -> object:
        words = [each.encode.remote("a few words to encode") for each in encoders]
        return ca.get([*words, *(accounts["rent"].deposit.remote(number) for number in (1, 2))])

    yield work


def settled(flower: Flower) -> str:
    """Wait until what nodes say every few seconds is there; return the id of one actor."""

    def row() -> Any:
        found = flower.actor("savings")
        return found if found and found["error"] and found["memory"] else None

    return str(wait_until(row, "memory and error of the actor", 20)["id"])


def take(browser: Chrome, flower: Flower, folder: Path, work: Callable[[], object]) -> None:
    """Save the pictures, while somebody works."""
    actor_id = settled(flower)
    said = "return document.getElementById('ca-status').textContent"
    looks = "return performance.getEntriesByName('ca-render')[0].startTime"

    def has_looked_again(first: float) -> bool:
        work()
        return bool(browser.execute_script(looks) > first)

    for name, path, dark, width, height in (
        ("actors-light", "/actors", False, 1200, 860), ("actors-dark", "/actors", True, 1200, 860),
        ("actors-400", "/actors", False, 400, 1100),
        ("actor-light", f"/actor/{actor_id}", False, 1200, 860),
        ("actor-dark-400", f"/actor/{actor_id}", True, 400, 1100),
    ):  # fmt: skip
        set_screen(browser, width, height=height)
        set_dark(browser, dark=dark)
        browser.get(flower.url + path)
        wait_until(lambda: browser.execute_script(said) == "Live", "the data")
        wait_until(partial(has_looked_again, browser.execute_script(looks)), "a rate")
        browser.save_screenshot(str(folder / f"{name}.png"))


def measure(browser: Chrome, flower: Flower) -> None:
    """Print how long 500 actors take, the median of five."""
    set_screen(browser, 1200)
    asked, found, busy = [], [], []
    browser.execute_cdp_cmd("Performance.enable", {})
    for _ in range(5):
        begun = time.perf_counter()
        flower.ask("/actors/data")
        asked.append((time.perf_counter() - begun) * 1000)
        browser.get("about:blank")
        browser.get(f"{flower.url}/actors")
        found.append(browser.execute_async_script(PAINTED, COUNT))
        metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        busy += [each["value"] * 1000 for each in metrics if each["name"] == "ThreadTime"]
    sys.stdout.write(
        f"{COUNT} actors, medians of 5: from the click to all rows painted "
        f"{statistics.median(each[0] for each in found):.0f} ms (of processor time "
        f"{statistics.median(busy):.0f} ms), the table's script "
        f"{statistics.median(each[1] for each in found):.0f} ms, Flower's answer "
        f"{statistics.median(asked):.0f} ms; load {os.getloadavg()[0]:.0f}\n"
    )


def main(folder: Path) -> None:
    """Take the pictures and measure."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        ca.init(num_cpus=4, num_gpus=2, namespace="shop", task_events=True),
        tempfile.TemporaryDirectory() as logs,
        serving(Path(logs), command(runtime.current().store.address.url)) as flower,
        chromium() as browser,
        contextlib.closing(client_of(runtime.current().store.address.url)) as client,
    ):
        with staff() as work:
            take(browser, flower, folder, work)
        with many_records(client, COUNT):
            wait_until(lambda: len(flower.ask("/actors/data").json["actors"]) >= COUNT, "records")
            measure(browser, flower)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
