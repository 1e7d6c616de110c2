"""Flower as people start it, in a process of its own, and a browser before it."""

from __future__ import annotations

import base64
import contextlib
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from selenium import webdriver

from tests.integration import acl
from tests.integration.support import ROOT, wait_until

LOGIN = "eve:a long secret"
needs_broker_page = pytest.mark.skipif(
    acl.IN_FORCE, reason="Flower's broker page logs in to a Unix socket without its user's name"
)


@dataclass
class Answer:
    """What came back for one request."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        """The text, read as JSON."""
        return msgspec.json.decode(self.text)


@dataclass
class Flower:
    """One running Flower."""

    url: str
    login: str | None
    log: Path

    def ask(
        self, path: str, *, login: str | None = "", body: object = None, host: str = ""
    ) -> Answer:
        """Ask for a path; ``login``: other than the one it was started with, None for nobody."""
        headers = {"Host": host} if host else {}
        who = self.login if login == "" else login
        if who is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(who.encode()).decode()}"
        data = None if body is None else msgspec.json.encode(body)
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return _read(answer)
        except urllib.error.HTTPError as error:
            with error:
                return _read(error)

    def page(self, path: str) -> str:
        """Return a page as people read it: its text with HTML's own escapes undone."""
        answer = self.ask(path)
        assert answer.status == 200, (path, answer)
        return html.unescape(re.sub(r"<[^>]*>", "", answer.text))

    def worker(self, name: str) -> dict[str, Any] | None:
        """Return the row of Flower's list of workers whose name begins so; None for no row."""
        rows = self.ask("/workers?json=1").json["data"]
        found = [row for row in rows if row["hostname"].startswith(f"{name}@")]
        assert len(found) <= 1, found
        return found[0] if found else None

    def actor(self, name: str) -> dict[str, Any] | None:
        """Return the row of an actor by its name."""
        rows = self.ask("/actors/data").json["actors"]
        return next((row for row in rows if row["name"] == name), None)

    def metric(self, wanted: str) -> float:
        """Return a metric by its whole name with labels; 0 where it is not there."""
        found = re.search(rf"^{re.escape(wanted)} (\S+)$", self.ask("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0


def _read(answer: HTTPResponse | urllib.error.HTTPError) -> Answer:
    return Answer(answer.status or 0, answer.read().decode())


@contextlib.contextmanager
def serving(
    folder: Path, words: Sequence[str], *, login: str | None = None,
    environment: Mapping[str, str] | None = None, prefix: str = "",
) -> Iterator[Flower]:  # fmt: skip
    """Run Flower by these words of ``python -m``; on leaving, end it as a service manager does."""
    log = folder / "flower.log"
    given = {name: text for name, text in os.environ.items() if not name.startswith("FLOWER_")}
    if login is not None:
        given["FLOWER_BASIC_AUTH"] = login
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**given, "PYTHONPATH": str(ROOT), **(environment or {})}, cwd=folder,
        )  # fmt: skip
    try:
        wait_until(
            lambda: process.poll() is not None or "http://" in log.read_text(), "a running Flower"
        )
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        assert found is not None, log.read_text()
        flower = Flower(found[0] + prefix, login, log)
        wait_until(lambda: flower.ask("/healthcheck").text == "OK", "an answer of Flower")
        yield flower
    finally:
        process.terminate()
        try:
            assert process.wait(10) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


def command(address: str, *options: str) -> list[str]:
    """Return the words of our own command, on a free loopback port."""
    return ["celery_actors", "flower", "--address", address, "--port", "0", *options]


# -- a browser -----------------------------------------------------------------------------------


def require_chromium() -> tuple[str, str]:
    """Return Chromium and its driver; skip on a laptop that lacks them, fail in CI."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] is None or found[1] is None:
        if os.environ.get("CI"):
            pytest.fail("chromium or chromedriver is missing, and in CI nothing is skipped")
        pytest.skip("chromium and chromedriver are not installed")
    return found[0], found[1]


@contextlib.contextmanager
def chromium(width: int = 1400, height: int = 900) -> Iterator[webdriver.Chrome]:
    """Run a browser without a screen."""
    program, driver = require_chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    with tempfile.TemporaryDirectory() as folder:  # it leaves some behind in its temporary folder
        places = dict.fromkeys(("TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"), folder)
        service = webdriver.ChromeService(driver, env={**os.environ, **places})
        with webdriver.Chrome(options, service) as browser:
            browser.set_window_size(width, height)
            yield browser


def set_screen(browser: webdriver.Chrome, width: int, *, height: int = 900) -> None:
    """Give a browser's page a width, as a phone has it."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 768},
    )


def set_dark(browser: webdriver.Chrome, *, dark: bool) -> None:
    """Have a browser prefer a dark page, or a light one."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


# -- many actors -----------------------------------------------------------------------------------


@contextlib.contextmanager
def many_records(client: redis.Redis, count: int) -> Iterator[None]:
    """Have records of actors in a store that no process stands behind: they rest."""
    states = ("passive", "alive", "restarting")
    names = {f"{number:032x}": f"ca.actor.many.{number}" for number in range(1, count + 1)}
    metas = [f"ca:{{{queue}}}:{actor_id}:m" for actor_id, queue in names.items()]
    with client.pipeline(transaction=False) as pipeline:
        for number, (meta, (actor_id, queue)) in enumerate(zip(metas, names.items(), strict=True)):
            fields: dict[str | bytes, bytes | float | int | str] = {
                "st": states[number % 3], "class": f"Model{number % 7}", "queue": queue,
                "name": f"many\x1fmodel-{number}", "namespace": "many", "restarts": number % 5,
                "ap": number, "ep": 1, "own": "", "pid": 1000 + number, "need": "cpu1",
                "max_restarts": -1,
            }  # fmt: skip
            pipeline.hset(meta, mapping=fields)
            pipeline.hset("ca:actors", actor_id, queue)
        pipeline.execute()
    try:
        yield
    finally:
        client.hdel("ca:actors", *names)
        client.delete(*metas)
