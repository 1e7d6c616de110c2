"""The Actors page as people see it: a real Chromium before a real Flower on a real cluster."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

import celery_actors as ca
from tests.integration.actors import Counter
from tests.integration.flower import (
    Flower,
    chromium,
    command,
    many_records,
    require_chromium,
    serving,
    set_dark,
    set_screen,
)
from tests.integration.support import Cluster, running, wait_until

pytestmark = pytest.mark.not_over(
    "rabbitmq", "these start Flower at the store, and events are at the broker"
)

#: Stands in a cell without a value.
NOTHING = "\N{EN DASH}"
TABLE = """
return [...document.querySelectorAll("#ca-rows tr")].map(row =>
    Object.fromEntries([...row.cells].map(cell => [cell.dataset.label, cell.textContent])));
"""
KEPT = """
return [...document.querySelectorAll("#ca-rows tr")].filter(row => row.old)
    .map(row => row.querySelector("a").textContent);
"""
#: Browsers write colours as "rgb(18, 23, 16)".
COLOURS = """
const style = getComputedStyle(arguments[0]);
let behind = arguments[0];
const fill = () => getComputedStyle(behind).backgroundColor;
while (fill() === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
return [style.color, fill()];
"""
WIDER = """
return [...document.querySelectorAll("main *")]
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
    .map(each => each.outerHTML.slice(0, 100));
"""


@pytest.fixture(scope="module")
def shown() -> Iterator[Cluster]:
    """A cluster that tells of every call; none where there is no browser."""
    require_chromium()
    with running("valkey", task_events=True) as found:
        yield found


@pytest.fixture(scope="module")
def flower(shown: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """Flower as our command starts it."""
    with serving(tmp_path_factory.mktemp("flower"), command(shown.address)) as found:
        yield found


@pytest.fixture(scope="module")
def program(flower: Flower) -> Iterator[Chrome]:
    """A browser that the tests share."""
    assert flower.url
    with chromium() as found:
        yield found


@pytest.fixture
def browser(program: Chrome) -> Iterator[Chrome]:
    """That browser, with a light page of a desk's width; no script of the page has failed."""
    set_screen(program, 1400)
    set_dark(program, dark=False)
    yield program
    complaints = program.get_log("browser")
    program.get("about:blank")
    assert [each for each in complaints if "favicon" not in each["message"]] == []


@pytest.fixture(scope="module")
def staff(shown: Cluster) -> Iterator[dict[str, Any]]:
    """Three actors: one has restarts left, one has failed and printed."""
    assert shown.kind
    named = {
        name: Counter.options(name=name, max_restarts=restarts).remote()
        for name, restarts in (("alpha", 0), ("beta", -1), ("<b>gamma</b>", 0))
    }
    ca.get([actor.add.remote(1) for actor in named.values()], timeout=20)
    with pytest.raises(ValueError, match="no change"):
        ca.get(named["<b>gamma</b>"].fail.remote("no change"), timeout=10)
    yield named
    for actor in named.values():
        ca.kill(actor)


def table(browser: Chrome) -> list[dict[str, str]]:
    """Return the rows as they are shown."""
    return list(browser.execute_script(TABLE))


def names(browser: Chrome) -> list[str]:
    """Return the actors in the order of the rows."""
    return [row["Name"] for row in table(browser)]


def row_of(browser: Chrome, name: str) -> dict[str, str]:
    """Return the row of an actor; an empty one where it has none."""
    return next((row for row in table(browser) if row["Name"] == name), {})


def open_actors(browser: Chrome, flower: Flower, staff: dict[str, Any], query: str = "") -> None:
    """Go to the page and wait until it shows everybody."""
    browser.get(f"{flower.url}/actors{query}")
    wait_until(lambda: set(staff) <= set(names(browser)), "every actor on the page", 20)


def focused(browser: Chrome) -> str:
    """Return the text of what has the focus."""
    return browser.switch_to.active_element.text


def is_marked(browser: Chrome) -> bool:
    """Tell whether what has the focus is outlined."""
    element = browser.switch_to.active_element
    return element.value_of_css_property("outline-style") != "none"


def luminance(colour: str) -> float:
    """Return how light a colour is, from 0 to 1, as the rules for contrast count it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(browser: Chrome, selector: str) -> float:
    """Return the contrast of a text to what is behind it: 1 none, 21 black on white."""
    element = browser.find_element(By.CSS_SELECTOR, selector)
    one, other = map(luminance, browser.execute_script(COLOURS, element))
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_each_actor_is_a_row_of_what_is_known_of_it(
    browser: Chrome, flower: Flower, staff: dict[str, Any]
) -> None:
    pid = ca.get(staff["alpha"].pid.remote(), timeout=10)
    open_actors(browser, flower, staff)

    wait_until(lambda: row_of(browser, "alpha")["Memory"] != NOTHING, "its memory", 20)
    row = row_of(browser, "alpha")
    assert (row["Class"], row["State"], row["PID"]) == ("Counter", "ALIVE", str(pid))
    assert (row["Queue"], row["Restarts"], row["Devices"]) == ("0", "0", NOTHING)
    assert row["Memory"].endswith("MiB")
    assert row["Node"] in browser.find_element(By.ID, "ca-nodes").text
    wait_until(lambda: row_of(browser, "<b>gamma</b>")["Last error"] != NOTHING, "its error", 20)
    assert row_of(browser, "<b>gamma</b>")["Last error"] == "ValueError: no change"
    assert browser.find_element(By.ID, "ca-status").text == "Live"


def test_the_keyboard_alone_filters_and_sorts_and_opens_an_actor(
    browser: Chrome, flower: Flower, staff: dict[str, Any]
) -> None:
    open_actors(browser, flower, staff)
    browser.find_element(By.ID, "ca-filter").send_keys("counter alive")
    assert is_marked(browser)

    def press(key: str) -> None:
        browser.switch_to.active_element.send_keys(key)

    reached = []
    while focused(browser) != "NAME":
        press(Keys.TAB)
        reached.append(focused(browser))
        assert len(reached) < 10, reached
    assert is_marked(browser)
    press(Keys.ENTER)
    assert names(browser) == sorted(staff)
    press(Keys.ENTER)

    assert names(browser) == sorted(staff, reverse=True)
    (head,) = browser.find_elements(By.CSS_SELECTOR, "th[aria-sort=descending]")
    assert head.text == "NAME"
    looks = "return performance.getEntriesByName('ca-render')[0]?.startTime"
    last = browser.execute_script(looks)
    wait_until(lambda: browser.execute_script(looks) > last, "the next look at the cluster")
    assert focused(browser) == "NAME"  # each look leaves the focus and the order alone
    assert names(browser) == sorted(staff, reverse=True)

    browser.refresh()
    wait_until(lambda: names(browser) == sorted(staff, reverse=True), "order and filter are kept")
    browser.find_element(By.LINK_TEXT, "beta").send_keys(Keys.ENTER)
    wait_until(lambda: "/actor/" in browser.current_url, "the page of one actor")
    assert browser.find_element(By.TAG_NAME, "h1").text == "Counter(beta)"


def test_rows_follow_the_cluster_without_a_reload(
    browser: Chrome, flower: Flower, staff: dict[str, Any]
) -> None:
    open_actors(browser, flower, staff)
    browser.execute_script("document.querySelectorAll('#ca-rows tr').forEach(row => row.old = 1)")
    pid = ca.get(staff["beta"].pid.remote(), timeout=10)

    late = Counter.options(name="late").remote()
    ca.get(late.add.remote(1), timeout=10)
    wait_until(lambda: row_of(browser, "late").get("State") == "ALIVE", "the new actor")
    os.kill(pid, signal.SIGKILL)
    again = ca.get(staff["beta"].pid.remote(), timeout=10)
    wait_until(lambda: row_of(browser, "beta")["PID"] == str(again), "the new process")
    assert row_of(browser, "beta")["Restarts"] == "1"
    ca.kill(late)
    wait_until(lambda: row_of(browser, "late").get("State") == "DEAD", "the dead actor")
    assert "kill()" in row_of(browser, "late")["Last error"]

    kept = browser.execute_script(KEPT)  # the same rows: only their texts have changed
    assert set(staff) <= set(kept)
    assert "late" not in kept


def test_the_page_of_an_actor_shows_its_calls_its_lines_and_why_it_died(
    browser: Chrome, flower: Flower
) -> None:
    actor = Counter.options(name="watched").remote()
    ca.get(actor.__ray_call__.remote(_say), timeout=10)
    ca.get(actor.add.remote(7), timeout=10)
    row = wait_until(lambda: flower.actor("watched"), "the actor")
    browser.get(f"{flower.url}/actor/{row['id']}")

    def text(element: str) -> str:
        return str(browser.find_element(By.ID, element).text)

    wait_until(lambda: "Counter.add" in text("ca-calls"), "its call", 20)
    assert "(7,)" in text("ca-calls")
    wait_until(lambda: text("ca-logs") == "<b>printed</b>", "what it printed")
    assert "ALIVE" in text("ca-facts")
    assert f"{row['queue']}: 0 calls" in text("ca-facts")

    ca.kill(actor)

    wait_until(lambda: "DEAD" in text("ca-facts"), "its death")
    assert "it was ended by celery_actors.kill()" in text("ca-facts")
    browser.find_element(By.LINK_TEXT, row["worker"]).click()
    wait_until(lambda: "/worker/Counter-watched" in browser.current_url, "its worker in Flower")
    browser.get_log("browser")  # which knows no such worker any more: 404


def _say(_actor: Any) -> None:
    sys.stdout.write("<b>pri\x1b[31mnted</b>\n")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_are_readable(
    browser: Chrome, flower: Flower, staff: dict[str, Any], dark: bool
) -> None:
    set_dark(browser, dark=dark)
    open_actors(browser, flower, staff)

    page = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert (luminance(page) < 0.1) is dark
    places = ("td", "th .ca-sort", "td a", ".ca-state", ".ca-node li", "#ca-count", ".metric-label")
    found = {place: contrast(browser, f".ca-page {place}") for place in places}
    assert {place: ratio for place, ratio in found.items() if ratio < 4.5} == {}


def test_nothing_is_cut_off_at_400_pixels(
    browser: Chrome, flower: Flower, staff: dict[str, Any]
) -> None:
    set_screen(browser, 400)
    row = wait_until(lambda: flower.actor("<b>gamma</b>"), "the actor")
    for path in ("/actors", f"/actor/{row['id']}"):
        browser.get(flower.url + path)
        wait_until(lambda: "gamma" in browser.find_element(By.TAG_NAME, "main").text, "the actor")
        wait_until(lambda: browser.find_element(By.ID, "ca-status").text == "Live", "the data")
        assert browser.execute_script("return document.documentElement.scrollWidth") == 400
        assert browser.execute_script(WIDER) == []
    open_actors(browser, flower, staff)
    labels = browser.find_elements(By.CSS_SELECTOR, "#ca-head button")
    assert all(label.is_displayed() for label in labels)


def test_five_hundred_actors_are_all_there(
    browser: Chrome, flower: Flower, shown: Cluster, staff: dict[str, Any]
) -> None:
    with shown.client() as client, many_records(client, 500):
        open_actors(browser, flower, staff)
        wait_until(lambda: len(names(browser)) >= 500 + len(staff), "a row for each", 20)

        browser.find_element(By.ID, "ca-filter").send_keys("model3 restarting")

        wait_until(lambda: len(names(browser)) < 100, "those that were asked for")
        shown_rows = table(browser)
        assert {(row["Class"], row["State"]) for row in shown_rows} == {("Model3", "RESTARTING")}
        said = browser.find_element(By.ID, "ca-count").text
        assert re.fullmatch(rf"{len(shown_rows)} of \d+ actors", said)
