"""The programs of docs/durable.md run as they stand and print what the page says."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tests.integration.support import ROOT, run_script

PAGE = (ROOT / "docs" / "durable.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|text)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PAIRS = [
    (program, printed)
    for (language, program), (kind, printed) in itertools.pairwise(BLOCKS)
    if (language, kind) == ("python", "text")
]


@pytest.mark.parametrize(("program", "printed"), PAIRS)
def test_a_program_prints_what_the_page_says(tmp_path: Path, program: str, printed: str):
    run = run_script(tmp_path, program)
    assert (run.returncode, run.stdout) == (0, printed), run.stderr


def test_the_page_has_two_programs_and_a_class_that_migrates():
    assert len(PAIRS) == 2
    namespace: dict[str, type] = {}
    exec(BLOCKS[-1][1], namespace)
    account = namespace["Account"]
    assert account.__migrate__({"pence": 250}, 1) == {"pounds": 2.5}  # type: ignore[attr-defined]
