"""What reads and runs the documentation notices what is wrong in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.pages import Block, Shell, blocks_of, commands_of, is_printed, statements_of

PAGE = """
# A page

```python
print(1)
```

It prints

```text
1
```

```{note}
Not code.
```

<!-- not run: needs a lake -->
```console
$ row --fast
splash
$ swim
```
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A terminal."""
    with contextlib.closing(Shell(tmp_path, os.environ)) as opened:
        yield opened


def test_blocks_are_read_with_what_is_said_about_them():
    program, commands = blocks_of(PAGE)

    assert (program.language, program.text, program.printed) == ("python", "print(1)\n", "1\n")
    assert (commands.word, commands.reason) == ("not run", "needs a lake")
    assert commands_of(commands) == [("row --fast", "splash\n"), ("swim", "")]


@pytest.mark.parametrize(
    "page", ["  ```python\n  1\n  ```\n", "```pyhton\n1\n```\n", "```python\n"]
)
def test_a_block_that_would_be_overlooked_is_an_error(page: str):
    with pytest.raises(ValueError, match=r"known language|does not end"):
        blocks_of(page)


def test_statements_may_go_over_several_lines():
    session = Block(1, "pycon", ">>> for n in range(2):\n...     n\n0\n1\n>>> 2\n2\n")

    assert statements_of(session) == [("for n in range(2):\n    n", "0\n1\n"), ("2", "2\n")]


@pytest.mark.parametrize(
    ("said", "printed", "same"),
    [
        ("a  b", "a b\n", True),
        ("a", "a\nb", False),
        ("a …", "a whatever", True),
        ("a\n…\nc", "a\nb\nb\nc", True),
        ("a\n…\nc", "a\nb", False),
        ("", "a", False),
        ("1.5", "1x5", False),
    ],
)
def test_a_gap_stands_for_anything_and_nothing_else_does(said: str, printed: str, same: bool):
    assert is_printed(said, printed) is same


def test_a_shell_gives_the_status_and_keeps_its_variables(shell: Shell):
    assert shell.run("export WORD=lake; false") == (1, "")
    assert shell.run("echo $WORD") == (0, "lake\n")


def test_a_program_that_raises_did_not_come_to_its_end(shell: Shell):
    shell.start_python()

    assert shell.execute("x = 2\nprint(x)") == (True, "2\n")
    came, printed = shell.execute("print(x)\nraise ValueError('no')")

    assert not came
    assert printed.startswith("2\n")
    assert "ValueError: no" in printed
    assert shell.type("x + 1") == "3\n"
    shell.end_python()


def test_what_is_not_printed_in_time_is_an_error_that_shows_what_was(shell: Shell):
    shell.begin("echo something else; sleep 5")

    with pytest.raises(AssertionError, match="something else"):
        shell.wait_for("ready", seconds=0.5)
    shell.interrupt()
