"""The Celery task of docs/gpu.md runs on a device; its other program is run with all pages'."""

from __future__ import annotations

import os
import re

import pytest

from tests.integration.support import ROOT, Server, node_on, run_script

PAGE = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|text)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
# Made-up devices alone: those that are there might be named otherwise.
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.debian_redis
def test_the_stock_celery_task_runs_on_a_device(server: Server, monkeypatch: pytest.MonkeyPatch):
    _, _, (_, project), (_, caller) = BLOCKS
    address = re.search(r'^url = "(.*)"$', project, re.MULTILINE)
    assert address is not None
    url = server.url.replace("unix://", "redis+socket://")
    (server.folder / "project.py").write_text(project.replace(address[1], url))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    with node_on(server, "-A", "project", "--num-gpus", "1"):
        run = run_script(server.folder, caller, ENVIRONMENT)

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "0\n"
