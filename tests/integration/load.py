"""Work under way while something is done to the store: every call must run once, in its order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import celery_actors as ca
from tests.integration.support import wait_until

#: Calls that a caller has under way at once.
CHUNK = 20


@ca.remote
class Journal:
    """Writes down each call that runs; shared between processes, a line at a time."""

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, word: str) -> str:
        return note(self.path, word)


@ca.remote
def write(path: str, word: str) -> str:
    """Write down a call of a function."""
    return note(path, word)


def note(path: str, word: str) -> str:
    with Path(path).open("a") as file:
        file.write(f"{word}\n")
    return word


class Load:
    """Callers in threads of their own, to an actor, an overlapping one, and a function."""

    def __init__(self, folder: Path, calls: int, **options: Any) -> None:
        self._folder = folder
        self._calls = calls
        self.failed: list[BaseException] = []
        self._done = 0
        self._lock = threading.Lock()
        self.paths = {kind: folder / kind for kind in ("ordered", "overlapping", "functions")}
        ordered = Journal.options(max_restarts=-1, **options).remote(str(self.paths["ordered"]))
        overlapping = Journal.options(max_restarts=-1, max_concurrency=4, **options).remote(
            str(self.paths["overlapping"])
        )
        functions = str(self.paths["functions"])
        self._send: dict[str, Any] = {
            "ordered": ordered.write.remote, "overlapping": overlapping.write.remote,
            "functions": lambda word: write.remote(functions, word),
        }  # fmt: skip
        ca.get([actor.__ray_ready__.remote() for actor in (ordered, overlapping)], timeout=30)
        self.threads = [
            threading.Thread(target=self._call, args=(kind, who), name=f"{kind}-{who}")
            for kind in self._send for who in range(2)
        ]  # fmt: skip
        self.total = len(self.threads) * calls

    def _call(self, kind: str, who: int) -> None:
        try:
            for start in range(0, self._calls, CHUNK):
                words = [f"{who}.{number}" for number in range(start, start + CHUNK)]
                found = ca.get([self._send[kind](word) for word in words], timeout=100)
                assert found == words
                with self._lock:
                    self._done += len(words)
        except BaseException as error:  # noqa: BLE001 - shown by the test, not by a thread
            self.failed.append(error)

    def wait_done(self, calls: int) -> None:
        """Wait until so many calls have their results."""
        wait_until(lambda: self._done >= calls or self.failed, f"{calls} calls are done", 100)
        assert not self.failed, self.failed

    def check(self) -> None:
        """See to it that each call has run once, those of one caller in order."""
        assert not self.failed, self.failed
        for kind, path in self.paths.items():
            words = path.read_text().split()
            wanted = [f"{who}.{number}" for who in range(2) for number in range(self._calls)]
            assert sorted(words) == sorted(wanted), f"{kind}: lost or doubled"
            if kind == "ordered":
                for who in range(2):
                    mine = [int(word.split(".")[1]) for word in words if word.startswith(f"{who}.")]
                    assert mine == sorted(mine), f"{kind}: out of order"


@contextmanager
def under_load(folder: Path, calls: int = 400, **options: Any) -> Iterator[Load]:
    """Run a load around what a test does; on leaving, wait for it and check it."""
    load = Load(folder, calls, **options)
    for thread in load.threads:
        thread.start()
    try:
        yield load
    finally:
        for thread in load.threads:
            thread.join(100)
    load.check()
