"""Asynchronous training with a parameter server: `python -m examples.async_training`.

Four tasks pull the weights from an actor, work out gradients on their own batches and push them
back. None waits for another, so a gradient may belong to weights a few versions old.
"""

import time
from dataclasses import dataclass

import numpy as np

import celery_actors as ca
from examples.mnist import Momentum, accuracy, load_digits, loss_and_gradients, new_weights
from examples.runner import run

WORKERS, STEPS_PER_WORKER = 4, 120
EXPECTED = 0.85
PATIENCE_S = 60.0


@ca.remote
class ParameterServer:
    def __init__(self, digits):
        self.digits = digits
        self.optimiser = Momentum(new_weights(), rate=0.05, momentum=0.5)
        self.version = 0
        self.versions_late = 0

    def pull(self):
        return self.version, self.optimiser.weights

    def push(self, version, gradients):
        """Apply gradients that were worked out on the weights of that version."""
        self.versions_late += self.version - version
        self.optimiser.step(gradients)
        self.version += 1

    def progress(self):
        """Return the steps so far, how late their gradients were in all, held-out accuracy."""
        right = accuracy(self.optimiser.weights, self.digits.test_images, self.digits.test_labels)
        return self.version, self.versions_late, right


@ca.remote(num_cpus=0.5)
def work(server, digits, seed):
    """Pull, learn, push; return when the last push has been applied."""
    random = np.random.default_rng(seed)
    pushed = None
    for _ in range(STEPS_PER_WORKER):
        version, weights = ca.get(server.pull.remote())
        _, gradients = loss_and_gradients(weights, *digits.batch(random))
        pushed = server.push.remote(version, gradients)
    ca.get(pushed)


@dataclass(frozen=True)
class Trained:
    steps: int
    seconds: float
    versions_late: float  # mean over the steps
    curve: list[tuple[int, float]]  # steps so far, accuracy on held-out digits

    @property
    def accuracy(self) -> float:
        return self.curve[-1][1]

    def headline(self) -> str:
        return f"{self.accuracy:.1%} after {self.steps} steps of {WORKERS} tasks"

    def lines(self) -> list[str]:
        shown = ", ".join(f"{right:.0%} at step {steps}" for steps, right in self.curve)
        return [
            f"training:             {self.steps} steps by {WORKERS} tasks in {self.seconds:.1f} s",
            f"gradients late by:    {self.versions_late:.1f} versions on average",
            f"held-out digits:      {shown} right",
            f"accuracy at the end:  {self.accuracy:.1%} of 1,000",
        ]

    def missed(self) -> list[str]:
        missed = []
        if self.steps != WORKERS * STEPS_PER_WORKER:
            missed.append(f"{WORKERS * STEPS_PER_WORKER} pushes were sent, {self.steps} applied")
        if self.accuracy <= EXPECTED:
            missed.append(f"training should reach {EXPECTED:.0%}, but got {self.accuracy:.1%}")
        return missed


def main() -> Trained:
    started = time.perf_counter()
    digits = ca.put(load_digits())
    server = ParameterServer.remote(digits)
    running = [work.remote(server, digits, seed) for seed in range(WORKERS)]
    curve = []
    while running:
        done, running = ca.wait(running, num_returns=len(running), timeout=1.0)
        ca.get(done)  # a worker that failed says so here
        steps, versions_late, right = ca.get(server.progress.remote(), timeout=PATIENCE_S)
        curve.append((steps, right))
    return Trained(steps, time.perf_counter() - started, versions_late / steps, curve)


if __name__ == "__main__":
    run(main)
