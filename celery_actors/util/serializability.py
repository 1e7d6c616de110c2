"""``inspect_serializability``: which part of an object keeps it from being sent."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TextIO

from ..code import WRAPPED
from ..members import members
from ..pickling import dumps

__all__ = ["FailureTuple", "inspect_serializability"]

_RULE = "=" * 70


@dataclass(frozen=True, slots=True, eq=False)
class FailureTuple:
    """One object that cannot be pickled: compared and hashed by identity.

    Attributes:
        obj: the object.
        name: the variable, attribute or place that holds it.
        parent: the object that holds it; None for the one that was inspected.
    """

    obj: Any
    name: str
    parent: Any

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={self.obj!r}, parent={self.parent!r}])"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Tell whether an object can be sent to a worker; print where it fails.

    Args:
        base_obj: anything: a value, a function, a class, also remote ones.
        name: what the report calls it; None: its own text.
        depth: how many steps to go down into what it holds.
        print_file: where the report goes; None: standard output.

    Returns:
        ``(True, set())``, or ``(False, failures)`` with the innermost parts found to be at fault.
    """
    report = _Report(print_file or sys.stdout)
    title = name or str(base_obj)
    report.say(f"{_RULE}\nChecking Serializability of {base_obj!r}\n{_RULE}")
    inner = getattr(base_obj, WRAPPED, base_obj)
    if not report.walk(inner, title, None, depth, 0) and not report.failures:
        report.failures.add(FailureTuple(inner, title, None))  # only itself is in it to blame
    for failure in report.failures:
        report.say(
            f"{_RULE}\nVariable:\n\n\t{failure!r}\n\nwas found to be non-serializable. There may "
            "be others that were not found.\nCreate it inside the function or class, pass it "
            "another way, or teach this process\nto send it with "
            "celery_actors.util.register_serializer()."
        )
    report.say(_RULE)
    return not report.failures, report.failures


class _Report:
    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._seen: set[int] = set()
        self.failures: set[FailureTuple] = set()

    def say(self, text: str, indent: int = 0) -> None:
        self._file.write("    " * indent + text + "\n")

    def walk(self, value: Any, name: str, parent: Any, depth: int, indent: int) -> bool:
        """Return whether a value can be pickled; if not, find the part that is to blame."""
        try:
            dumps(value)
        except Exception as error:  # noqa: BLE001 - pickling runs the user's own __reduce__
            self.say(f"!!! FAIL serialization of {name!r}: {error}", indent)
        else:
            return True
        if id(value) in self._seen:  # it is being looked at: it holds itself
            return False
        self._seen.add(id(value))
        parts = members(value) if depth > 0 else []
        if parts:
            self.say(f"Detected {len(parts)} parts of {name!r}. Checking each...", indent)
        sound = [self.walk(part.value, part.name, value, depth - 1, indent + 1) for part in parts]
        if all(sound):
            self.failures.add(FailureTuple(value, name, parent))
        return False
