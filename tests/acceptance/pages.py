"""Pages of the documentation as programs: their blocks of code, and what runs these for a reader.

A page is read from top to bottom. What a block of code is, is said by its language:

* ``python``: a program. One with ``import celery_actors`` begins a new process; blocks after it go
  on in that process. A ``text`` block behind it is what it prints. Where the first line is a
  comment with a file's name, the block is that file and not a program.
* ``console``: commands behind ``$``, each followed by what it prints, if the page says so. All of a
  page's commands are given to one shell.
* ``sh``: commands alone.
* ``pycon``: statements behind ``>>>``, typed into the Python that a command before has started with
  ``python -i``.

In what is printed ``…`` stands for anything in a line, and alone on a line for any lines; how wide
a gap is does not matter. A comment before a block says what else is to be known of it:

* ``<!-- in another terminal -->``: it goes on until the page ends, and is then ended by Ctrl-C.
* ``<!-- after Ctrl-C -->``: … in the other terminal.
* ``<!-- exit status 1 -->``: that is what its last command says.
* ``<!-- run by: tests/… -->``: that test runs it.
* ``<!-- not run: why -->``
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "Shell", "blocks_of", "commands_of", "file_of", "is_printed", "statements_of"]

#: Blocks that somebody may want to run, and those that are only shown.
CODE = {"python", "pycon", "console", "sh", "bash"}
SHOWN = {"text", "ini", "toml", "yaml", "json", "dockerfile"}
_FENCE = re.compile(r"^( *)(`{3,}|~{3,}|:{3,})(\S*)(.*)$")
_COMMENT = re.compile(
    r"^<!-- (not run|run by|in another terminal|after Ctrl-C|exit status)(?:: | )?(.*?) ?-->$"
)


@dataclass(frozen=True)
class Block:
    """One block of code. ``printed``: what the page says that it prints; None: it does not say."""

    line: int
    language: str
    text: str
    word: str = ""
    reason: str = ""
    printed: str | None = None


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page that are code, in order.

    Raises:
        ValueError: a block is of a language that is neither run nor only shown, or indented.
    """
    found: list[Block] = []
    lines = iter(enumerate(text.splitlines(), start=1))
    before = ""  # the line before
    follows = False  # nothing but "It prints" is between the last block and this line
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            if line.strip():
                before, follows = line, line.startswith("It prints") and follows
            continue
        indent, mark, language, _ = fence.groups()
        if language.startswith("{") or mark[0] == ":":
            if mark[0] != ":":
                _skip(lines, mark)
            follows = False
            continue
        if indent or language not in CODE | SHOWN:
            raise ValueError(f"line {number}: {line!r} is indented, or of no known language")
        body = "".join(f"{each}\n" for each in _skip(lines, mark))
        if language in CODE:
            comment = _COMMENT.match(before)
            found.append(Block(number, language, body, *(comment.groups() if comment else ())))
        elif language == "text" and follows and found[-1].language == "python":
            last = found.pop()
            found.append(Block(last.line, "python", last.text, last.word, last.reason, body))
        before, follows = "", language in CODE
    return found


def _skip(lines: Iterator[tuple[int, str]], mark: str) -> list[str]:
    body = []
    for _, line in lines:
        if line.rstrip() == mark:
            return body
        body.append(line)
    raise ValueError("a block does not end")


def file_of(block: Block) -> str | None:
    """Return the name of the file that a block is, or None."""
    name = re.match(r"# (\S+\.py)\n", block.text)
    return name[1] if name is not None and block.language == "python" else None


def commands_of(block: Block) -> list[tuple[str, str]]:
    """Return each command with what it prints: '' where the page does not say."""
    if block.language != "console":
        lines = block.text.replace("\\\n", " ").splitlines()
        return [(line, "") for line in lines if line.strip() and not line.startswith("#")]
    return _prompted(block.text, "$ ", "> ")


