"""Run the semantics suite again and again, each time in another order: ``make flake N=50``.

A run that fails ends nothing. The last lines tell how many runs passed, and for each other run its
seed, the tests that failed and where its whole output is. ``JOBS=2`` keeps two runs going at a
time: each has a shared memory and a temporary folder of its own (``tests/conftest.py``), and the
load of the other one is what finds a race.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import click

from tests.reports import cases_of

ROOT = Path(__file__).parents[1]
LOGS = ROOT / ".pytest_cache" / "flake"
RUN_SECONDS = 3600

#: Integration tests of something else than the programming model: Celery's verbs, the command line
#: and Flower; what nodes have and give, durable actors, a store in trouble, dying nodes. The chaos
#: and stress runs repeat the latter.
OTHERS = (
    "celery", "cli_acts", "cli_looks", "crash_points", "cut_off_nodes", "deployments", "devices",
    "devices_under_stress", "durable", "durable_nodes", "fairness", "fairness_nodes", "flower",
    "flower_pages", "full_store", "gpu_queues", "infeasible", "ingress", "journal", "lost_nodes",
    "node_ends", "otel", "passive", "passive_nodes", "placement_groups", "prefix", "rabbitmq",
    "real_gpus", "reminders",
    "resource_nodes", "resources", "rollback", "scheduling", "sentinels", "state_versions",
    "store_away", "store_trouble", "tls", "tls_refused",
)  # fmt: skip
#: What the programming model promises, on the embedded server: a new file of tests joins by itself.
SUITE = [
    "tests/integration", "-m", "not debian_redis and not slow and not gpu",
    *(f"--ignore=tests/integration/test_{name}.py" for name in OTHERS),
]  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run of the suite."""

    seed: int
    passed: bool
    failed: list[str]
    tests: int
    seconds: float
    log: Path


def run_suite(seed: int, words: tuple[str, ...]) -> Run:
    """Run the suite once in the order of a seed; keep the output of a run that fails."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{seed}.log"
    # Without pytest's cache: runs side by side would write the same files.
    order = ["-p", "no:cacheprovider", f"--randomly-seed={seed}"]
    command = [sys.executable, "-m", "pytest", *SUITE, *order, *words]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as output:
        report = Path(folder) / "report.xml"
        command.append(f"--junit-xml={report}")
        try:
            status = subprocess.run(
                command, cwd=ROOT, stdout=output, stderr=output, timeout=RUN_SECONDS, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
        cases = list(cases_of(report)) if report.exists() else []
        failed = [case.name for case in cases if case.outcome == "failed"]
        if not report.exists():
            failed = ["the run did not end"]
    if status == 0:
        log.unlink()
    return Run(seed, status == 0, failed, len(cases), time.monotonic() - began, log)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("times", type=click.IntRange(min=1))
@click.argument("words", nargs=-1)
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Runs at a time.")
def main(times: int, words: tuple[str, ...], jobs: int) -> None:
    """Run the semantics suite TIMES times; WORDS are further options of pytest."""
    runs = []
    pool = ThreadPoolExecutor(jobs)
    try:
        seeds = [random.randrange(2**32) for _ in range(times)]
        started = [pool.submit(run_suite, seed, words) for seed in seeds]
        for number, ended in enumerate(as_completed(started), 1):
            run = ended.result()
            runs.append(run)
            outcome = f"{run.tests} tests, {len(run.failed)} failed, {run.seconds:.0f} s"
            click.echo(f"run {number} of {times}, seed {run.seed}: {outcome}")
            for name in run.failed:
                click.echo(f"  {name}")
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C: what has not begun does not begin
    bad = [run for run in runs if not run.passed]
    click.echo(f"{times - len(bad)} of {times} runs passed")
    for run in bad:
        click.echo(f"  seed {run.seed}: {', '.join(run.failed) or 'see the output'} ({run.log})")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
