"""Every block of code in the documentation runs, from top to bottom of its page, as a reader would."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.pages import (
    Block,
    Shell,
    blocks_of,
    commands_of,
    file_of,
    is_printed,
    statements_of,
)
from tests.integration.support import ROOT
from tests.acceptance.commands import closed_port

PAGES = {
    str(path.relative_to(ROOT)): blocks_of(path.read_text(encoding="utf-8"))
    for path in [ROOT / "README.md", ROOT / "deploy" / "README.md", *(ROOT / "docs").rglob("*.md")]
}
#: The store of the pages. A server of the test's own takes its place.
ADDRESS = "redis://localhost:6379/0"
#: Why blocks do not run here: the reason, and how many there are.
NOT_RUN: dict[str, int] = {}


def _runs(block: Block) -> bool:
    return block.word not in ("not run", "run by")