def statements_of(block: Block) -> list[tuple[str, str]]:
    """Return each statement of a session with what it prints."""
    return _prompted(block.text, ">>> ", "... ")


def _prompted(text: str, prompt: str, more: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith(prompt):
            found.append((line.removeprefix(prompt), ""))
            continue
        typed, printed = found[-1]
        if line.startswith(more) and not printed:
            found[-1] = f"{typed}\n{line.removeprefix(more)}", ""
        else:
            found[-1] = typed, f"{printed}{line}\n"
    return found


def is_printed(said: str, printed: str) -> bool:
    """Tell whether what was printed is what a page says."""
    pattern = ""
    for line in _plain(said):
        words = map(re.escape, line.split("…"))
        pattern += "(?:.*\n)*?" if line == "…" else ".*?".join(words) + "\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _plain(printed))) is not None


def _plain(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


class Shell:
    """A terminal: a shell, and the Python that may run in it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env=dict(environment), start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._said = ""
        self._mark = f"=={secrets.token_hex(8)}=="
        self.has_python = False

    def run(self, command: str, seconds: float = 60) -> tuple[int, str]:
        """Run a command; return its exit status and what it printed."""
        self.begin(command)
        return self._end(seconds)

    def begin(self, command: str) -> None:
        """Begin a command that goes on."""
        self._write(f"{{ {command}\n}}; printf '\\n{self._mark} %d\\n' $?\n")

    def _end(self, seconds: float) -> tuple[int, str]:
        printed, status = self._until(rf"\n{self._mark} (\d+)\n", seconds)
        return int(status), printed

    def wait_for(self, said: str, seconds: float = 60) -> None:
        """Wait until a command that goes on has printed this."""
        words = [re.escape(word) for word in said.strip().split("…")]
        self._until("(" + "[^\n]*?".join(words) + ")", seconds)

    def start_python(self, command: str = "python -i -q") -> str:
        """Start a Python that waits for statements; return what it printed until then."""
        self.begin(command)
        self.has_python = True
        return self.type('import sys; sys.ps1 = sys.ps2 = ""').removeprefix(">>> ")

    def type(self, statement: str, seconds: float = 60) -> str:
        """Type a statement into it; return what was printed."""
        end = "\n\n" if "\n" in statement else "\n"
        self._write(f"{statement}{end}print('\\n{self._mark}', flush=True)\n")
        return self._until(rf"\n({self._mark})\n", seconds)[0]

    def execute(self, program: str, seconds: float = 60) -> tuple[bool, str]:
        """Run a program in it; return whether it came to its end, and what was printed."""
        self.type("_came_to_its_end = False")
        source = f"exec(compile({program!r}, 'page', 'exec')); _came_to_its_end = True"
        printed = self.type(source, seconds)
        return "True" in self.type("_came_to_its_end"), printed

    def end_python(self) -> None:
        """Leave Python, as `exit()` does."""
        self._write("exit()\n")
        self._end(60)
        self.has_python = False

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait until what ran has ended."""
        self._tell(signal.SIGINT)
        self._process.communicate(timeout=30)

    def close(self) -> None:
        """Close the terminal; what still runs in it, because something failed, is ended."""
        if self._process.poll() is not None:
            return
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._tell(signal.SIGTERM)
            self._process.communicate(timeout=30)

    def _tell(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def _until(self, pattern: str, seconds: float) -> tuple[str, str]:
        """Read until a pattern is there; return what was before it, and its group."""
        assert self._process.stdout is not None
        until = time.monotonic() + seconds
        while (found := re.search(pattern, self._said)) is None:
            left = max(0, until - time.monotonic())
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            data = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not data:
                why = "it ended" if ready else f"not within {seconds:g} s"
                raise AssertionError(f"{pattern!r} was not printed ({why}), but:\n{self._said}")
            self._said += data.decode(errors="replace")
        before, self._said = self._said[: found.start()], self._said[found.end() :]
        return before, found[1]
