"""The class of docs/durable.md that migrates does: its programs are run with all other pages'."""

from __future__ import annotations

from tests.acceptance.pages import blocks_of
from tests.integration.support import ROOT

PAGE = (ROOT / "docs" / "durable.md").read_text(encoding="utf-8")


def test_the_class_that_migrates_does_what_the_page_says():
    (example,) = [block for block in blocks_of(PAGE) if "__migrate__" in block.text]
    namespace: dict[str, type] = {}
    exec(example.text, namespace)

    account = namespace["Account"]
    assert account.__migrate__({"pence": 250}, 1) == {"pounds": 2.5}  # type: ignore[attr-defined]
