"""Run the programming model's tests over each broker and count: ``make brokers``.

Valkey, Redis, Redis over TLS, Redis found through a sentinel, and RabbitMQ beside Redis: see
`tests.integration.matrix`. ``--short`` runs a few files over each, so that the matrix cannot rot.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from tests.flake import OTHERS
from tests.reports import cases_of

ROOT = Path(__file__).parents[1]
KINDS = ("valkey", "redis", "tls", "sentinel", "rabbitmq")
RUN_SECONDS = 3600
#: A new file of tests joins by itself.
SUITE = (
    "tests/integration", "-m", "not slow and not gpu",
    *(f"--ignore=tests/integration/test_{name}.py" for name in OTHERS),
)  # fmt: skip
SHORT = tuple(f"tests/integration/test_{name}.py" for name in ("order", "celery", "errors"))


@dataclass(frozen=True)
class Outcome:
    """What one run has found."""

    kind: str
    counts: Counter[str]
    skipped: Counter[str]  # by reason
    failed: list[str]
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether tests passed, and none failed."""
        return not self.failed and self.counts["passed"] > 0

    def line(self) -> str:
        """Return the counts in words."""
        found = [f"{self.counts[word]} {word}" for word in ("passed", "failed", "skipped")]
        if self.counts["elsewhere"]:
            found[0] += f" ({self.counts['elsewhere']} of them on a store of their own)"
        return f"{self.kind:<9} {', '.join(found)}, {self.seconds:.0f} s"


def run_over(kind: str, words: tuple[str, ...]) -> Outcome:
    """Run tests with every cluster of theirs on one kind of broker."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *words]
        status = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "CELERY_ACTORS_TEST_STORE": kind},
            timeout=RUN_SECONDS, check=False,
        ).returncode  # fmt: skip
        cases = list(cases_of(report)) if report.exists() else []
    counts = Counter[str](case.outcome for case in cases)
    skipped = Counter(case.reason for case in cases if case.outcome == "skipped")
    failed = [case.name for case in cases if case.outcome == "failed"]
    served = "properties/property[@name='served'][@value='yes']"
    counts["elsewhere"] = sum(
        case.outcome == "passed" and case.element.find(served) is None for case in cases
    )
    if status not in (0, 1):
        failed.append(f"pytest ended with status {status}")
    return Outcome(kind, counts, skipped, failed, time.monotonic() - began)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
@click.option("--only", type=click.Choice(KINDS), multiple=True, help="Brokers; else all.")
@click.option("--short", is_flag=True, help="Run a few files over each.")
def main(words: tuple[str, ...], only: tuple[str, ...], *, short: bool) -> None:
    """Run the suite over each broker; WORDS are further options of pytest."""
    outcomes = []
    for kind in only or KINDS:
        click.echo(f"over {kind}")
        outcomes.append(run_over(kind, (*(SHORT if short else SUITE), *words)))
    for outcome in outcomes:
        click.echo(outcome.line())
        for reason, count in outcome.skipped.items():
            click.echo(f"  {count} skipped: {reason}")
        for name in outcome.failed:
            click.echo(f"  failed: {name}")
    sys.exit(0 if all(each.is_good for each in outcomes) else 1)


if __name__ == "__main__":
    main()
