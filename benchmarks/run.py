"""Measure celery_actors beside Ray, plain Celery, Dask actors and xoscar, in one run.

Systems take turns: in each round every system is started alone, measured and stopped, and the
order moves on by one each round. Stopping was preferred to keeping all of them up, because idle
Ray and Dask processes go on using the processor and the memory that the others are measured on,
and because every start is a fresh sample of `init()`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, report
from benchmarks.environments import InstallError, interpreter
from benchmarks.measures import BY_NAME as MEASURE_NAMES
from benchmarks.measures import MEASURES
from benchmarks.results import Results
from benchmarks.session import ROOT, Session, SessionError
from benchmarks.systems import BY_NAME as SYSTEM_NAMES
from benchmarks.systems import SYSTEMS, System

LOGS = Path(__file__).parent / ".logs"
ANSWER_TIMEOUT_SECONDS = 600  # Ray creates two hundred actors in some minutes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = parse(arguments)
    before = machine.describe()
    pythons = prepare(options)
    results = Results()
    order = list(pythons)
    try:
        for number in range(options.rounds):
            turn = number % max(1, len(order))
            for system in [*order[turn:], *order[:turn]]:
                print(f"round {number + 1}/{options.rounds}: {system.name}", flush=True)
                if not visit(system, pythons[system], options, results):
                    order.remove(system)
    except KeyboardInterrupt:
        print("interrupted: no report is written", file=sys.stderr)
        return 130
    print("\n" + report.terminal(results))
    if options.output:
        run = {"rounds": options.rounds, "seconds": options.seconds, "actors": options.count}
        report.write(options.output, results, {**before, "load_after": machine.load()}, run)
        print(f"\nwritten: benchmarks.md, benchmarks.json, benchmarks.svg in {options.output}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options; a part of a run is printed and not written, so it replaces no report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", metavar="SYSTEM,...", help=f"of {', '.join(SYSTEM_NAMES)}")
    parser.add_argument("--measures", metavar="NAME,...", help=f"of {', '.join(MEASURE_NAMES)}")
    parser.add_argument("--rounds", type=int, help="turns of each system (5)")
    parser.add_argument("--seconds", type=float, help="how long each kind of call is made (2)")
    parser.add_argument("--count", type=int, help="actors created at once (20)")
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where to write (docs)")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="SYSTEM=FOLDER",
        help="use an environment that exists instead of installing one",
    )
    options = parser.parse_args(arguments)
    partial = options.only or options.measures or options.quick
    options.only = names(parser, options.only, list(SYSTEM_NAMES))
    options.measures = names(parser, options.measures, list(MEASURE_NAMES))
    if any("=" not in item for item in options.env):
        parser.error("--env takes SYSTEM=FOLDER")
    options.env = dict(item.split("=", 1) for item in options.env)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.5 if options.quick else 2.0)
    options.count = options.count or (4 if options.quick else 20)
    options.output = options.output or (None if partial else ROOT / "docs")
    return options


def names(parser: argparse.ArgumentParser, text: str | None, known: list[str]) -> list[str]:
    """Split a list of names and refuse those that nobody knows."""
    chosen = text.split(",") if text else known
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    return chosen


def prepare(options: argparse.Namespace) -> dict[System, Path]:
    """Find or install the environment of each chosen system; skip those that cannot be had."""
    pythons = {}
    for system in SYSTEMS:
        if system.name not in options.only:
            continue
        if folder := options.env.get(system.name):
            pythons[system] = Path(folder).absolute() / "bin" / "python"
            continue
        try:
            pythons[system] = interpreter(system)
        except InstallError as error:
            print(f"{system.name} is skipped, its installation failed: {error}")
    return pythons


def visit(system: System, python: Path, options: argparse.Namespace, results: Results) -> bool:
    """Give one system its turn in a round; return whether it can have another."""
    LOGS.mkdir(exist_ok=True)
    log_path = LOGS / f"{system.name}.log"
    try:
        with (
            log_path.open("w") as log,
            Session(python, system.driver, system.arguments, log) as session,
        ):
            results.versions[system.name] = session.greeting["version"]
            for measure in MEASURES:
                if measure.name in options.measures and system.has(measure.name):
                    take(system, measure.name, session, options, results)
    except SessionError as error:
        print(f"{system.name} is left out from here on: {error}. What it wrote last:")
        print(*log_path.read_text(errors="replace").splitlines()[-15:], sep="\n")
        return False
    return True


def take(
    system: System, measure: str, session: Session, options: argparse.Namespace, results: Results
) -> None:
    """Take one measure of a system that is up, and note why where it has none."""
    if MEASURE_NAMES[measure].at_start:
        reply = {"value": session.greeting[measure]}
    else:
        request = {"measure": measure, "seconds": options.seconds, "count": options.count}
        reply = session.ask(request, ANSWER_TIMEOUT_SECONDS)
    if "value" in reply:
        results.add(system.name, measure, reply["value"])
        print(f"  {measure} {reply['value']:,.3g} {MEASURE_NAMES[measure].unit}", flush=True)
    elif "missing" in reply:
        results.missing[system.name][measure] = reply["missing"]
    else:
        print(f"  {measure} failed:\n{reply['error']}")


if __name__ == "__main__":
    sys.exit(main())
