"""The README's program runs as it stands and prints what the README says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.support import ROOT, run_script


def test_the_first_program_of_the_readme_runs_as_it_stands(tmp_path: Path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert blocks, "the README shows no program"

    run = run_script(tmp_path, blocks[0])

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout
