"""The page of error messages has an entry for each error, and quotes messages that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from celery_actors import exceptions
from tests.integration.support import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_every_public_error_has_one_entry_and_no_other_has():
    headings = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)

    assert sorted(headings) == sorted(exceptions.__all__)


def test_the_words_that_the_page_quotes_are_those_of_the_package():
    rows = re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE)
    quoted = [words for row in rows for words in re.findall(r"`([^`]+)`", row)]
    quoted += re.findall(r'^### (?:"(?=.*")|\w+Error: )(.+?)"?$', PAGE, re.MULTILINE)
    assert len(quoted) > 25

    modules = (ROOT / "celery_actors").rglob("*.py")
    texts = "\n".join(text for module in modules for text in _texts(module))
    assert [words for words in quoted if not re.search(_pattern(words), texts)] == []


def _pattern(words: str) -> str:
    return ".*?".join(re.escape(part.strip()) for part in words.split("…"))


def _texts(path: Path) -> Iterator[str]:
    """Return what a module says: with a gap where a value is put in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
