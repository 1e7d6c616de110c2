"""Each promise of docs/guarantees.md names tests, and those exist."""

from __future__ import annotations

import re

from tests.integration.support import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| **")]
DEFINED = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}


def test_every_cell_names_a_test_that_exists():
    assert len(ROWS) == 5
    for row in ROWS:
        assert len(row) == 6
        for cell in row[1:]:
            named = re.findall(r"`(test_\w+)`", cell)
            assert named, cell
            assert set(named) <= DEFINED, set(named) - DEFINED
