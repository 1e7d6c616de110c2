"""Run one example as a program: a short report, or with `--json` its figures."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

import celery_actors as ca

CPUS = 4  # slots, not cores: the four counting tasks and an actor fit on a small machine


class Result(Protocol):
    """What an example measured: a frozen dataclass of plain values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def headline(self) -> str:
        """Say the main figure in one line."""

    def lines(self) -> list[str]:
        """Report the figures, a line each."""

    def missed(self) -> list[str]:
        """Name each expectation that the figures do not meet."""


def run(main: Callable[[], Result], num_gpus: int | None = None) -> None:
    """Run `main` on a cluster of its own, print its result, exit with 1 if it missed something."""
    ca.init(num_cpus=CPUS, num_gpus=num_gpus)
    try:
        result = main()
    finally:
        ca.shutdown()
    if "--json" in sys.argv[1:]:
        print(json.dumps(asdict(result)))
    else:
        print("\n".join(result.lines()))
    missed = result.missed()
    for expectation in missed:
        print(f"missed: {expectation}", file=sys.stderr)
    sys.exit(1 if missed else 0)
