"""All the classic programs in one run, with a short report: `python -m examples.demo`."""

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import celery_actors as ca
from examples import async_training, counters, environments, neural_net, parameter_server
from examples.runner import CPUS, Result

PROGRAMS: Mapping[str, Callable[[], Result]] = {
    "counters": counters.main,
    "environments": environments.main,
    "neural network": neural_net.main,
    "parameter server": parameter_server.main,
    "asynchronous training": async_training.main,
}


@dataclass(frozen=True)
class Outcome:
    name: str
    seconds: float
    headline: str
    met: bool


def run_program(name: str, main: Callable[[], Result]) -> Outcome:
    """Run one program, print its report, and say whether it did what it should."""
    print(f"\n{name}\n{'-' * len(name)}", flush=True)
    started = time.perf_counter()
    try:
        result = main()
    except Exception as error:  # noqa: BLE001  (one program's failure must not hide the others)
        traceback.print_exc()
        return Outcome(name, time.perf_counter() - started, f"failed: {error!r}", met=False)
    seconds = time.perf_counter() - started
    print("\n".join(result.lines()))
    missed = result.missed()
    for expectation in missed:
        print(f"MISSED: {expectation}")
    return Outcome(name, seconds, result.headline(), met=not missed)


def summarise(outcomes: list[Outcome]) -> int:
    """Print a row for each program; return the exit status."""
    print("\nsummary\n-------")
    for outcome in outcomes:
        mark = "ok" if outcome.met else "MISSED"
        # An exception's text may span lines; the first one is enough for a table.
        headline = outcome.headline.splitlines()[0]
        print(f"{mark:6}  {outcome.name:21}  {outcome.seconds:5.1f} s  {headline}")
    met = sum(outcome.met for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    print(f"{met} of {len(outcomes)} programs did what they should, in {seconds:.1f} s", flush=True)
    return 0 if met == len(outcomes) else 1


def main() -> int:
    started = time.perf_counter()
    ca.init(num_cpus=CPUS)
    print(f"celery_actors started in {time.perf_counter() - started:.2f} s")
    try:
        outcomes = [run_program(name, program) for name, program in PROGRAMS.items()]
    finally:
        ca.shutdown()
    return summarise(outcomes)


if __name__ == "__main__":
    sys.exit(main())
