"""What a run of pytest has written into its JUnit report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

__all__ = ["Case", "cases_of"]


@dataclass(frozen=True)
class Case:
    """One test, or the set-up of one that failed."""

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    reason: str  # why it was skipped
    element: ET.Element


def cases_of(path: Path) -> Iterator[Case]:
    """Give each test that a report names."""
    for found in ET.parse(path).iter("testcase"):
        name, skipped = f"{found.get('classname')}::{found.get('name')}", found.find("skipped")
        if found.find("failure") is not None or found.find("error") is not None:
            yield Case(name, "failed", "", found)
        elif skipped is not None:
            yield Case(name, "skipped", skipped.get("message", ""), found)
        else:
            yield Case(name, "passed", "", found)
