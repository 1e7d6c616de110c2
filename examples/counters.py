"""Ten counters, each an actor with a state of its own: `python -m examples.counters`."""

import time
from dataclasses import dataclass

import celery_actors as ca
from examples.runner import run


@ca.remote
class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        self.value += 1
        return self.value


@dataclass(frozen=True)
class Counted:
    once_each: list[int]
    one_again: list[int]
    start_s: float
    calls_per_s: float

    def headline(self) -> str:
        return f"10 actors in {self.start_s:.2f} s, then {self.calls_per_s:,.0f} calls/s to one"

    def lines(self) -> list[str]:
        return [
            f"ten counters, a call: {self.once_each}",
            f"the first, five more: {self.one_again}",
            f"ten new actors:       {self.start_s:.2f} s to the last answer",
            f"one actor:            {self.calls_per_s:,.0f} calls/s, a thousand in flight",
        ]

    def missed(self) -> list[str]:
        missed = []
        if self.once_each != [1] * 10:
            missed.append(f"ten new counters should each say 1, but said {self.once_each}")
        if self.one_again != [2, 3, 4, 5, 6]:
            missed.append(f"five more calls should say 2 to 6 in order, but said {self.one_again}")
        return missed


def main() -> Counted:
    started = time.perf_counter()
    counters = [Counter.remote() for _ in range(10)]
    once_each = ca.get([counter.increment.remote() for counter in counters])
    start_s = time.perf_counter() - started

    one_again = ca.get([counters[0].increment.remote() for _ in range(5)])

    started = time.perf_counter()
    ca.get([counters[1].increment.remote() for _ in range(1000)])
    calls_per_s = 1000 / (time.perf_counter() - started)
    return Counted(once_each, one_again, start_s, calls_per_s)


if __name__ == "__main__":
    run(main)
