"""Four tasks call one actor without a pause while we read it ten times.

Run it with `python -m examples.parameter_server`.
Sending a call is cheaper than running it, so the four would fill any queue. A caller that is some
thousand calls ahead of an actor is slowed down, so our reads come back soon all the same.
"""

import time
from dataclasses import dataclass

import celery_actors as ca
from examples.runner import run

TASKS = 4
READS = 10
PAUSE_S = 0.25
CHECK_EVERY = 250  # calls between two looks at an earlier answer
PATIENCE_S = 30.0
MOST_AHEAD = 20_000  # calls of one task; without a limit the lead grows as long as it runs
SLOWEST_READ_S = 10.0


@ca.remote
class Counter:
    def __init__(self):
        self.value = 0
        self.counting = True

    def inc(self):
        """Count one; say whether to go on."""
        self.value += 1
        return self.counting

    def read(self):
        return self.value

    def stop(self):
        self.counting = False


@ca.remote(num_cpus=0.5)
def count(counter):
    """Call the counter in an endless loop; return how many calls, and the most of them unanswered.

    Nearly every answer is dropped unread. One call at a time is watched, without waiting for it:
    it says whether to go on, and the calls sent since it was are this task's lead.
    """
    sent = watched_at = 1
    watched = counter.inc.remote()
    most_ahead = 0
    while True:
        counter.inc.remote()
        sent += 1
        if sent % CHECK_EVERY == 0:
            most_ahead = max(most_ahead, sent - watched_at)
            answered, _ = ca.wait([watched], timeout=0)
            if answered:
                if not ca.get(watched):
                    break
                watched = counter.inc.remote()
                sent += 1
                watched_at = sent
    ca.get(counter.read.remote())  # runs after all our calls, so they have all been counted
    return sent, most_ahead


@dataclass(frozen=True)
class Counted:
    reads: list[int]
    slowest_read_s: float
    calls_per_s: float
    sent: list[int]  # calls of each task
    most_ahead: list[int]  # the most unanswered calls of each task
    stop_s: float
    counted: int

    def headline(self) -> str:
        return (
            f"{self.calls_per_s:,.0f} calls/s from {TASKS} tasks, "
            f"slowest read {self.slowest_read_s:.2f} s"
        )

    def lines(self) -> list[str]:
        return [
            f"ten reads:            {', '.join(f'{value:,}' for value in self.reads)}",
            f"slowest read:         {self.slowest_read_s:.2f} s, behind the calls of {TASKS} tasks",
            f"meanwhile:            {self.calls_per_s:,.0f} calls/s counted",
            f"most calls ahead:     {', '.join(f'{value:,}' for value in self.most_ahead)}",
            f"clean stop:           {self.stop_s:.2f} s",
            f"calls in all:         {sum(self.sent):,} sent, {self.counted:,} counted",
        ]

    def missed(self) -> list[str]:
        missed = []
        if self.reads != sorted(self.reads) or self.reads[0] >= self.reads[-1]:
            missed.append(f"the ten reads should grow and never shrink, but: {self.reads}")
        if self.slowest_read_s > SLOWEST_READ_S:
            missed.append(f"a read took {self.slowest_read_s:.1f} s, over {SLOWEST_READ_S:.0f} s")
        if max(self.most_ahead) > MOST_AHEAD:
            missed.append(f"a task was {max(self.most_ahead):,} calls ahead, over {MOST_AHEAD:,}")
        if self.counted != sum(self.sent):
            missed.append(f"{sum(self.sent):,} calls were sent, but {self.counted:,} counted")
        return missed


def main() -> Counted:
    counter = Counter.remote()
    tasks = [count.remote(counter) for _ in range(TASKS)]
    try:
        return read_and_stop(counter, tasks)
    finally:
        ca.kill(counter)  # after a failure above, this ends the tasks: the call they watch fails


def read_and_stop(counter, tasks) -> Counted:
    deadline = time.monotonic() + PATIENCE_S
    while ca.get(counter.read.remote(), timeout=PATIENCE_S) < CHECK_EVERY * TASKS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the tasks did not begin to count within {PATIENCE_S:.0f} s")
        time.sleep(0.05)

    reads, waits = [], []
    started = time.perf_counter()
    for _ in range(READS):
        time.sleep(PAUSE_S)
        asked = time.perf_counter()
        reads.append(ca.get(counter.read.remote(), timeout=PATIENCE_S))
        waits.append(time.perf_counter() - asked)
    calls_per_s = (reads[-1] - reads[0]) / (time.perf_counter() - started - PAUSE_S - waits[0])

    asked = time.perf_counter()
    counter.stop.remote()
    ended = ca.get(tasks, timeout=PATIENCE_S)
    counted = ca.get(counter.read.remote(), timeout=PATIENCE_S)
    stop_s = time.perf_counter() - asked
    sent, most_ahead = ([row[i] for row in ended] for i in (0, 1))
    return Counted(reads, max(waits), calls_per_s, sent, most_ahead, stop_s, counted)


if __name__ == "__main__":
    run(main)
