"""Gates: how a test holds a running method and lets it go, without a clock."""

from __future__ import annotations

from pathlib import Path

from tests.integration.support import wait_until


class Gate:
    """A pair of files: the method says that it is here, the test says go."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self.path = str(folder / name)

    def pids(self) -> list[int]:
        """Return the processes that have come to the gate, in order."""
        here = Path(f"{self.path}.at")
        return [int(word) for word in here.read_text().split()] if here.exists() else []

    def wait_reached(self, times: int = 1) -> int:
        """Wait until a method stands at the gate; return its process."""
        wait_until(lambda: len(self.pids()) >= times, f"visit {times} to {self.path}")
        return self.pids()[times - 1]

    def open(self) -> None:
        """Let everybody through."""
        Path(f"{self.path}.open").touch()
