"""A deployment as people have it: a broker, a stock Celery worker, and a node beside it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tests import prefixed
from tests.integration import matrix
from tests.integration.rabbitmq import rabbitmq
from tests.integration.support import ROOT, Node, Server, node_on, redis_server
from tests.waits import wait_until

PROJECT = "tests.integration.projects.shop"


@dataclass
class Deployment:
    """What tests of a Celery project need."""

    server: Server
    node: Node
    shop: ModuleType
    notes_path: Path
    variables: dict[str, str]

    def notes(self) -> list[str]:
        """Return what the project's processes have noted so far."""
        return self.notes_path.read_text().splitlines() if self.notes_path.exists() else []


@contextlib.contextmanager
def stock_worker(project: str, *words: str, variables: dict[str, str]) -> Iterator[None]:
    """Run Celery's own worker on a project."""
    with subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", project, "worker", "-P", "solo",
         "--without-gossip", "--without-mingle", "-l", "WARNING", "-n", f"stock-{uuid.uuid4()}",
         *words],
        env={**variables, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}, cwd=ROOT,
        stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def deployment(broker: str = "redis", *, prefix: str = prefixed.IN_FORCE) -> Iterator[Deployment]:
    """Run a broker, a stock worker and a node with ``-A``; import the project here."""
    kind = "redis" if broker == "rabbitmq" else broker
    with redis_server(kind=kind, prefix=prefix) as server, contextlib.ExitStack() as stack:
        path = server.folder / "notes"
        other = stack.enter_context(rabbitmq()).url if broker == "rabbitmq" else ""
        settings = matrix.celery_settings(server.url, other)
        variables = {"SHOP_NOTES": str(path), "SHOP_SETTINGS": json.dumps(settings)}
        everything = {**server.environment(), **variables}
        stack.enter_context(stock_worker(PROJECT, variables=everything))
        node = stack.enter_context(node_on(server, "-A", PROJECT, variables=variables))
        own = {**variables, "SHOP_NOTES": "", "CELERY_ACTORS_KEYS": server.key}
        before = {name: os.environ.get(name) for name in own}
        os.environ |= own
        try:
            shop = importlib.import_module(PROJECT)
            yield Deployment(server, node, shop, path, variables)
            shop.actors.shutdown()
            gc.collect()  # an AsyncResult that dies later would look for a store that is gone
            shop.app.close()
        finally:
            sys.modules.pop(PROJECT, None)
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def wait_noted(found: Deployment, line: str) -> None:
    """Wait until a line is among the notes."""
    wait_until(lambda: line in found.notes(), f"the note {line!r}", 20)
